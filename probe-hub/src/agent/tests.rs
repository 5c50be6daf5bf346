//! Links to a real server, with the permissions of a fleet. Without a nats-server (`KSTAMP_NATS_SERVER`, or in PATH) they print
//! `SKIPPED` and pass.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};

use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream;
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nkeys::KeyPair;
use probe_core::observation::Reply as CoreReply;
use probe_core::session::Outcome;
use probe_core::stats::report::{Path as ProbePath, Report};
use prost::Message as _;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::agent::test_data::{reply, report};
use crate::connection::{self, REQUEST_TIMEOUT, Refusal, publish};
use crate::credentials::Credentials;
use crate::enrol::{Authority, HubKeys, Servers, StateDirectory};
use crate::hub::stores;
use crate::message::assignment::{Assignment, SIGNATURE, Target};
use crate::message::event::{self, Answer, What};
use crate::message::heartbeat::Heartbeat;
use crate::message::windows::{Batch, MESSAGE_ID};
use crate::server;
use crate::subjects::{self, EVENTS, MINUTES, QUARTERS, Results, WINDOWS};
use crate::test_nats;

const SECOND: Duration = Duration::from_secs(1);
const REPORT_NS: u64 = 1_000_000_000;

/// What was logged, of all tests.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("probe_hub") {
            let line = record.args().to_string();
            println!("{line}");
            LINES.lock().unwrap().push(line);
        }
    }

    fn flush(&self) {}
}

/// How often a line with all these texts was logged.
fn logged(texts: &[&str]) -> usize {
    let lines = LINES.lock().unwrap();
    let has_all = |line: &&String| texts.iter().all(|text| line.contains(text));
    lines.iter().filter(has_all).count()
}

/// A hub's state directory, and a server on it that a test may kill.
struct Fleet {
    directory: TempDir,
    state: StateDirectory,
    config: server::Config,
    process: Option<Child>,
}

impl Fleet {
    /// With a server that runs, and the credentials of a host.
    async fn start(host: &str) -> Option<(Self, Credentials)> {
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| {
            log::set_logger(&Logger).unwrap();
            log::set_max_level(log::LevelFilter::Info);
        });
        let (directory, state, config) = test_nats::prepare().await?;
        // It writes the configuration.
        server::Server::start(&state, config.clone())
            .await
            .unwrap()
            .stop()
            .await;
        let mut fleet = Self {
            directory,
            state,
            config,
            process: None,
        };
        let prefixes = ["10.0.0.0/8".parse().unwrap()];
        let credentials = fleet
            .state
            .enroll(&host.parse().unwrap(), &prefixes, fleet.servers(), false);
        fleet.run();
        // A link that finds no server looks for the reason again only after half a minute.
        until("the server listens", || {
            std::net::TcpStream::connect(fleet.config.listen).is_ok()
        })
        .await;
        Some((fleet, credentials.unwrap()))
    }

    fn run(&mut self) {
        let run = Command::new(&self.config.program)
            .arg("--config")
            .arg(self.state.path().join("nats.conf"))
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(run.unwrap());
    }

    /// By SIGKILL.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().unwrap().id();
        kill(Pid::from_raw(process.cast_signed()), signal).unwrap();
    }

    fn servers(&self) -> Servers {
        Servers {
            urls: vec![format!("tls://{}", self.config.listen)],
            ca: None,
        }
    }

    /// A connection with all streams, and the key of the hub.
    async fn hub(&self) -> (Client, KeyPair) {
        let HubKeys { signing, credentials } = self.state.hub(&"hub".parse().unwrap(), self.servers()).unwrap();
        let client = connection::connect(&credentials, |_| async {}).await.unwrap();
        let limits = stores::Limits::within(100 << 20);
        stores::make(&jetstream::new(client.clone()), &limits, 20 * SECOND)
            .await
            .unwrap();
        (client, signing)
    }

    fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    fn link(&self, credentials: &Credentials, boot: u64) -> Link {
        start(credentials, &self.spool(), boot)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start(credentials: &Credentials, spool: &Path, boot: u64) -> Link {
    let config = LinkConfig {
        credentials: credentials.clone(),
        buffer: spool.to_owned(),
        buffer_size: DEFAULT_BUFFER_SIZE,
        report_ns: REPORT_NS,
        allow: Vec::new(),
    };
    let presence = Presence {
        port: format!("{}/p", credentials.name).parse().unwrap(),
        boot,
        version: "0".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap()],
        udp_port: 1910,
        interval_ns: REPORT_NS,
        max_peers: 9,
        labels: BTreeMap::new(),
        clock: "c".to_owned(),
        attach: "tc".to_owned(),
        kernel: "6.1".to_owned(),
        ended: false,
    };
    Link::start(LinkThread::start(None).unwrap(), config, presence).unwrap()
}

