//! `kstamp top` on a terminal: what it shows, and that it gives the terminal back however it ends.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use probe_user::command::top::screen::Screen;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::http::ADDRESS;
use support::{KSTAMP, Pair, Running, ip};
use tempfile::TempDir;

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

/// A program on a terminal of 80 × 24, whose output is collected.
struct OnTerminal {
    child: Child,
    keys: File,
    slave: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = openpty(&size, None).unwrap();
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        command
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR");
        let child = command.spawn().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let mut master = File::from(terminal.master.try_clone().unwrap());
        let collected = Arc::clone(&shown);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut chunk) {
                collected.lock().unwrap().extend_from_slice(&chunk[..length]);
            }
        });
        Self {
            child,
            keys: terminal.master.into(),
            slave: terminal.slave,
            shown,
        }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn await_text(&self, text: &str) {
        self.await_shown(text, |shown| shown.contains(text));
    }

    fn await_shown(&self, what: &str, wanted: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !wanted(&self.shown()) {
            assert!(Instant::now() < end, "no {what:?}: {:?}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for the end, and for the terminal to be as before. Returns the exit code and what came after the screen.
    fn ended(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + Duration::from_secs(20);
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < end, "it did not end: {:?}", self.shown());
            thread::sleep(Duration::from_millis(20));
        };
        self.await_text(LEAVE);
        let flags = tcgetattr(self.slave.as_fd()).unwrap().local_flags;
        let wanted = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
        assert!(flags.contains(wanted), "{flags:?}");
        thread::sleep(Duration::from_millis(100));
        let shown = self.shown();
        assert_eq!(shown.matches(ENTER).count(), 1);
        assert!(shown.contains(SHOW_CURSOR));
        let (_, after) = shown.split_once(LEAVE).unwrap();
        (code, after.to_owned())
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn top(pair: &Pair, arguments: &str) -> OnTerminal {
    let line = format!(
        "ip netns exec {} env --default-signal=HUP {KSTAMP} top {arguments}",
        pair.near
    );
    OnTerminal::start(support::command(&line))
}

/// The agents that run in the namespace.
fn agents(pair: &Pair) -> Vec<i32> {
    let pids = support::run(&format!("ip netns pids {}", pair.near));
    let is_agent = |pid: &&str| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains("\0agent\0")
    };
    pids.lines().filter(is_agent).map(|pid| pid.parse().unwrap()).collect()
}

fn await_no_agent(pair: &Pair) {
    let end = Instant::now() + Duration::from_secs(10);
    while !agents(pair).is_empty() {
        assert!(Instant::now() < end, "the agent runs on");
        thread::sleep(Duration::from_millis(20));
    }
}

const AGENT: &str = "--iface port1 --family v4 --interval 50ms --report 300ms --timeout 200ms";

/// A way to end it, and what does so.
type End<'a> = (&'a str, &'a dyn Fn(&mut OnTerminal));

#[test]
fn the_terminal_is_restored_however_it_ends() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.started(&pair.far, "agent --iface port2 --name far --interval 50ms");
    let ends: [End<'_>; 5] = [
        ("q", &|top| top.press("q")),
        ("Ctrl-C", &|top| top.press("\x03")),
        ("SIGTERM", &|top| top.signal(Signal::SIGTERM)),
        ("SIGINT", &|top| top.signal(Signal::SIGINT)),
        ("SIGHUP", &|top| top.signal(Signal::SIGHUP)),
    ];
    for (what, end) in ends {
        let mut top = top(&pair, AGENT);
        top.await_text("far");
        end(&mut top);
        let (code, after) = top.ended();
        assert_eq!(code, Some(0), "{what}: {after}");
        assert!(
            after.contains("Summary of ") && after.contains("10.1.1.6"),
            "{what}: {after}"
        );
        await_no_agent(&pair);
    }
    // The interface stays free of programs, so that the next one starts.
    let top = top(&pair, &format!("{AGENT} --duration 1s"));
    let (code, after) = top.ended();
    assert_eq!(code, Some(0), "{after}");
    assert!(after.contains("Summary of "), "{after}");
}

