//! Hubs with a real server. Without a nats-server (`KSTAMP_NATS_SERVER`, or in PATH) they print `SKIPPED` and pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use async_nats::jetstream::kv::{Entry, Operation, Store};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use prost::Message as _;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::enrol::{HubKeys, Servers, StateDirectory};
use crate::message::assignment::{Assignment, SIGNATURE};
use crate::message::event::Notice;
use crate::message::heartbeat::Heartbeat;
use crate::message::presence::Presence;
use crate::name::{HostName, PortName};
use crate::server::{self, Server};
use crate::{subjects, test_nats};

mod alerting;

const PORTS: u32 = 40;
const TARGETS: usize = 8;

/// A server, and the state directory of its hubs.
struct Place {
    _directory: TempDir,
    state: StateDirectory,
    servers: Servers,
    config: server::Config,
    server: Option<Server>,
}

impl Place {
    async fn start() -> Option<Self> {
        let (directory, state, config) = test_nats::prepare().await?;
        let servers = Servers {
            urls: vec![format!("tls://{}", config.listen)],
            ca: None,
        };
        let mut place = Self {
            _directory: directory,
            state,
            servers,
            config,
            server: None,
        };
        place.start_server().await;
        Some(place)
    }

    async fn stop_server(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    async fn start_server(&mut self) {
        self.server = Some(Server::start(&self.state, self.config.clone()).await.unwrap());
    }

    async fn client(&self) -> Client {
        connection::connect(&self.config("test").credentials, |_| async {})
            .await
            .unwrap()
    }

    /// Every host is enrolled with 10.0.0.0/8.
    fn config(&self, name: &str) -> Config {
        let HubKeys { signing, credentials } = self.state.hub(&"hub".parse().unwrap(), self.servers.clone()).unwrap();
        let allowed = Arc::new(|_: &HostName| Some(vec!["10.0.0.0/8".parse().unwrap()]));
        let limit = stores::Limit {
            age: Duration::from_secs(3600),
            bytes: 1 << 20,
        };
        Config {
            targets: TARGETS,
            // One turn.
            rotation_ns: u64::MAX,
            limits: stores::Limits {
                windows: limit,
                minutes: limit,
                quarters: limit,
                events: limit,
                bucket: 16 << 20,
            },
            ..Config::new(credentials, signing, name.to_owned(), allowed)
        }
    }
}

/// A hub in a thread and runtime of its own, which can be killed.
struct Running {
    hub: Hub,
    kill: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Running {
    async fn start(config: Config) -> Self {
        let (started, hub) = oneshot::channel();
        let (kill, killed) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                started.send(Hub::start(config).await.unwrap()).ok().unwrap();
                let _ = killed.await;
            });
        });
        let hub = hub.await.unwrap();
        Self { hub, kill, thread }
    }

    /// All its tasks end at once, wherever they are.
    fn kill(self) {
        let _ = self.kill.send(());
        self.thread.join().unwrap();
    }
}

async fn until(what: &str, seconds: u64, condition: impl AsyncFn() -> bool) -> Duration {
    let started = Instant::now();
    while !condition().await {
        assert!(
            started.elapsed() < Duration::from_secs(seconds),
            "{what}: not within {seconds} s"
        );
        sleep(Duration::from_millis(100)).await;
    }
    started.elapsed()
}

fn presence(index: u32, address: &str) -> Presence {
    Presence {
        port: format!("h{index}/p").parse().unwrap(),
        boot: 1,
        version: "0".to_owned(),
        addresses: vec![address.parse().unwrap()],
        udp_port: 1910,
        interval_ns: 1_000_000_000,
        max_peers: 64,
        labels: BTreeMap::new(),
        clock: String::new(),
        attach: "socket".to_owned(),
        kernel: String::new(),
        ended: false,
    }
}

async fn announce(presences: &Store, presence: &Presence) {
    let content = serde_json::to_vec(presence).unwrap();
    presences.put(presence.port.tokens(), content.into()).await.unwrap();
}

/// Assignments in the bucket: content and revision by key.
async fn assignments(store: &Store) -> BTreeMap<String, (Vec<u8>, u64)> {
    let mut found = BTreeMap::new();
    for index in 0..PORTS + 10 {
        let key = format!("h{index}.p");
        if let Ok(Some(entry)) = store.entry(&key).await {
            found.insert(key, (entry.value.to_vec(), entry.revision));
        }
    }
    found
}