/// Notes the window that ends so many intervals after now.
fn note_window(link: &mut Link, number: u64) {
    let end_ns = monotonic_ns() + number * REPORT_NS;
    let report = Report {
        start_ns: end_ns - REPORT_NS,
        end_ns,
        ..report(&[1_000, 2_000, 40_000])
    };
    link.note(&Event::Window(Box::new(report)), |_| None);
    link.flush(None);
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < 20 * SECOND, "{what}");
        sleep(SECOND / 100).await;
    }
}

/// All messages of a stream, in their order.
async fn stored(client: &Client, results: Results) -> Vec<Vec<u8>> {
    let jetstream = jetstream::new(client.clone());
    let mut stream = jetstream.get_stream(results.stream).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap().payload.to_vec());
    }
    messages
}

/// Has the server forget the identifiers of windows at once, as it does in a long time.
async fn forget_soon(client: &Client) {
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream(WINDOWS.stream).await.unwrap();
    let forgetful = jetstream::stream::Config {
        duplicate_window: SECOND / 10,
        ..stream.cached_info().config.clone()
    };
    jetstream.update_stream(forgetful).await.unwrap();
}

async fn batches(client: &Client, results: Results) -> Vec<Batch> {
    let messages = stored(client, results).await;
    messages
        .iter()
        .map(|content| Batch::decode(&content[..]).unwrap())
        .collect()
}

#[tokio::test]
async fn every_batch_arrives_once_and_in_order_although_server_and_agent_die() {
    let Some((mut fleet, credentials)) = Fleet::start("h1").await else {
        return;
    };
    let (client, _) = fleet.hub().await;
    let mut link = fleet.link(&credentials, 1);
    for number in 1..=40 {
        note_window(&mut link, number);
        sleep(SECOND / 50).await;
    }
    until("the first are delivered", || link.status().delivered > 20).await;
    fleet.kill();
    until("the loss is noticed", || link.status().state == State::Lost).await;
    for number in 41..=60 {
        note_window(&mut link, number);
    }
    // The agent ends without a server, and another one starts.
    link.finish(5 * SECOND).await;
    let mut link = fleet.link(&credentials, 2);
    until("the rest waits", || link.status().waiting >= 20).await;
    for number in 61..=80 {
        note_window(&mut link, number);
    }
    fleet.run();
    until("it is back", || link.status().state == State::Connected).await;
    until("the hub is back", || {
        client.connection_state() == async_nats::connection::State::Connected
    })
    .await;
    forget_soon(&client).await;
    for number in 81..=100 {
        note_window(&mut link, number);
    }
    // A server that hangs for longer than an acknowledgement may take.
    fleet.signal(Signal::SIGSTOP);
    for number in 101..=120 {
        note_window(&mut link, number);
    }
    sleep(REQUEST_TIMEOUT + 2 * SECOND).await;
    fleet.signal(Signal::SIGCONT);
    link.finish(20 * SECOND).await;
    let windows = batches(&client, WINDOWS).await;
    let got: Vec<_> = windows.iter().map(|batch| (batch.boot, batch.number)).collect();
    let want: Vec<_> = (1..=60)
        .map(|number| (1, number))
        .chain((1..=60).map(|number| (2, number)))
        .collect();
    assert_eq!(got, want);
    assert_eq!(windows[0].windows[0].counts.unwrap().received, 3);
    // A minute of windows lies in two minutes at most, and partial ones were ended.
    for (results, most) in [(MINUTES, 6), (QUARTERS, 4)] {
        let sums = batches(&client, results).await;
        assert!((2..=most).contains(&sums.len()), "{}", sums.len());
        let counts = sums.iter().flat_map(|batch| &batch.windows);
        let received: u64 = counts.map(|window| window.counts.unwrap().received).sum();
        assert_eq!(received, 360);
        assert!(
            sums.iter()
                .all(|batch| batch.windows[0].forward.as_ref().unwrap().histogram.is_some())
        );
    }
    let mut left: Vec<_> = std::fs::read_dir(fleet.spool().join("h1.p"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["events", "lock"]);
    let directory = fleet.spool().display().to_string();
    assert_eq!(logged(&["is lost", &directory]), 1);
}

#[tokio::test]
async fn a_message_whose_acknowledgement_was_lost_is_not_stored_again() {
    let Some((fleet, _)) = Fleet::start("h8").await else {
        return;
    };
    let (client, _) = fleet.hub().await;
    forget_soon(&client).await;
    let send = |number: u64, after: Option<u64>| {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, number.to_string());
        if let Some(sequence) = after {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        }
        let subject = WINDOWS.of(&"h8/p".parse().unwrap());
        publish(&client, subject, headers, number.to_string().into())
    };
    let first = send(1, None).await.unwrap();
    let second = send(2, Some(first)).await.unwrap();
    sleep(SECOND / 2).await;
    assert_eq!(send(2, Some(first)).await, Err(Refusal::OtherSequence(Some(second))));
    assert_eq!(
        send(2, Some(second + 1)).await,
        Err(Refusal::OtherSequence(Some(second)))
    );
    assert!(send(3, Some(second)).await.is_ok());
    assert_eq!(stored(&client, WINDOWS).await, [b"1", b"2", b"3"]);
}

