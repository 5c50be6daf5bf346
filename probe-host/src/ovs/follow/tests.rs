//! A real ovsdb-server, without a switch, and programs that only look like one.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::ovs::Ovs;

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const TIMEOUT: Duration = Duration::from_secs(10);

struct Server {
    directory: TempDir,
    process: Option<Child>,
}

impl Server {
    /// `None` without the programs, which is printed.
    fn start() -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let create = Command::new("ovsdb-tool")
            .arg("create")
            .arg(directory.path().join("conf.db"))
            .arg(SCHEMA)
            .status();
        if !create.is_ok_and(|status| status.success()) {
            println!("SKIPPED: needs ovsdb-tool, ovsdb-server, ovs-vsctl and {SCHEMA}");
            return None;
        }
        let mut server = Self {
            directory,
            process: None,
        };
        server.restart();
        server.vsctl("init");
        Some(server)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("db.sock")
    }

    fn restart(&mut self) {
        self.stop();
        let process = Command::new("ovsdb-server")
            .env("OVS_RUNDIR", self.directory.path())
            .arg(self.directory.path().join("conf.db"))
            .arg(format!("--remote=punix:{}", self.socket().display()))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap());
        wait_until("a socket", || UnixStream::connect(self.socket()).is_ok());
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn vsctl(&self, commands: &str) {
        let status = Command::new("ovs-vsctl")
            .arg(format!("--db=unix:{}", self.socket().display()))
            .args(["--no-wait", "--timeout=10"])
            .args(commands.split_whitespace())
            .status();
        assert!(status.unwrap().success(), "{commands}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !is_so() {
        assert!(Instant::now() < end, "no {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn follow(socket: &Path) -> Ovs {
    Ovs::follow(Source::connect(socket)).unwrap()
}

fn port1() -> Wanted {
    Wanted {
        name: "port1".to_owned(),
        kind: Some("tun".to_owned()),
        ..Wanted::default()
    }
}

fn bridge(ovs: &Ovs) -> Option<String> {
    ovs.facts_of(&port1()).map(|facts| facts.bridge)
}

#[test]
fn facts_follow_the_database_and_outlast_it() {
    let Some(mut server) = Server::start() else { return };
    let add = "add-port br0 port1 tag=7 -- set interface port1 type=internal external_ids:iface-id=vm-1";
    server.vsctl(&format!(
        "add-br br0 -- add-br br1 -- {add} -- set open_vswitch . ovs_version=3.1.0"
    ));
    let ovs = follow(&server.socket());
    ovs.wait(TIMEOUT);
    let facts = ovs.facts_of(&port1()).unwrap();
    let PortFacts {
        bridge: on,
        kind,
        vlan,
        iface_id,
        version,
        ..
    } = facts;
    assert_eq!((on.as_str(), kind.as_str(), vlan), ("br0", "internal", Some(7)));
    assert_eq!((iface_id.as_deref(), version.as_deref()), (Some("vm-1"), Some("3.1.0")));

    let generation = ovs.generation();
    server.vsctl("del-port port1 -- add-port br1 port1 -- set interface port1 type=internal");
    wait_until("move", || bridge(&ovs).as_deref() == Some("br1"));
    assert!(ovs.generation() > generation);

    server.stop();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(bridge(&ovs).as_deref(), Some("br1"), "while the database is away");
    server.restart();
    server.vsctl("del-port port1");
    wait_until("connection after a restart", || bridge(&ovs).is_none());
}

#[test]
fn a_database_that_comes_later_is_found() {
    let Some(mut server) = Server::start() else { return };
    server.vsctl("add-br br0 -- add-port br0 port1 -- set interface port1 type=internal");
    server.stop();
    let ovs = follow(&server.socket());
    ovs.wait(TIMEOUT);
    assert_eq!(bridge(&ovs), None);
    server.restart();
    wait_until("facts", || bridge(&ovs).as_deref() == Some("br0"));
}

fn follower(socket: &Path) -> Follower {
    Follower {
        shared: Arc::default(),
        socket: socket.to_owned(),
        lasting: LASTING,
        wait: MIN_WAIT,
        is_away: false,
    }
}

/// A reply to `monitor`, of a switch without ports.
const EMPTY: &[u8] = br#"{"id":"kstamp","result":{},"error":null}"#;

/// A database that answers, and closes the connection after `open`.
fn answer_and_close(listener: &UnixListener, open: Duration) {
    let (mut stream, _) = listener.accept().unwrap();
    let _ = stream.read(&mut [0; 4096]).unwrap();
    stream.write_all(EMPTY).unwrap();
    thread::sleep(open);
}

#[test]
fn only_a_connection_that_lasts_ends_the_waits_and_is_reported() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let lasting = Duration::from_millis(200);
    for (open, wait, is_away) in [(Duration::ZERO, MAX_WAIT, true), (lasting * 4, MIN_WAIT, false)] {
        let mut follower = Follower {
            lasting,
            wait: MAX_WAIT,
            is_away: true,
            ..follower(&socket)
        };
        let stream = connect(&socket).unwrap();
        let error = thread::scope(|scope| {
            scope.spawn(|| answer_and_close(&listener, open));
            follower.follow(stream).unwrap_err()
        });
        assert!(matches!(error, RpcError::Closed | RpcError::Io(_)), "{error}");
        assert_eq!((follower.wait, follower.is_away), (wait, is_away), "{open:?}");
        assert_eq!(follower.shared.generation(), 1, "it was read");
    }
}

/// The log lines of all tests.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_database_that_answers_and_closes_is_one_line_and_asked_ever_more_rarely() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let ovs = follow(&socket);
    let start = Instant::now();
    (0..4).for_each(|_| answer_and_close(&listener, Duration::ZERO));
    // Half a second, one, and two.
    assert!(start.elapsed() >= MIN_WAIT * 7, "{:?}", start.elapsed());
    drop(ovs);
    let lines = LINES.lock().unwrap();
    let about: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(&*socket.to_string_lossy()))
        .collect();
    assert!(
        matches!(&*about, [line] if line.contains("closed the connection")),
        "{about:?}"
    );
}

