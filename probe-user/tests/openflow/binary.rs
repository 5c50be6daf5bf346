//! The binary `kstamp controller`: refused arguments, and hostile peers.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe_controller::openflow::flow::Match;
use probe_controller::openflow::id::PortNumber;
use probe_controller::openflow::message::{Message, PacketIn, PacketInReason};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Peer, SOON};
use crate::support::{KSTAMP, can_run};
use crate::tls::{Authority, Certificate};

/// Runs it to its end.
fn refused(arguments: &[&str]) -> Output {
    let output = Command::new("timeout")
        .args(["10", KSTAMP, "controller"])
        .args(arguments)
        .output()
        .unwrap();
    assert_ne!(output.status.code(), Some(124), "{arguments:?} is accepted");
    output
}

/// Asserts the exit code, and one line on standard error that contains all of these words.
fn assert_refused(arguments: &[&str], code: i32, words: &[&str]) {
    let output = refused(arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
    assert_eq!(out, "", "{arguments:?}");
    assert_eq!(err.trim_end().lines().count(), 1, "{arguments:?}: {err}");
    for word in words {
        assert!(err.contains(word), "{arguments:?}: {err}");
    }
}

const ANY: &str = "127.0.0.1:0";

#[test]
fn wrong_arguments_are_refused_in_one_line_before_anything_runs() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let nowhere = path("no/such/directory");
    assert_refused(
        &["--listen", ANY, "--web-listen", &taken],
        1,
        &["--web-listen", &taken, "another process listens there"],
    );
    assert_refused(&["--web-listen", "9863"], 2, &["--web-listen", "write 127.0.0.1:9863"]);
    let wrong = path("web.yml");
    fs::write(&wrong, "basic_auth_users: 7\n").unwrap();
    assert_refused(
        &["--web-listen", "127.0.0.1:9863", "--web-config", &wrong],
        2,
        &["web.yml"],
    );
    for listen in ["", "nonsense", "127.0.0.1", "127.0.0.1:70000", "6653"] {
        assert_refused(&["--listen", listen], 2, &["--listen"]);
    }
    for period in ["0s", "soon", "-1s", "1"] {
        assert_refused(&["--listen", ANY, &format!("--period={period}")], 2, &["--period"]);
    }
    for gain in ["-0.1", "much", "NaN"] {
        assert_refused(
            &["--listen", ANY, &format!("--reroute-gain={gain}")],
            2,
            &["--reroute-gain"],
        );
    }
    assert_refused(&["--listen", &taken], 1, &[&taken, "another controller"]);
    assert_refused(&["--listen", "192.0.2.1:6653"], 1, &["192.0.2.1:6653"]);
    assert_refused(&["--listen", ANY, "--html", &nowhere], 1, &[&nowhere]);
    assert_refused(
        &["--listen", ANY, "--output", &nowhere, "--format", "jsonl"],
        1,
        &[&nowhere],
    );
    if can_run() {
        assert_refused(&["--listen", ANY, "--tap", "nosuch0"], 1, &["nosuch0"]);
    }
}

#[test]
fn unusable_tls_files_are_named() {
    let directory = TempDir::new().unwrap();
    let ours = Authority::new(directory.path(), "ours");
    let [certificate, other] = ["controller", "other"].map(|name| ours.issue(directory.path(), name));
    let text = |path: &std::path::Path| path.display().to_string();
    let (ca, missing, garbage) = (
        text(&ours.ca),
        text(&directory.path().join("missing.pem")),
        directory.path().join("garbage.pem"),
    );
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nno\n").unwrap();
    let garbage = text(&garbage);
    let Certificate { cert, key } = certificate;
    let (cert, key) = (text(&cert), text(&key));
    let given = |cert: &str, key: &str, ca: &str| {
        let words = ["--listen", ANY, "--tls-cert", cert, "--tls-key", key, "--tls-ca", ca];
        words.map(str::to_owned)
    };
    let other_key = text(&other.key);
    let cases = [
        (given(&missing, &key, &ca), &missing),
        (given(&cert, &missing, &ca), &missing),
        (given(&cert, &key, &missing), &missing),
        (given(&garbage, &key, &ca), &garbage),
        (given(&cert, &garbage, &ca), &garbage),
        (given(&cert, &key, &garbage), &garbage),
        // The key of another certificate.
        (given(&cert, &other_key, &ca), &other_key),
    ];
    for (words, named) in &cases {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_refused(&words, 1, &[named.as_str()]);
    }
    // One or two of the three.
    let output = refused(&["--listen", ANY, "--tls-cert", &cert]);
    assert_eq!(output.status.code(), Some(2));
    // Readable by root alone is no hindrance to root.
    if !nix::unistd::geteuid().is_root() {
        fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
        let words = given(&cert, &key, &ca);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_refused(&words, 1, &[&key]);
    }
}

/// A running controller, and its output.
pub struct Controller {
    child: Child,
    pub address: SocketAddr,
    lines: Arc<Mutex<Vec<Value>>>,
    errors: Arc<Mutex<String>>,
}