/// Sends heartbeats of all ports but `silent`, each with the generation that is in the bucket.
async fn beat(client: Client, store: Store, silent: &'static str) {
    loop {
        for (key, (content, _)) in assignments(&store).await {
            if key == silent || content.is_empty() {
                continue;
            }
            let generation = serde_json::from_slice::<Assignment>(&content).unwrap().generation;
            let heartbeat = Heartbeat {
                boot: 1,
                sent_ns: Now::read().utc_ns,
                generation,
                ..Heartbeat::default()
            };
            let subject = format!("kstamp.heartbeat.{key}");
            client.publish(subject, heartbeat.encode_to_vec().into()).await.unwrap();
        }
        sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn another_hub_takes_over_and_changes_nothing() {
    let Some(mut place) = Place::start().await else { return };
    let first = Running::start(place.config("first")).await;
    until("the first hub coordinates", 5, async || first.hub.is_coordinator()).await;
    let second = Running::start(place.config("second")).await;

    let client = place.client().await;
    let jetstream = jetstream::new(client.clone());
    let presences = jetstream.get_key_value(subjects::PRESENCE).await.unwrap();
    let store = jetstream.get_key_value(subjects::ASSIGNMENT).await.unwrap();
    for index in 0..PORTS {
        announce(&presences, &presence(index, &format!("10.0.0.{}", index + 1))).await;
    }
    let beating = tokio::spawn(beat(client.clone(), store.clone(), ""));
    let confirmed = |hub: &Hub, ports: u32| {
        let fleet = hub.fleet();
        let ids: Vec<_> = fleet.ports().map(|(id, _)| id).collect();
        ids.len() == ports as usize
            && ids
                .iter()
                .all(|id| fleet.is_confirmed(*id) && !fleet.targets(*id).is_empty())
    };
    until("all ports confirm", 20, async || {
        confirmed(&first.hub, PORTS) && confirmed(&second.hub, PORTS)
    })
    .await;
    let before = assignments(&store).await;
    assert_eq!(before.len(), PORTS as usize);

    assert!(!second.hub.is_coordinator());
    first.kill();
    let taken = until("the second hub coordinates", 15, async || second.hub.is_coordinator()).await;
    println!("taken over after {taken:.1?}");
    assert_eq!(second.hub.coordinator().as_deref(), Some("second"));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(assignments(&store).await, before, "entries or revisions");

    // It goes on.
    announce(&presences, &presence(PORTS, "10.0.1.1")).await;
    until("a new port is assigned", 10, async || confirmed(&second.hub, PORTS + 1)).await;

    // A hub that was suspended writes late, over an entry that it knew.
    let (content, revision) = assignments(&store).await["h0.p"].clone();
    let right: Assignment = serde_json::from_slice(&content).unwrap();
    let late = Assignment {
        targets: Vec::new(),
        generation: right.generation + 1,
        ..right.clone()
    };
    store
        .update("h0.p", serde_json::to_vec(&late).unwrap().into(), revision)
        .await
        .unwrap();
    until("the late entry is replaced", 10, async || {
        let entry = store.entry("h0.p").await.unwrap().unwrap();
        let now: Assignment = serde_json::from_slice(&entry.value).unwrap();
        now.generation > late.generation && now.targets == right.targets
    })
    .await;

    // A hub that ends gives the lease up.
    let third = Running::start(place.config("third")).await;
    second.hub.stop().await;
    let taken = until("the third hub coordinates", 5, async || third.hub.is_coordinator()).await;
    println!("taken over {taken:.1?} after it was given up");
    beating.abort();
    second.kill();
    third.kill();
    place.stop_server().await;
}

#[tokio::test]
async fn agents_get_signed_assignments_and_notices() {
    let Some(mut place) = Place::start().await else { return };
    let config = place.config("hub");
    let public = KeyPair::from_public_key(&config.credentials.hub).unwrap();
    let hub = Hub::start(config).await.unwrap();
    let host = "h1".parse().unwrap();
    let credentials = place
        .state
        .enroll(&host, &["10.0.0.0/8".parse().unwrap()], place.servers.clone(), false)
        .unwrap();
    place.server.as_ref().unwrap().reload();
    let agent = connection::connect(&credentials, |_| async {}).await.unwrap();
    let port: PortName = "h1/p".parse().unwrap();
    let entry = subjects::entry(subjects::ASSIGNMENT, &port.tokens());
    let mut entries = agent.subscribe(entry).await.unwrap();
    let mut notices = agent.subscribe(subjects::notice(&port)).await.unwrap();
    agent.flush().await.unwrap();

    let presences = hub.jetstream().get_key_value(subjects::PRESENCE).await.unwrap();
    announce(&presences, &presence(1, "10.0.0.1")).await;
    announce(&presences, &presence(2, "10.0.0.2")).await;
    let message = timeout(Duration::from_secs(20), entries.next()).await.unwrap().unwrap();
    let headers: &HeaderMap = message.headers.as_ref().unwrap();
    let signature = headers.get(SIGNATURE).unwrap().as_str();
    let assignment = Assignment::verify(&message.payload, signature, &public, &port).unwrap();
    assert_eq!(assignment.targets[0].port.to_string(), "h2/p");
    assert_eq!(assignment.probers, assignment.targets);

    announce(&presences, &presence(1, "192.0.2.1")).await;
    let message = timeout(Duration::from_secs(20), notices.next()).await.unwrap().unwrap();
    let notice: Notice = serde_json::from_slice(&message.payload).unwrap();
    assert!(notice.line.contains("192.0.2.1"), "{}", notice.line);
    hub.stop().await;
    place.stop_server().await;
}

#[tokio::test]
async fn a_hub_goes_on_when_the_server_comes_back_and_deletes_ports_that_are_gone() {
    let Some(mut place) = Place::start().await else { return };
    let config = Config {
        gone_ns: 15_000_000_000,
        ..place.config("hub")
    };
    let hub = Hub::start(config).await.unwrap();
    let client = place.client().await;
    let jetstream = jetstream::new(client.clone());
    let presences = jetstream.get_key_value(subjects::PRESENCE).await.unwrap();
    let store = jetstream.get_key_value(subjects::ASSIGNMENT).await.unwrap();
    for index in 0..3 {
        announce(&presences, &presence(index, &format!("10.0.0.{}", index + 1))).await;
    }
    let beating = tokio::spawn(beat(client.clone(), store.clone(), "h2.p"));
    let targets = |index: u32| {
        let fleet = hub.fleet();
        let id = fleet.id(&format!("h{index}/p").parse().unwrap());
        id.map(|id| fleet.targets(id).len())
    };
    until("three ports are assigned", 20, async || targets(0) == Some(2)).await;

    place.stop_server().await;
    sleep(Duration::from_secs(2)).await;
    place.start_server().await;
    until("the server answers", 20, async || presences.status().await.is_ok()).await;
    announce(&presences, &presence(3, "10.0.0.4")).await;
    let taken = until("a new port is assigned", 30, async || {
        targets(3).is_some_and(|number| number >= 2)
    })
    .await;
    println!("assigned {taken:.1?} after the server came back");

    until("a silent port is deleted", 60, async || targets(2).is_none()).await;
    let is_deleted = |entry: Option<Entry>| entry.is_none_or(|entry| entry.operation != Operation::Put);
    assert!(is_deleted(presences.entry("h2.p").await.unwrap()));
    assert!(is_deleted(store.entry("h2.p").await.unwrap()));
    until("the others do not probe it", 10, async || {
        targets(0) == Some(2) && targets(3) == Some(2)
    })
    .await;
    beating.abort();
    hub.stop().await;
    place.stop_server().await;
}

#[tokio::test]
async fn ports_of_a_bucket_that_was_lost_are_forgotten_until_they_come_back() {
    let Some(mut place) = Place::start().await else { return };
    let config = place.config("hub");
    let limits = config.limits;
    let hub = Hub::start(config).await.unwrap();
    let jetstream = jetstream::new(place.client().await);
    let presences = jetstream.get_key_value(subjects::PRESENCE).await.unwrap();
    for index in 0..3 {
        announce(&presences, &presence(index, &format!("10.0.0.{}", index + 1))).await;
    }
    let present = || hub.fleet().candidates().len();
    until("three ports are known", 20, async || present() == 3).await;
    let bucket = format!("KV_{}", subjects::PRESENCE);
    jetstream.delete_stream(bucket).await.unwrap();
    stores::make(&jetstream, &limits, START_TIMEOUT).await.unwrap();
    until("they are forgotten", 60, async || present() == 0).await;
    announce(&presences, &presence(1, "10.0.0.2")).await;
    until("one is back", 20, async || present() == 1).await;
    hub.stop().await;
    place.stop_server().await;
}

#[tokio::test]
async fn a_hub_that_no_server_will_take_ends_at_once_and_says_why() {
    let Some(place) = Place::start().await else { return };
    let mut unknown = place.config("hub");
    unknown.credentials.seed = KeyPair::new_user().seed().unwrap();
    let other = tempfile::tempdir().unwrap();
    let other = StateDirectory::open(&other.path().join("hub")).unwrap();
    let mut foreign = place.config("hub");
    foreign.credentials = other
        .hub(&"hub".parse().unwrap(), place.servers.clone())
        .unwrap()
        .credentials;
    for (config, contains) in [
        (unknown, "does not know the key of this hub"),
        (foreign, "is not from the authority in the credentials"),
    ] {
        let begin = Instant::now();
        let line = format!("{:#}", Hub::start(config).await.err().unwrap());
        assert!(line.contains(contains) && !line.contains('\n'), "{line}");
        assert!(line.contains(&place.servers.urls[0]), "{line}");
        assert!(begin.elapsed() < START_TIMEOUT, "{:?}", begin.elapsed());
    }
}