#[tokio::test]
async fn assignments_of_the_hub_are_taken_and_kept() {
    let Some((mut fleet, credentials)) = Fleet::start("h2").await else {
        return;
    };
    let (client, key) = fleet.hub().await;
    let assign = |generation, target: &str, key: &KeyPair| {
        let assignment = Assignment {
            port: "h2/p".parse().unwrap(),
            generation,
            targets: vec![Target {
                port: "h3/p".parse().unwrap(),
                addresses: vec![target.parse().unwrap(), "127.0.0.1".parse().unwrap()],
            }],
            probers: Vec::new(),
        };
        let (content, signature) = assignment.sign(key).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, signature);
        let subject = subjects::entry(subjects::ASSIGNMENT, "h2.p");
        let jetstream = jetstream::new(client.clone());
        async move {
            let publish = jetstream.publish_with_headers(subject, headers, content.into());
            publish.await.unwrap().await.unwrap();
        }
    };
    async fn assigned(link: &Link) -> (u64, String) {
        match timeout(10 * SECOND, link.request()).await.unwrap() {
            Request::Assign(assignment) => (assignment.generation, assignment.targets[0].addresses[0].to_string()),
            other => panic!("{other:?}"),
        }
    }
    // One that was there before the agent, and one that comes later.
    assign(4, "10.0.0.4", &key).await;
    let mut link = fleet.link(&credentials, 1);
    assert_eq!(assigned(&link).await, (4, "10.0.0.4".to_owned()));
    assign(5, "10.0.0.5", &key).await;
    assert_eq!(assigned(&link).await, (5, "10.0.0.5".to_owned()));
    link.probing(5, [("10.0.0.5".parse().unwrap(), "h3/p".parse().unwrap())]);
    assert_eq!((link.status().generation, link.status().peers), (5, 1));
    // A stranger's, twice, and an old one.
    assign(6, "10.0.0.6", &KeyPair::new_account()).await;
    assign(7, "10.0.0.6", &KeyPair::new_account()).await;
    assign(3, "10.0.0.6", &key).await;
    assert!(timeout(SECOND, link.request()).await.is_err());
    assert_eq!(
        logged(&[
            "an assignment is ignored",
            "kstamp hub enroll h2 --prefix PREFIX --replace`"
        ]),
        1
    );
    link.finish(SECOND).await;
    // What is no address of a host was refused, and the hub knows it.
    let refused = stored(&client, EVENTS).await;
    let refused: Vec<event::Event> = refused
        .iter()
        .map(|event| serde_json::from_slice(event).unwrap())
        .collect();
    let is_loopback =
        |event: &event::Event| matches!(&event.what, What::Refused { address, .. } if address.is_loopback());
    assert!(refused.len() == 1 && refused.iter().all(is_loopback), "{refused:?}");
    // Without the server, the last one is in force again.
    fleet.kill();
    let link = fleet.link(&credentials, 2);
    assert_eq!(assigned(&link).await, (5, "10.0.0.5".to_owned()));
}