#[test]
fn a_panic_while_drawing_restores_the_terminal_and_is_shown() {
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test);
    command.args(["--ignored", "--exact", "--nocapture", "panics_while_drawing"]);
    let (code, after) = OnTerminal::start(command).ended();
    assert_eq!(code, Some(101), "{after}");
    assert!(after.contains("drawn wrong"), "{after}");
}

#[test]
#[ignore = "needs a terminal, which the test above has"]
fn panics_while_drawing() {
    let mut screen = Screen::open().unwrap();
    screen.draw(|_| panic!("drawn wrong")).unwrap();
}

#[test]
fn an_agent_that_fails_leaves_its_line_and_its_code() {
    let Some(pair) = Pair::new() else { return };
    let killed = top(&pair, AGENT);
    killed.await_text(ENTER);
    for pid in agents(&pair) {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    let (code, after) = killed.ended();
    assert_eq!(code, Some(1), "{after}");
    assert!(after.contains("kstamp: the agent failed: signal: 9"), "{after}");

    // What fails before there is anything to show leaves the terminal alone.
    let mut failed = top(&pair, "--iface nowhere");
    let end = Instant::now() + Duration::from_secs(10);
    let code = loop {
        if let Some(status) = failed.child.try_wait().unwrap() {
            break status.code();
        }
        assert!(Instant::now() < end);
        thread::sleep(Duration::from_millis(20));
    };
    failed.await_text("nowhere");
    assert_eq!(code, Some(1));
    assert!(!failed.shown().contains(ENTER), "{:?}", failed.shown());
    assert_eq!(failed.shown().matches("kstamp: ").count(), 1, "{:?}", failed.shown());
}

#[test]
fn an_agent_that_does_not_end_is_killed() {
    let Some(pair) = Pair::new() else { return };
    let mut top = top(&pair, AGENT);
    top.await_text(ENTER);
    for pid in agents(&pair) {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    top.press("q");
    let (code, after) = top.ended();
    assert_eq!(code, Some(1), "{after}");
    assert!(
        after.contains("kstamp: the agent was not waited for, and killed"),
        "{after}"
    );
    await_no_agent(&pair);
}

#[test]
fn an_agent_does_not_outlive_a_killed_top() {
    let Some(pair) = Pair::new() else { return };
    let top = top(&pair, AGENT);
    top.await_text(ENTER);
    assert_eq!(agents(&pair).len(), 1);
    top.signal(Signal::SIGKILL);
    await_no_agent(&pair);
}

#[test]
fn a_pipe_gets_a_line_and_a_wrong_code() {
    let output = support::command(&format!("{KSTAMP} top --iface lo")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("no terminal") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(output.stdout.is_empty());
}

/// Answers one request with a head, and returns the request.
fn answer(listener: &TcpListener, reply: &str) -> (std::net::TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    stream.write_all(reply.as_bytes()).unwrap();
    (stream, String::from_utf8(request).unwrap())
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 1000\n\n";

fn up(name: &str) -> String {
    let record = format!(
        r#"{{"type":"peer","agent":"h1:p1","event":"up","peer":"10.1.1.6","name":"{name}","time":"2026-11-21T10:10:38Z"}}"#
    );
    format!("event: peer\ndata: {record}\n\n:\n\n")
}

#[test]
fn a_running_agent_is_watched_and_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = support::command(&format!("{KSTAMP} top --connect http://me@{address}"));
    command.env("KSTAMP_PASSWORD", "secret");
    let mut top = OnTerminal::start(command);
    let (stream, request) = answer(&listener, &format!("{HEAD}{}", up("first")));
    assert!(request.starts_with("GET /api/v1/stream HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("authorization: Basic bWU6c2VjcmV0\r\n"), "{request}");
    // It has no history.
    let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (_, request) = answer(&listener, none);
    assert!(request.starts_with("GET /api/v1/events?"), "{request}");
    assert!(request.contains("authorization: Basic bWU6c2VjcmV0\r\n"), "{request}");
    top.await_text("first");
    assert!(!top.shown().contains("missing"), "{}", top.shown());
    drop(stream);
    top.await_text("STALE since");
    let (_stream, _) = answer(&listener, &format!("{HEAD}{}", up("second")));
    answer(&listener, none);
    top.await_text("second");
    top.press("q");
    let (code, after) = top.ended();
    assert_eq!((code, &*after), (Some(0), ""));
}

#[test]
fn a_server_that_refuses_is_a_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || OnTerminal::start(support::command(&format!("{KSTAMP} top --connect http://{address}")));
    let refused = start();
    drop(answer(
        &listener,
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
    ));
    refused.await_text("wants a name and a password");
    drop(listener);
    let unreachable = start();
    unreachable.await_text("Connection refused");
    for mut top in [refused, unreachable] {
        assert_eq!(top.child.wait().unwrap().code(), Some(1));
        assert!(!top.shown().contains(ENTER));
    }
}

/// An agent with a server, and its records.
fn serving(pair: &Pair, arguments: &str) -> Running {
    ip(&pair.near, "link set lo up");
    let flags = "--iface port1 --family v4 --interval 50ms --timeout 200ms --name near";
    pair.started(&pair.near, &format!("agent {flags} --listen {ADDRESS} {arguments}"))
}

#[test]
fn a_running_agent_shows_what_was_before() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.started(&pair.far, "agent --iface port2 --family v4 --interval 50ms --name far");
    let near = serving(&pair, "--no-group --report 500ms --peer 10.1.1.6");
    let windows = || {
        near.records()
            .iter()
            .filter(|record| record["type"] == "window")
            .count()
    };
    near.await_record(9, "windows", |record| record["type"] == "window");
    let before = windows();
    let mut top = top(&pair, &format!("--connect http://{ADDRESS}"));
    // The plot has the medians of the last eight windows.
    let is_bar = |character: char| ('▁'..='█').contains(&character);
    top.await_shown("eight windows", |shown| {
        shown
            .split(|character| !is_bar(character))
            .any(|bars| bars.chars().count() == 8)
    });
    let since = windows() - before;
    assert!(since < 8, "{since} windows have come since");
    // An event.
    top.await_text("10.1.1.6 up");
    assert!(!top.shown().contains("missing"), "{:?}", top.shown());
    top.press("q");
    let (code, after) = top.ended();
    assert_eq!((code, &*after), (Some(0), ""));
}

#[test]
fn a_running_agent_with_tls_and_passwords_is_watched() {
    let Some(pair) = Pair::new() else { return };
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    for name in ["cert", "other"] {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(path(&format!("{name}.pem")), cert.pem()).unwrap();
        fs::write(path(&format!("{name}.key")), signing_key.serialize_pem()).unwrap();
    }
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: cert.key\n";
    let hash = bcrypt::hash("secret", 4).unwrap();
    fs::write(path("web.yml"), format!("{tls}basic_auth_users:\n  ann: {hash}\n")).unwrap();
    for (name, password) in [("right", "secret\n"), ("wrong", "other\n")] {
        fs::write(path(name), password).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let _near = serving(
        &pair,
        &format!(
            "--no-group --report 500ms --peer 10.1.1.6 --web-config {}",
            path("web.yml")
        ),
    );
    let start = |ca: &str, user: &str, password: &str| {
        let password = match password {
            "" => String::new(),
            name => format!("--password-file {}", path(name)),
        };
        top(
            &pair,
            &format!("--connect https://{user}{ADDRESS} --ca-file {} {password}", path(ca)),
        )
    };
    let mut watching = start("cert.pem", "ann@", "right");
    watching.await_text("port1");
    watching.press("q");
    let (code, after) = watching.ended();
    assert_eq!((code, &*after), (Some(0), ""));
    for (ca, user, password, why) in [
        (
            "other.pem",
            "ann@",
            "right",
            "has signed that of the server; name the file of its authority with --ca-file",
        ),
        (
            "cert.pem",
            "ann@",
            "wrong",
            "the server refuses 'ann' with this password",
        ),
        ("cert.pem", "", "", "wants a name and a password"),
    ] {
        let mut refused = start(ca, user, password);
        refused.await_text(why);
        assert_eq!(refused.child.wait().unwrap().code(), Some(1), "{why}");
        let shown = refused.shown();
        assert!(!shown.contains(ENTER) && shown.lines().count() == 1, "{shown:?}");
    }
}
