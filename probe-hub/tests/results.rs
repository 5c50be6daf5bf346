//! Results that hosts deliver through a real NATS server, as a hub sees them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "support/nats.rs"]
mod nats;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use probe_core::stats::native::NativeHistogram;
use probe_host::clock::realtime_ns;
use probe_hub::connection;
use probe_hub::enrol::{Servers, StateDirectory};
use probe_hub::hub::alerts::Kind;
use probe_hub::hub::history::{self, Range};
use probe_hub::hub::{Config, Hub, query, stores};
use probe_hub::message::event::{Answer, Direction, Event, Session, Silence, What};
use probe_hub::message::heartbeat::Heartbeat;
use probe_hub::message::presence::Presence;
use probe_hub::message::windows::{Batch, Delay, Window, WireCounts};
use probe_hub::name::PortName;
use probe_hub::server::Server;
use probe_hub::subjects::{self, EVENTS, PRESENCE, WINDOWS};
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Longest wait of a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);
const S: u64 = 1_000_000_000;

/// A server on loopback, with three hosts.
struct Fleet {
    _directory: TempDir,
    state: StateDirectory,
    server: Server,
    url: String,
    /// By the name of its host.
    ports: BTreeMap<&'static str, Port>,
}

/// A port, which the test plays.
struct Port {
    name: PortName,
    client: Client,
    number: u64,
}

impl Fleet {
    async fn start() -> Option<Self> {
        let (directory, state, config) = nats::prepare().await?;
        let url = format!("tls://{}", config.listen);
        let server = Server::start(&state, config).await.unwrap();
        let mut fleet = Self {
            _directory: directory,
            state,
            server,
            url,
            ports: BTreeMap::new(),
        };
        for (host, prefix) in [("a", "10.0.0.1/32"), ("b", "10.0.0.2/32"), ("c", "10.0.0.3/32")] {
            let prefixes = [prefix.parse().unwrap()];
            let name = host.parse().unwrap();
            let credentials = fleet.state.enroll(&name, &prefixes, fleet.servers(), false).unwrap();
            fleet.server.reload();
            let client = connection::connect(&credentials, |_| async {}).await.unwrap();
            let name = format!("{host}/p").parse().unwrap();
            let number = 0;
            fleet.ports.insert(host, Port { name, client, number });
        }
        Some(fleet)
    }

    fn servers(&self) -> Servers {
        Servers {
            urls: vec![self.url.clone()],
            ca: None,
        }
    }

    /// A hub that knows all ports and has read what is there.
    async fn hub(&mut self, name: &str, webhook: Option<String>) -> Hub {
        let keys = self.state.hub(&name.parse().unwrap(), self.servers()).unwrap();
        let enrolled = self.state.enrolled().unwrap();
        let allowed = Arc::new(move |name: &_| enrolled.get(name).map(|enrolled| enrolled.prefixes.clone()));
        let hub = Hub::start(Config {
            limits: stores::Limits::within(1 << 28),
            webhook,
            ..Config::new(keys.credentials, keys.signing, name.to_owned(), allowed)
        })
        .await
        .unwrap();
        for port in self.ports.values() {
            port.announce(false).await;
        }
        until("the fleet is known", || hub.fleet().ports().count() == self.ports.len()).await;
        hub
    }

    fn port(&mut self, host: &str) -> &mut Port {
        self.ports.get_mut(host).unwrap()
    }

    async fn stop(self) {
        self.server.stop().await;
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, wait).await.expect(what);
}