impl Controller {
    /// Starts one with additional arguments, at a free port unless they have another listener.
    pub fn start(arguments: &[&str]) -> Self {
        let listen = if arguments.contains(&"--listen") {
            vec![]
        } else {
            vec!["--listen", ANY]
        };
        let mut child = Command::new(KSTAMP)
            .args(["controller", "--format", "jsonl", "--report", "1s"])
            .args(listen)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, errors) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        read_lines(child.stdout.take().unwrap(), Arc::clone(&lines), |lines, line| {
            lines.push(serde_json::from_str(&line).expect(&line));
        });
        read_lines(child.stderr.take().unwrap(), Arc::clone(&errors), |errors, line| {
            errors.push_str(&line);
            errors.push('\n');
        });
        let mut controller = Self {
            child,
            address: (Ipv4Addr::UNSPECIFIED, 0).into(),
            lines,
            errors,
        };
        let start = controller.wait("start", |line| line["type"] == "start");
        controller.address = start["listen"].as_str().unwrap().parse().unwrap();
        controller
    }

    /// Waits for the first line that is `wanted`.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            if let Some(line) = self.lines.lock().unwrap().iter().find(|line| wanted(line)) {
                return line.clone();
            }
            let (lines, errors) = (self.lines.lock().unwrap(), self.errors.lock().unwrap());
            assert!(Instant::now() < until, "no {what} in {lines:#?}; {errors}");
            drop((lines, errors));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How many events of a kind there were.
    pub fn events(&self, event: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| line["event"] == event).count()
    }

    /// Waits for an event whose text contains all of these words.
    pub fn await_event(&self, event: &str, words: &[&str]) -> Value {
        self.wait(event, |line| {
            let text = line["text"].as_str().unwrap_or_default();
            line["type"] == "event" && line["event"] == event && words.iter().all(|word| text.contains(word))
        })
    }

    /// Interrupts it. Returns the summary and its stderr.
    pub fn stop(mut self) -> (Value, String) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        let summary = self.wait("summary", |line| line["type"] == "summary");
        assert!(self.child.wait().unwrap().success());
        let errors = self.errors.lock().unwrap().clone();
        (summary, errors)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines<T: Send + 'static>(
    from: impl std::io::Read + Send + 'static,
    to: Arc<Mutex<T>>,
    keep: impl Fn(&mut T, String) + Send + 'static,
) {
    use std::io::BufRead as _;
    std::thread::spawn(move || {
        for line in std::io::BufReader::new(from).lines().map_while(Result::ok) {
            keep(&mut to.lock().unwrap(), line);
        }
    });
}

#[test]
fn each_hostile_peer_gets_one_line_and_others_are_unaffected() {
    let controller = Controller::start(&[]);
    let mut good = Peer::connect(controller.address);
    good.shake_hands(1);
    controller.await_event("switch_up", &["0000000000000001"]);
    // Not OpenFlow, and messages of wrong lengths.
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[4, 0, 0xff, 0xff, 0, 0, 0, 0],
        &[4, 0, 0, 3, 0, 0, 0, 0],
    ] {
        let mut stream = TcpStream::connect(controller.address).unwrap();
        stream.write_all(bytes).unwrap();
        let address = stream.local_addr().unwrap().to_string();
        controller.await_event("switch_down", &[&address]);
    }
    // A second switch with the id of the first, which still answers.
    let address = {
        let mut second = Peer::connect(controller.address);
        let address = second.stream.local_addr().unwrap().to_string();
        let answering = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                match good.receive() {
                    Some((header, Message::EchoRequest(payload))) => {
                        good.send(&Message::EchoReply(payload), header.xid);
                    }
                    Some((header, Message::BarrierRequest)) => good.send(&Message::BarrierReply, header.xid),
                    Some(_) => {}
                    None => panic!("the first switch was cut off"),
                }
            }
            good
        });
        second.hello();
        while let Some((header, message)) = second.receive() {
            if matches!(message, Message::FeaturesRequest) {
                second.send(&Message::FeaturesReply(crate::harness::features(1)), header.xid);
            }
        }
        good = answering.join().unwrap();
        address
    };
    controller.await_event("switch_down", &[&address, "0000000000000001", "already connected"]);
    // A flood.
    let mut flooding = Peer::connect(controller.address);
    flooding.shake_hands(2);
    controller.await_event("switch_up", &["0000000000000002"]);
    let packet = PacketIn {
        reason: PacketInReason::NoMatch,
        table: 0,
        cookie: 0,
        in_port: PortNumber(1),
        matching: Match::any(),
        total_len: 60,
        frame: vec![0x5a; 60],
    };
    for _ in 0..5_000 {
        flooding.send(&Message::PacketIn(packet.clone()), 0);
    }
    // The first is still served.
    good.send(&Message::EchoRequest(vec![7; 8]), 99);
    let is_answer = |(header, message): &(_, Message)| {
        let header: &probe_controller::openflow::frame::Header = header;
        header.xid == 99 && *message == Message::EchoReply(vec![7; 8])
    };
    while !is_answer(&good.receive().expect("the first switch was cut off")) {}
    let (summary, errors) = controller.stop();
    assert!(summary["packet_ins_over_limit"].as_u64() > Some(0), "{summary:#}");
    assert!(errors.contains("packet-ins a second"), "{errors}");
    assert!(errors.lines().count() < 10, "{errors}");
}

#[test]
fn a_listener_for_others_is_warned_about_in_one_line() {
    for (listen, lines) in [("0.0.0.0:0", 1), (ANY, 0), ("[::1]:0", 0)] {
        let controller = Controller::start(&["--listen", listen]);
        let (_, errors) = controller.stop();
        assert_eq!(errors.lines().count(), lines, "{listen}: {errors}");
        assert!(lines == 0 || errors.contains("--tls-cert"), "{errors}");
    }
}
