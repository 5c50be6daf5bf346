//! `kstamp hub` as a command: its server, its state, and enrolment beside it. Without a nats-server (`KSTAMP_NATS_SERVER`, or in
//! PATH) these tests print `SKIPPED` and pass.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../probe-hub/tests/support/address.rs"]
mod address;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe_hub::credentials::Credentials;
use serde_json::Value;
use tempfile::TempDir;

const KSTAMP: &str = env!("CARGO_BIN_EXE_kstamp");
/// Longest wait of a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

struct Place {
    directory: TempDir,
    nats: PathBuf,
    port: u16,
}

impl Place {
    fn new() -> Option<Self> {
        let named = std::env::var_os("KSTAMP_NATS_SERVER").map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = named.or_else(|| {
            std::env::split_paths(&path)
                .map(|path| path.join("nats-server"))
                .find(|path| path.is_file())
        });
        let Some(nats) = found else {
            println!("SKIPPED: needs a NATS server in KSTAMP_NATS_SERVER or PATH");
            return None;
        };
        Some(Self {
            directory: tempfile::tempdir().unwrap(),
            nats,
            port: address::free_address().port(),
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `kstamp hub` with the state directory `state`, without configuration files and environment.
    fn command(&self, arguments: &str, state: &str) -> Command {
        let mut command = Command::new(KSTAMP);
        command
            .env_clear()
            .env("PATH", "/nonexistent")
            .args(["hub", "--config", "none", "--state"]);
        command.arg(self.file(state)).args(arguments.split_whitespace());
        command
    }

    fn run(&self, arguments: &str, state: &str) -> Output {
        self.command(arguments, state).output().unwrap()
    }

    fn flags(&self) -> String {
        format!(
            "--nats-server {} --nats-listen 127.0.0.1:{} --address 127.0.0.1 --listen none --format jsonl",
            self.nats.display(),
            self.port
        )
    }

    fn start(&self) -> Running {
        let out = self.file("out");
        let child = self
            .command(&self.flags(), "state")
            .stdout(fs::File::create(&out).unwrap())
            .stderr(Stdio::piped())
            .spawn();
        let running = Running {
            child: child.unwrap(),
            out,
        };
        running.await_record("start", "");
        running
    }

    /// Processes of servers with a configuration in this place.
    fn servers(&self) -> usize {
        let here = self.directory.path().to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.map(|process| fs::read(process.path().join("cmdline")).unwrap_or_default());
        lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .filter(|line| line.contains("nats.conf") && line.contains(here))
            .count()
    }
}

struct Running {
    child: Child,
    out: PathBuf,
}

impl Running {
    /// The record of this type whose line contains `text`.
    fn await_record(&self, kind: &str, text: &str) -> Value {
        let begin = Instant::now();
        loop {
            let lines = fs::read_to_string(&self.out).unwrap();
            let records = lines
                .lines()
                .filter(|line| line.contains(text))
                .map(|line| serde_json::from_str::<Value>(line).unwrap());
            if let Some(record) = records.into_iter().find(|record| record["type"] == kind) {
                return record;
            }
            assert!(begin.elapsed() < TEST_TIMEOUT, "no {kind} with '{text}': {lines}");
            sleep(Duration::from_millis(50));
        }
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn hosts_are_enrolled_beside_a_hub_that_runs() {
    let Some(place) = Place::new() else { return };
    let hub = place.start();
    let start = hub.await_record("start", "");
    let url = format!("tls://127.0.0.1:{}", place.port);
    assert_eq!(
        (&start["servers"][0], &start["hosts"]),
        (&url.as_str().into(), &0.into())
    );

    // The address of the hub is kept. The certificate is that of this year.
    let output = place.run("enroll h1 --prefix 10.1.0.0/16", "state");
    assert!(
        output.status.success() && line(&output).contains("valid until the end of 20"),
        "{output:?}"
    );
    let credentials = Credentials::read(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(credentials.servers, [url]);
    assert!(hub.await_record("event", "h1")["event"] == "enrolled");

    let file = place.file("h2.toml");
    let enroll = format!("enroll h2 --prefix 10.2.0.0/16 --output {}", file.display());
    let output = place.run(&enroll, "state");
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(mode(&file), 0o600);
    assert_eq!(
        Credentials::read(&fs::read_to_string(&file).unwrap())
            .unwrap()
            .name
            .as_str(),
        "h2"
    );
    // A file that is there is not overwritten, and nobody is enrolled.
    let refused = place.run(&enroll.replace("enroll h2", "enroll h3"), "state");
    assert_eq!(refused.status.code(), Some(1));
    assert!(line(&refused).contains("h2.toml is there already"));
    assert!(line(&place.run("revoke h3", "state")).contains("not enrolled"));

    let twice = place.run("enroll h1 --prefix 10.1.0.0/16", "state");
    assert!(twice.status.code() == Some(1) && line(&twice).contains("--replace"));
    assert!(place.run("revoke h1", "state").status.success());
    hub.await_record("event", "\"revoked\"");
    assert_eq!(hub.end(Signal::SIGTERM), Some(0));
    assert_eq!(place.servers(), 0);
}

#[test]
fn a_failed_start_is_one_line_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let hub = place.start();
    let flags = place.flags();
    for (arguments, state, names) in [
        (flags.clone(), "state", "another `kstamp hub`"),
        (flags.clone(), "other", "--nats-listen"),
        (
            flags.replace(place.nats.to_str().unwrap(), "/nonexistent"),
            "other",
            "/nonexistent",
        ),
        ("--listen none".to_owned(), "other", "--nats-server"),
    ] {
        let output = place.run(&arguments, state);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert!(line(&output).contains(names), "{output:?}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(place.servers(), 1);
    // A hub that is killed takes its server with it, and another one starts at once.
    hub.end(Signal::SIGKILL);
    let begin = Instant::now();
    while place.servers() > 0 {
        assert!(begin.elapsed() < TEST_TIMEOUT);
        sleep(Duration::from_millis(50));
    }
    let again = place.start();
    assert_eq!(again.end(Signal::SIGINT), Some(0));
    assert_eq!(place.servers(), 0);
}

/// A second hub, which imports the state of the first one, uses the server of the first one. It says what the user has to do for
/// servers of their own.
#[test]
fn a_hub_can_use_the_servers_of_the_user() {
    let Some(place) = Place::new() else { return };
    let hub = place.start();
    assert!(line(&place.run("export", "copy")).contains("no hub has its state in"));
    let file = place.file("export.toml");
    let export = place.run(&format!("export -o {}", file.display()), "state");
    assert!(export.status.success() && export.stdout.is_empty(), "{export:?}");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(place.run("export", "state").stdout, fs::read(&file).unwrap());
    let import = place
        .command("import -", "copy")
        .stdin(fs::File::open(&file).unwrap())
        .output();
    assert!(line(&import.unwrap()).contains("0 names enrolled"));
    let nats = format!("--nats tls://127.0.0.1:{}", place.port);
    let second = place.run(
        &format!("{nats} --name second --listen none --duration 2s --format jsonl"),
        "copy",
    );
    assert!(second.status.success(), "{second:?}");
    let start: Value = serde_json::from_slice(second.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(
        (&start["name"], &start["nats_server"]),
        (&"second".into(), &Value::Null)
    );
    assert_eq!(place.servers(), 1);
    let output = place.run(&format!("{nats} enroll h1 --prefix 10.1.0.0/16"), "copy");
    let lines = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && lines.contains("accounts.conf"), "{lines}");
    drop(hub);
}