impl Port {
    async fn publish(&self, subject: String, content: Vec<u8>) {
        let published = async {
            // The server may still read the accounts.
            while connection::publish(&self.client, subject.clone(), HeaderMap::new(), content.clone())
                .await
                .is_err()
            {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(TEST_TIMEOUT, published).await.expect("it is stored");
    }

    async fn announce(&self, ended: bool) {
        let index = self.name.host.as_str().as_bytes()[0] - b'a' + 1;
        let presence = Presence {
            port: self.name.clone(),
            boot: 7,
            version: "1".to_owned(),
            addresses: vec![[10, 0, 0, index].into()],
            udp_port: 1910,
            interval_ns: S,
            max_peers: 8,
            labels: BTreeMap::new(),
            clock: String::new(),
            attach: String::new(),
            kernel: String::new(),
            ended,
        };
        let content = serde_json::to_vec(&presence).unwrap();
        self.publish(subjects::entry(PRESENCE, &self.name.tokens()), content)
            .await;
    }

    /// A heartbeat with the newest assignment.
    async fn beat(&self, hub: &Hub) {
        let generation = {
            let fleet = hub.fleet();
            let port = fleet.id(&self.name).and_then(|id| fleet.port(id));
            port.map_or(0, |port| port.assigned.generation)
        };
        let heartbeat = Heartbeat {
            boot: 7,
            sent_ns: realtime_ns(),
            generation,
            ..Heartbeat::default()
        };
        let subject = subjects::heartbeat(&self.name);
        self.client
            .publish(subject, heartbeat.encode_to_vec().into())
            .await
            .unwrap();
    }

    /// A window of ten seconds about each peer, of 100 probes.
    async fn measure(&mut self, end_ns: u64, peers: &[(&str, u64)]) {
        self.number += 1;
        let window = |&(peer, lost_forward): &(&str, u64)| Window {
            address: vec![10, 0, 0, 9],
            peer: format!("{peer}/p"),
            counts: Some(WireCounts {
                sent: 100,
                received: 100 - lost_forward,
                lost_forward,
                ..WireCounts::default()
            }),
            rtt: Some(Delay {
                p50: 1000,
                p99: 2000,
                count: 100 - lost_forward,
                histogram: Some((&NativeHistogram::new(100_000, [(1000, 100)].into_iter())).into()),
                ..Delay::default()
            }),
            ..Window::default()
        };
        let batch = Batch {
            boot: 7,
            number: self.number,
            start_ns: end_ns - 10 * S,
            end_ns,
            windows: peers.iter().map(window).collect(),
        };
        self.publish(WINDOWS.of(&self.name), batch.encode_to_vec()).await;
    }

    async fn tell(&self, what: What) {
        let event = Event {
            port: self.name.clone(),
            boot: 7,
            time_ns: realtime_ns(),
            what,
        };
        let content = serde_json::to_vec(&event).unwrap();
        self.publish(EVENTS.of(&self.name), content).await;
    }

    /// Answers each question of the hub so.
    async fn answer(&self, replies: Option<u32>) {
        let mut questions = self.client.subscribe(subjects::question(&self.name)).await.unwrap();
        let client = self.client.clone();
        tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let session: Session = serde_json::from_slice(&question.payload).unwrap();
                assert_eq!(session.ssid, 5);
                let content = serde_json::to_vec(&Answer { replies }).unwrap();
                client.publish(question.reply.unwrap(), content.into()).await.unwrap();
            }
        });
    }
}

/// Afterwards, a silence does not come from the start of the peer.
const JOINED: Duration = Duration::from_secs(15);

fn silent(peer: &str, replies: Option<u32>) -> What {
    What::Silent(Silence {
        peer: format!("{peer}/p").parse().unwrap(),
        address: [10, 0, 0, 9].into(),
        since_ns: realtime_ns(),
        lost: 3,
        session: Session {
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 9].into(),
            source_port: 1910,
            destination_port: 1910,
            ssid: 5,
        },
        replies,
    })
}

/// Ends of the newest windows, by pair.
fn ends(hub: &Hub) -> Vec<(String, String, u64)> {
    let (fleet, matrix) = (hub.fleet(), hub.matrix());
    let host = |id| fleet.port(id).unwrap().name.host.to_string();
    let mut ends: Vec<_> = matrix
        .cells()
        .map(|(from, cell)| (host(from), host(cell.to), cell.end_ns))
        .collect();
    ends.sort();
    ends
}