/// What following a program fails with that sends `reply` to whatever it is asked, and then, if it `hangs`, nothing more.
fn failure_of(reply: &[u8], hangs: bool) -> String {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("db.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let is_silent = hangs && reply.is_empty();
    let reply = reply.to_owned();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        // The other end may have enough of it.
        let _ = stream.write_all(&reply);
        while hangs && stream.read(&mut [0; 4096]).unwrap() > 0 {}
    });
    let mut follower = follower(&socket);
    // Only silence is to be noticed soon.
    let limit = if is_silent { Duration::from_millis(200) } else { TIMEOUT };
    let stream = jsonrpc::connect(&socket, limit).unwrap();
    let error = follower.follow(stream).unwrap_err();
    follower.shared.failed();
    server.join().unwrap();
    error.to_string()
}

#[test]
fn each_failure_is_one_line_that_says_what_was_wrong() {
    let long = [b"{\"".as_slice(), &vec![b'a'; 33 << 20]].concat();
    let cases: [(&[u8], bool, &str); 7] = [
        (
            b"SSH-2.0-OpenSSH",
            false,
            "what it sends is no JSON-RPC: byte 0x53 in place of a message",
        ),
        (b"", false, "it closed the connection"),
        (b"{\"id\":", false, "it closed the connection"),
        (b"", true, "it said nothing for 5 s"),
        (&long, false, "its message is longer than 32 MiB"),
        (
            br#"{"id":"kstamp","result":{},"error":"no database named Open_vSwitch"}"#,
            true,
            "it refused 'monitor': no database named Open_vSwitch",
        ),
        (
            br#"{"id":"kstamp","result":{"Bridge":3},"error":null}"#,
            true,
            "what it sends is no JSON-RPC: invalid type: integer `3`, expected a map",
        ),
    ];
    for (reply, hangs, expected) in cases {
        let failure = failure_of(reply, hangs);
        assert!(failure.starts_with(expected) && !failure.contains('\n'), "{failure}");
    }
}

#[test]
fn requests_for_an_echo_are_answered() {
    let reply = echo_reply(br#"{"id":"echo","method":"echo","params":[1]}"#).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&reply).unwrap(),
        json!({ "id": "echo", "result": [1], "error": null })
    );
}

#[test]
fn a_socket_without_permission_is_none() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("db.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let connected = thread::spawn(move || {
        drop_all_of_thread();
        connect(&socket).map(drop)
    });
    let error = connected.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn dropping_ends_the_thread_whatever_it_waits_for() {
    let directory = TempDir::new().unwrap();
    let silent = directory.path().join("silent.sock");
    let _listener = UnixListener::bind(&silent).unwrap();
    for socket in [silent, directory.path().join("none.sock")] {
        let ovs = follow(&socket);
        let shared = Arc::downgrade(&ovs.shared);
        thread::sleep(Duration::from_millis(50));
        drop(ovs);
        let end = Instant::now() + Duration::from_secs(2);
        while shared.strong_count() > 0 {
            assert!(Instant::now() < end, "{}", socket.display());
            thread::sleep(Duration::from_millis(10));
        }
    }
}