#[tokio::test]
async fn the_hub_sees_the_port_and_gets_answers_and_events() {
    let Some((fleet, credentials)) = Fleet::start("h4").await else {
        return;
    };
    let (client, _) = fleet.hub().await;
    let port: PortName = "h4/p".parse().unwrap();
    let mut heartbeats = client.subscribe(subjects::heartbeat(&port)).await.unwrap();
    let mut link = fleet.link(&credentials, 7);
    let heartbeat = timeout(10 * SECOND, heartbeats.next()).await.unwrap().unwrap();
    assert_eq!(Heartbeat::decode(heartbeat.payload).unwrap().boot, 7);
    let presences = jetstream::new(client.clone())
        .get_key_value(subjects::PRESENCE)
        .await
        .unwrap();
    let mut presence = None;
    for _ in 0..1_000 {
        presence = presences.get("h4.p").await.unwrap();
        if presence.is_some() {
            break;
        }
        sleep(SECOND / 100).await;
    }
    let mut presence: Presence = serde_json::from_slice(&presence.unwrap()).unwrap();
    assert_eq!(presence.boot, 7);
    presence.udp_port = 862;
    link.set_presence(presence.clone());
    let mut now = Vec::new();
    for _ in 0..1_000 {
        now = presences.get("h4.p").await.unwrap().unwrap().to_vec();
        if serde_json::from_slice::<Presence>(&now).unwrap() == presence {
            break;
        }
        sleep(SECOND / 100).await;
    }
    assert_eq!(serde_json::from_slice::<Presence>(&now).unwrap(), presence);

    let session = Session {
        source: "10.0.0.2".parse().unwrap(),
        destination: "10.0.0.1".parse().unwrap(),
        source_port: 1910,
        destination_port: 1910,
        ssid: 3,
    };
    let ask = || {
        let content = serde_json::to_vec(&session).unwrap();
        client.request(subjects::question(&port), content.into())
    };
    let answer = async {
        match link.request().await {
            Request::Replies(asked, reply) => {
                assert_eq!(asked, session);
                reply.send(Some(41));
            }
            other => panic!("{other:?}"),
        }
    };
    let (answered, ()) = tokio::join!(ask(), answer);
    let answer: Answer = serde_json::from_slice(&answered.unwrap().payload).unwrap();
    assert_eq!(answer.replies, Some(41));
    // A loop that does not answer.
    assert!(timeout(2 * SECOND, ask()).await.is_err_and(|_| true));

    // A black hole.
    let peer = reply_address();
    link.probing(1, [(peer, "h5/p".parse().unwrap())]);
    link.note(&sample(Some(reply(10, 5)), 10), |_| None);
    for sent_ns in 20..30 {
        link.note(&sample(None, sent_ns), |_| Some(session));
    }
    link.note(&sample(Some(reply(40, 5)), 40), |_| None);
    link.refused(RefusedTarget {
        port: "h6/p".parse().unwrap(),
        address: peer,
        why: "it is this host".to_owned(),
    });
    let notice = serde_json::to_vec(&event::Notice {
        line: "h4 is \u{1b}[31mknown\ntwice".to_owned(),
    });
    client
        .publish(subjects::notice(&port), notice.unwrap().into())
        .await
        .unwrap();
    until("a notice", || {
        logged(&["the hub says about h4/p: h4 is \u{fffd}[31mknown\u{fffd}twice"]) == 1
    })
    .await;
    link.finish(10 * SECOND).await;
    let events = stored(&client, EVENTS).await;
    let events: Vec<event::Event> = events
        .iter()
        .map(|event| serde_json::from_slice(event).unwrap())
        .collect();
    let [silent, answering, refused] = &events[..] else {
        panic!("{events:?}");
    };
    let What::Silent(silence) = &silent.what else {
        panic!("{silent:?}");
    };
    assert_eq!((silence.lost, silence.replies, silence.session), (3, Some(11), session));
    assert!(
        matches!(answering.what, What::Answering { silent_ns: 25, .. }),
        "{answering:?}"
    );
    assert!(matches!(&refused.what, What::Refused { why, .. } if why == "it is this host"));
    assert!(events.iter().all(|event| event.port == port && event.boot == 7));
}

fn reply_address() -> IpAddr {
    reply(0, 0).peer
}