#[tokio::test]
async fn a_hub_that_restarts_has_all_that_was_acknowledged() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let hub = fleet.hub("hub1", None).await;
    let now_ns = realtime_ns();
    fleet.port("a").measure(now_ns, &[("b", 0), ("c", 5)]).await;
    fleet.port("b").measure(now_ns, &[("a", 0)]).await;
    until("three pairs", || hub.matrix().len() == 3).await;
    hub.stop().await;
    drop(hub);
    // While no hub is there, hosts measure on; one sends what it had kept.
    fleet.port("a").measure(now_ns + 5 * S, &[("b", 0), ("c", 0)]).await;
    fleet.port("c").measure(now_ns - 60 * S, &[("b", 0)]).await;
    let hub = fleet.hub("hub1", None).await;
    until("four pairs", || hub.matrix().len() == 4 && hub.figures().is_current).await;
    let pair = |from: &str, to: &str, end_ns| (from.to_owned(), to.to_owned(), end_ns);
    let (new, old) = (now_ns + 5 * S, now_ns - 60 * S);
    let want = [
        pair("a", "b", new),
        pair("a", "c", new),
        pair("b", "a", now_ns),
        pair("c", "b", old),
    ];
    assert_eq!(ends(&hub), want);
    assert_eq!(hub.figures().batches, 4);
    hub.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn the_past_of_a_pair_is_read_from_the_stream() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let hub = fleet.hub("hub1", None).await;
    let now_ns = realtime_ns();
    let (from, to) = ("a/p".parse().unwrap(), "b/p".parse().unwrap());
    for minute in (0..20).rev() {
        let end_ns = now_ns - minute * 60 * S;
        fleet.port("a").measure(end_ns, &[("b", minute), ("c", 0)]).await;
        fleet.port("b").measure(end_ns, &[("a", 0)]).await;
    }
    let read = async |minutes: std::ops::Range<u64>, limit| {
        let range = Range {
            from_ns: now_ns - minutes.end * 60 * S,
            to_ns: now_ns - minutes.start * 60 * S,
            limit,
        };
        let history = history::windows(&hub, &from, &to, range).await.unwrap();
        let lost = |window: &Window| window.counts.as_ref().unwrap().lost();
        let losses: Vec<_> = history.windows.iter().map(|timed| lost(&timed.window)).collect();
        (losses, history.is_cut, history.sum())
    };
    let (losses, is_cut, sum) = read(0..30, 100).await;
    assert_eq!((losses, is_cut), ((0..20).collect(), false));
    assert_eq!((sum.counts.sent, sum.counts.lost_forward), (2000, 190));
    assert_eq!(sum.rtt.unwrap().count(), 2000);
    assert_eq!(read(3..7, 100).await.0, [3, 4, 5, 6]);
    let (losses, is_cut, _) = read(0..30, 5).await;
    assert_eq!((losses, is_cut), ((0..5).collect(), true));
    assert_eq!(read(30..40, 5).await.0, [0; 0]);
    hub.stop().await;
    fleet.stop().await;
}

/// Hands over what is posted to it.
fn receiver() -> (String, mpsc::UnboundedReceiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, posted) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            let body = loop {
                let length = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..length]);
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
                if let Some(body) = body.and_then(|body| serde_json::from_str(body).ok()) {
                    break body;
                }
                assert!(length > 0, "{text}");
            };
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .unwrap();
            if sender.send(body).is_err() {
                return;
            }
        }
    });
    (url, posted)
}

#[tokio::test]
async fn a_silent_pair_is_posted_with_its_direction_and_survives_its_hub() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let (url, mut posted) = receiver();
    let hub = fleet.hub("hub1", Some(url.clone())).await;
    until("it coordinates", || hub.is_coordinator()).await;
    fleet.port("b").answer(Some(103)).await;
    fleet.port("c").answer(Some(100)).await;
    let is_assigned = || hub.fleet().ports().all(|(_, port)| port.assigned.targets.len() == 2);
    until("all are assigned", is_assigned).await;
    for host in ["a", "b", "c"] {
        fleet.port(host).beat(&hub).await;
    }
    let is_confirmed = || {
        let fleet = hub.fleet();
        fleet.ports().all(|(id, _)| fleet.is_confirmed(id))
    };
    until("all know their assignments", is_confirmed).await;
    sleep(JOINED).await;
    for host in ["a", "b", "c"] {
        fleet.port(host).beat(&hub).await;
    }
    for (number, peer) in [(1, "b"), (2, "c")] {
        fleet.port("a").tell(silent(peer, Some(100))).await;
        until("an alert of each", || hub.alerts().raised().count() == number).await;
    }
    let raised: Vec<_> = hub
        .alerts()
        .raised()
        .map(|alert| (alert.kind, alert.direction))
        .collect();
    let want = [Direction::Backward, Direction::Forward].map(|direction| (Kind::Silent, Some(direction)));
    assert_eq!(raised, want);
    let mut post = async || {
        let message = timeout(TEST_TIMEOUT, posted.recv()).await.unwrap().unwrap();
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        format!("{} {} {} {}", text("hub"), text("state"), text("to"), text("direction"))
    };
    assert_eq!(
        [post().await, post().await],
        ["hub1 raised b/p backward", "hub1 raised c/p forward"]
    );
    hub.stop().await;
    drop(hub);
    let hub = fleet.hub("hub2", Some(url)).await;
    until("it coordinates", || hub.is_coordinator()).await;
    let peer = "b/p".parse().unwrap();
    let address = [10, 0, 0, 2].into();
    let silent_ns = S;
    fleet
        .port("a")
        .tell(What::Answering {
            peer,
            address,
            silent_ns,
        })
        .await;
    // The first hub had posted that both were raised.
    assert_eq!(post().await, "hub2 resolved b/p backward");
    assert_eq!(hub.alerts().raised().count(), 1);
    hub.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_host_is_down_without_heartbeats_unless_its_agent_has_ended() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let hub = fleet.hub("hub1", None).await;
    until("it coordinates", || hub.is_coordinator()).await;
    fleet.port("c").announce(true).await;
    // Nothing is expected in the first 15 s.
    let beats = async {
        loop {
            fleet.ports["a"].beat(&hub).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    let down = until("an alert", || hub.alerts().raised().next().is_some());
    tokio::select! {
        () = beats => {}
        () = down => {}
    }
    let raised: Vec<_> = hub.alerts().raised().map(|alert| alert.text.clone()).collect();
    assert_eq!(raised, ["b sends no heartbeats"]);
    fleet.port("b").beat(&hub).await;
    until("it is back", || hub.alerts().raised().next().is_none()).await;
    hub.stop().await;
    fleet.stop().await;
}

#[tokio::test]
async fn queries_are_answered_through_the_server() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let hub = fleet.hub("hub1", None).await;
    let reader = fleet
        .state
        .enroll(&"reader".parse().unwrap(), &[], fleet.servers(), false)
        .unwrap();
    fleet.server.reload();
    let serving = hub.clone();
    hub.spawn(async move {
        let answer = |name: &'static str, query: String| async move {
            match query.as_str() {
                "long" => Ok(vec![b' '; 2 << 20].into()),
                "wrong" => Err((400, "it is wrong".to_owned())),
                _ => Ok(format!("{name}?{query}").into()),
            }
        };
        query::serve(&serving, answer).await.unwrap();
    });
    let asker = query::Asker::new(reader).await.unwrap();
    let ask = async |name, query: &str| loop {
        // The server may still read the accounts.
        match asker.ask(name, query).await {
            Err(query::AskError::NoHub | query::AskError::Unreachable(_)) => sleep(Duration::from_millis(100)).await,
            answer => return answer.map(|body| String::from_utf8(body.to_vec()).unwrap()),
        }
    };
    let asked = timeout(TEST_TIMEOUT, ask("top", "limit=3")).await.unwrap();
    assert_eq!(asked.unwrap(), "top?limit=3");
    for (query, want) in [("wrong", "it is wrong"), ("long", "limit=NUMBER")] {
        let error = ask("hosts", query).await.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    hub.stop().await;
    fleet.stop().await;
}