fn sample(reply: Option<CoreReply>, sent_ns: u64) -> Event {
    Event::Sample {
        peer: reply_address(),
        path: ProbePath::Unicast,
        ssid: 1,
        seq: sent_ns as u32,
        window_ns: None,
        estimated_ns: None,
        sent_ns: reply.is_none().then_some(sent_ns),
        outcome: if reply.is_some() { Outcome::Ok } else { Outcome::Lost },
        reply,
    }
}

#[tokio::test]
async fn problems_are_logged_once_and_measuring_goes_on() {
    let Some((mut fleet, right)) = Fleet::start("h7").await else {
        return;
    };
    let now = jiff::Timestamp::from_second(0).unwrap();
    let expired = Authority::read(fleet.state.path())
        .unwrap()
        .issue_client(&right.name, now)
        .unwrap();
    let other = StateDirectory::open(&fleet.directory.path().join("other")).unwrap();
    let stranger = other
        .enroll(&right.name, &["10.0.0.0/8".parse().unwrap()], fleet.servers(), false)
        .unwrap();
    let old = TcpListener::bind("127.0.0.1:0").unwrap();
    let old_address = old.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in old.incoming() {
            let info = "INFO {\"server_id\":\"x\",\"version\":\"2.9.10\",\"tls_required\":true}\r\n";
            let _ = std::io::Write::write_all(&mut stream.unwrap(), info.as_bytes());
        }
    });
    // Nobody else gets the port, and nobody listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = held.local_addr().unwrap();
    let at = |address| Credentials {
        servers: vec![format!("tls://{address}")],
        ..right.clone()
    };
    let table = [
        (
            "a seed that nobody knows",
            Credentials {
                seed: KeyPair::new_user().seed().unwrap(),
                ..right.clone()
            },
            State::Refused,
            "does not know the key of h7",
        ),
        (
            "an expired certificate",
            Credentials {
                certificate: expired.certificate,
                key: expired.key,
                ..right.clone()
            },
            State::Refused,
            "does not accept the certificate of h7",
        ),
        (
            "another fleet",
            stranger,
            State::Refused,
            "is not from the authority in the credentials",
        ),
        ("an old server", at(old_address), State::Refused, "2.9.10"),
        ("no server", at(free), State::Connecting, "refused"),
    ];
    let mut links = Vec::new();
    for (number, (what, credentials, state, why)) in table.into_iter().enumerate() {
        let spool = fleet.directory.path().join(format!("wrong{number}"));
        let mut link = start(&credentials, &spool, 1);
        note_window(&mut link, 1);
        links.push((what, link, state, why, format!("{}/", spool.display())));
    }
    for (what, link, state, why, spool) in &links {
        until(what, || {
            let status = link.status();
            status.state == *state && status.reason.contains(why) && status.waiting == 1
        })
        .await;
        until(what, || logged(&[why, spool]) == 1).await;
    }
    // Several attempts later.
    sleep(5 * SECOND).await;
    for (what, link, _, why, spool) in links {
        assert_eq!(logged(&[why, &spool]), 1, "{what}");
        link.finish(5 * SECOND).await;
    }

    // A server without streams.
    fleet.kill();
    let _ = std::fs::remove_dir_all(fleet.state.path().join("jetstream"));
    fleet.run();
    let spool = fleet.directory.path().join("none");
    let mut link = start(&right, &spool, 1);
    note_window(&mut link, 1);
    let spool = spool.display().to_string();
    until("no streams", || logged(&["does not take results", &spool]) == 1).await;
    let (client, _) = fleet.hub().await;
    until("streams", || link.status().waiting == 0).await;
    until("said once", || logged(&["takes results of h7/p again"]) == 1).await;

    // A server that has no room.
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream(WINDOWS.stream).await.unwrap();
    let roomy = stream.cached_info().config.clone();
    let full = jetstream::stream::Config {
        max_messages: 1,
        discard: jetstream::stream::DiscardPolicy::New,
        ..roomy.clone()
    };
    jetstream.update_stream(full).await.unwrap();
    (2..5).for_each(|number| note_window(&mut link, number));
    until("no room", || logged(&["maximum messages exceeded", &spool]) == 1).await;
    jetstream.update_stream(roomy).await.unwrap();
    link.finish(10 * SECOND).await;
    assert_eq!(logged(&["does not take results", &spool]), 2);
    assert_eq!(batches(&client, WINDOWS).await.len(), 4);
}
