//! Agents of a fleet, with a real NATS server. The test plays the hub.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "../../probe-hub/tests/support/nats.rs"]
mod nats;
mod support;

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, kv};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use ipnet::IpNet;
use nats::Prepared;
use nix::sys::signal::Signal;
use probe_hub::connection;
use probe_hub::enrol::{HubKeys, Servers, StateDirectory};
use probe_hub::hub::stores::{self, Limits};
use probe_hub::message::assignment::{Assignment, SIGNATURE, Target};
use probe_hub::message::event::{Answer, Event, What};
use probe_hub::message::presence::Presence;
use probe_hub::message::windows::Batch;
use probe_hub::server::Server;
use probe_hub::subjects::{self, EVENTS, WINDOWS};
use prost::Message as _;
use support::http::{ADDRESS, get};
use support::{FAR_V4, Pair, Running, count, ip, summary};
use tempfile::TempDir;
use tokio::time::timeout;

/// Longest wait of a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Addresses that neither end has in a prefix of its own.
const NEAR_FLEET: &str = "10.71.0.5";
const FAR_FLEET: &str = "10.72.0.6";

/// A server on loopback, and the hub's connection to it.
struct Hub {
    directory: TempDir,
    url: String,
    keys: HubKeys,
    client: Client,
    jetstream: jetstream::Context,
    state: StateDirectory,
    server: Server,
    generation: u64,
}

impl Hub {
    async fn start((directory, state, config): Prepared) -> Self {
        let url = format!("tls://{}", config.listen);
        let server = Server::start(&state, config).await.unwrap();
        let keys = state.hub(&"hub".parse().unwrap(), servers(&url)).unwrap();
        let client = connection::connect(&keys.credentials, |_| async {}).await.unwrap();
        let jetstream = jetstream::new(client.clone());
        stores::make(&jetstream, &Limits::within(64 << 20), TEST_TIMEOUT)
            .await
            .unwrap();
        Self {
            directory,
            url,
            keys,
            client,
            jetstream,
            state,
            server,
            generation: 0,
        }
    }

    /// Writes the credentials of a host to a file.
    fn enroll(&self, host: &str) -> PathBuf {
        let prefixes: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
        let credentials = self
            .state
            .enroll(&host.parse().unwrap(), &prefixes, servers(&self.url), false)
            .unwrap();
        self.server.reload();
        let path = self.directory.path().join(format!("{host}.toml"));
        fs::write(&path, credentials.write()).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    async fn bucket(&self, name: &str) -> kv::Store {
        self.jetstream.get_key_value(name).await.unwrap()
    }

    /// The presence of a port, when it is `wanted`.
    async fn presence(&self, port: &str, wanted: impl Fn(&Presence) -> bool) -> Presence {
        let key = port.replace('/', ".");
        let bucket = self.bucket(subjects::PRESENCE).await;
        let found = async {
            loop {
                let entry = bucket.get(&key).await.unwrap();
                let presence = entry.map(|entry| serde_json::from_slice::<Presence>(&entry).unwrap());
                if let Some(presence) = presence.filter(&wanted) {
                    return presence;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(TEST_TIMEOUT, found).await.expect(port)
    }

    /// Assigns targets and probers, each as `HOST/PORT ADDRESS…`.
    async fn assign(&mut self, port: &str, targets: &[&str], probers: &[&str]) {
        self.generation += 1;
        let read = |texts: &[&str]| -> Vec<Target> {
            let target = |text: &&str| {
                let mut words = text.split_whitespace();
                Target {
                    port: words.next().unwrap().parse().unwrap(),
                    addresses: words.map(|address| address.parse().unwrap()).collect(),
                }
            };
            texts.iter().map(target).collect()
        };
        let assignment = Assignment {
            port: port.parse().unwrap(),
            generation: self.generation,
            targets: read(targets),
            probers: read(probers),
        };
        let (content, signature) = assignment.sign(&self.keys.signing).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE, signature.as_str());
        let subject = subjects::entry(subjects::ASSIGNMENT, &assignment.port.tokens());
        let published = self
            .jetstream
            .publish_with_headers(subject, headers, content.into())
            .await;
        published.unwrap().await.unwrap();
    }

    /// The first event of a port that is `wanted`, since the start.
    async fn event<T>(&self, port: &str, wanted: impl Fn(What) -> Option<T>) -> T {
        let stream = self.jetstream.get_stream(EVENTS.stream).await.unwrap();
        let config = jetstream::consumer::pull::OrderedConfig {
            filter_subject: EVENTS.of(&port.parse().unwrap()),
            ..Default::default()
        };
        let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
        let found = async {
            loop {
                let message = messages.next().await.unwrap().unwrap();
                let event: Event = serde_json::from_slice(&message.payload).unwrap();
                if let Some(found) = wanted(event.what) {
                    return found;
                }
            }
        };
        timeout(TEST_TIMEOUT, found).await.expect("an event")
    }

    /// The server may lose a request while it reloads its configuration.
    async fn batches(&self) -> u64 {
        let stream = async {
            loop {
                match self.jetstream.get_stream(WINDOWS.stream).await {
                    Ok(stream) => return stream,
                    Err(error) => eprintln!("asked again: {error}"),
                }
            }
        };
        let stream = timeout(TEST_TIMEOUT, stream).await.expect("a stream");
        stream.cached_info().state.messages
    }

    /// The processes of which there are windows.
    async fn boots(&self) -> HashSet<u64> {
        let stream = self.jetstream.get_stream(WINDOWS.stream).await.unwrap();
        let mut boots = HashSet::new();
        for number in 1..=self.batches().await {
            let message = stream.get_raw_message(number).await.unwrap();
            boots.insert(Batch::decode(message.payload).unwrap().boot);
        }
        boots
    }
}

/// The credentials of a host whose hub has never run.
fn enrolled(directory: &TempDir) -> PathBuf {
    let state = StateDirectory::open(&directory.path().join("hub")).unwrap();
    let prefixes: [IpNet; 1] = ["10.0.0.0/8".parse().unwrap()];
    let nowhere = servers("tls://127.0.0.1:9");
    let credentials = state.enroll(&"h1".parse().unwrap(), &prefixes, nowhere, false).unwrap();
    let path = directory.path().join("h1.toml");
    fs::write(&path, credentials.write()).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn servers(url: &str) -> Servers {
    Servers {
        urls: vec![url.to_owned()],
        ca: None,
    }
}

/// The flags of an agent that connects from the namespace of this test.
fn flags(interface: &str, credentials: &Path, buffer: &Path) -> String {
    format!(
        "agent --iface {interface} --interval 20ms --timeout 200ms --report 500ms --family v4 --hub-credentials {} \
         --hub-buffer {} --hub-netns /proc/{}/ns/net",
        credentials.display(),
        buffer.display(),
        std::process::id()
    )
}

fn is_up(running: &Running, peer: &str, found: &str) {
    running.await_record(1, "the peer is up", |record| {
        record["event"] == "up" && record["peer"] == peer && record["found"] == found
    });
}

fn await_line(running: &Running, part: &str) {
    let end = Instant::now() + TEST_TIMEOUT;
    while !running.stderr().contains(part) {
        assert!(Instant::now() < end, "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for another window of a peer in which nothing is lost.
fn await_whole_window(running: &Running, peer: &str) {
    let of_it = |record: &serde_json::Value| {
        record["type"] == "window" && record["peer"] == peer && record["path"] == "unicast" && record["lost"] == 0
    };
    let before = running.records().into_iter().filter(of_it).count();
    running.await_record(before + 1, "another window", of_it);
}

#[tokio::test]
async fn ports_are_probed_as_a_hub_assigns_them() {
    check_assignments("").await;
}

#[tokio::test]
async fn the_socket_engine_is_assigned_as_well() {
    check_assignments("--engine socket").await;
}

/// `engine` is a flag of both agents.
async fn check_assignments(engine: &str) {
    let (Some(pair), Some(prepared)) = (Pair::new(), nats::prepare().await) else {
        return;
    };
    for (namespace, port, own, other) in [
        (&pair.near, "port1", NEAR_FLEET, FAR_FLEET),
        (&pair.far, "port2", FAR_FLEET, NEAR_FLEET),
    ] {
        ip(namespace, &format!("address add {own}/32 dev {port}"));
        ip(namespace, &format!("route add {other}/32 dev {port} src {own}"));
    }
    let mut hub = Hub::start(prepared).await;
    // Its agents are another user.
    fs::set_permissions(hub.directory.path(), Permissions::from_mode(0o711)).unwrap();
    let buffer = hub.directory.path().join("buffer");
    let [configuration, far_configuration] = ["near.toml", "far.toml"].map(|name| {
        let path = hub.directory.path().join(name);
        fs::write(&path, "").unwrap();
        path
    });
    let start = |namespace: &str, flags: String, configuration: &Path| {
        let configuration = configuration.display();
        pair.started(
            namespace,
            &format!("{flags} {engine} --no-group --user nobody --config {configuration}"),
        )
    };
    let far = start(
        &pair.far,
        flags("port2", &hub.enroll("h2"), &buffer),
        &far_configuration,
    );
    let near_flags = flags("port1", &hub.enroll("h1"), &buffer) + " --hub-label rack=r7";
    let near = start(&pair.near, near_flags, &configuration);
    assert_eq!(near.await_type("start")["fleet"], "h1/port1");

    // What the ports are.
    let has_address = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        move |presence: &Presence| presence.addresses.contains(&address)
    };
    let presence = hub.presence("h1/port1", has_address(NEAR_FLEET)).await;
    assert_eq!(
        (presence.label("rack"), presence.udp_port, presence.max_peers),
        ("r7", 1910, 64)
    );
    assert_eq!(presence.attach == "socket", !engine.is_empty(), "{}", presence.attach);
    let other = hub.presence("h2/port2", has_address(FAR_FLEET)).await;
    assert_eq!(presence.clock, other.clock, "both read one clock");
    assert_ne!(presence.boot, other.boot);
    ip(&pair.near, "address add 10.73.0.5/32 dev port1");
    hub.presence("h1/port1", has_address("10.73.0.5")).await;

    // An assignment opens the far reflector for the near port, and names targets. Own addresses are none.
    let target = format!("h2/port2 {FAR_FLEET}");
    let prober = format!("h1/port1 {NEAR_FLEET}");
    hub.assign("h2/port2", &[], &[&prober]).await;
    hub.assign("h1/port1", &[&target, &format!("h3/port3 {NEAR_FLEET}")], &[])
        .await;
    is_up(&near, FAR_FLEET, "assigned");
    await_whole_window(&near, FAR_FLEET);
    let why = hub
        .event("h1/port1", |what| match what {
            What::Refused { peer, why, .. } if peer.to_string() == "h3/port3" => Some(why),
            _ => None,
        })
        .await;
    assert_eq!(why, "it is an address of this port itself");

    // A changed configuration and an assignment are independent of each other.
    fs::write(
        &configuration,
        format!("peer = [\"{FAR_V4}\"]\nallow = [\"10.99.0.0/16\"]\n"),
    )
    .unwrap();
    near.signal(Signal::SIGHUP);
    is_up(&near, FAR_V4, "static");
    await_whole_window(&near, FAR_FLEET);
    fs::write(&configuration, "").unwrap();
    near.signal(Signal::SIGHUP);
    near.await_record(1, "the end of the named peer", |record| {
        record["event"] == "down" && record["peer"] == FAR_V4 && record["reason"] == "removed"
    });
    await_whole_window(&near, FAR_FLEET);

    fs::write(&far_configuration, "allow = [\"10.99.0.0/16\"]\n").unwrap();
    far.signal(Signal::SIGHUP);
    await_line(&far, "configuration read again: applied allow");
    await_whole_window(&near, FAR_FLEET);

    // The far port no longer answers: its reflector knows of as many replies as have come, so probes are lost on the way there.
    hub.assign("h2/port2", &[], &[]).await;
    let silence = hub
        .event("h1/port1", |what| match what {
            What::Silent(silence) => Some(silence),
            _ => None,
        })
        .await;
    assert_eq!(
        (silence.peer.to_string().as_str(), silence.address.to_string().as_str()),
        ("h2/port2", FAR_FLEET)
    );
    let question = serde_json::to_vec(&silence.session).unwrap();
    let subject = subjects::question(&"h2/port2".parse().unwrap());
    let answer = hub.client.request(subject, question.into()).await.unwrap();
    let answer: Answer = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer.replies.is_some_and(|replies| replies > 10), "{answer:?}");
    assert_eq!(answer.replies, silence.replies);

    // Answered again, it is up again; given up, it is probed no more.
    hub.assign("h2/port2", &[], &[&prober]).await;
    await_whole_window(&near, FAR_FLEET);
    hub.assign("h1/port1", &[], &[]).await;
    near.await_record(1, "the end of the assigned peer", |record| {
        record["event"] == "down" && record["peer"] == FAR_FLEET && record["reason"] == "removed"
    });

    // The last windows are delivered at the end.
    let (before, ended) = (hub.batches().await, Instant::now());
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    assert!(ended.elapsed() < Duration::from_secs(4));
    let summary = summary(&records, FAR_FLEET, "unicast");
    assert!(count(summary, "received") > 0, "{summary}");
    let delivered = async {
        while hub.batches().await <= before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TEST_TIMEOUT, delivered).await.unwrap();
    let (status, _, stderr) = far.stop();
    assert!(status.success(), "{stderr}");
    hub.server.stop().await;
}

#[tokio::test]
async fn results_wait_for_a_hub_that_is_away() {
    let (Some(pair), Some(prepared)) = (Pair::new(), nats::prepare().await) else {
        return;
    };
    ip(&pair.near, "link set lo up");
    let _far = pair.reflector("--family v4");
    let mut hub = Hub::start(prepared).await;
    let flags = flags("port1", &hub.enroll("h1"), &hub.directory.path().join("buffer"));
    let flags = format!("{flags} --no-group --peer {FAR_V4} --listen {ADDRESS}");
    let metric = |name: &str| -> f64 {
        let page = get(&pair.near, "/metrics").text().to_owned();
        let line = page.lines().find(|line| line.starts_with(name)).expect(name);
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let await_metric = |name: &str, wanted: f64| {
        let end = Instant::now() + TEST_TIMEOUT;
        while metric(name) < wanted {
            assert!(Instant::now() < end, "{name} does not become {wanted}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let away = pair.started(&pair.near, &format!("{flags} --hub tls://127.0.0.1:9"));
    for _ in 0..3 {
        await_whole_window(&away, FAR_V4);
    }
    await_metric("kstamp_hub_batches_waiting ", 1.0);
    assert_eq!(metric("kstamp_hub_connected "), 0.0);
    let ended = Instant::now();
    let (status, records, stderr) = away.stop();
    assert!(status.success(), "{stderr}");
    assert!(ended.elapsed() < Duration::from_secs(5));
    assert_eq!(count(summary(&records, FAR_V4, "unicast"), "lost"), 0);
    assert_eq!(hub.batches().await, 0);

    let back = pair.started(&pair.near, &flags);
    await_metric("kstamp_hub_connected ", 1.0);
    hub.assign("h1/port1", &[], &[]).await;
    await_metric("kstamp_hub_assignment_generation ", 1.0);
    assert_eq!(metric("kstamp_hub_batches_dropped_total "), 0.0);
    await_whole_window(&back, FAR_V4);
    let (status, _, stderr) = back.stop();
    assert!(status.success(), "{stderr}");
    assert_eq!(hub.boots().await.len(), 2, "windows of both processes");
    hub.server.stop().await;
}

#[test]
fn unusable_settings_are_one_line_and_nothing_is_attached() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let credentials = enrolled(&directory);
    let path = credentials.display();
    let table = [
        (
            format!("--hub-credentials {path} --hub-netns /run/netns/no-such"),
            1,
            "--hub-netns: cannot enter the network namespace",
        ),
        (
            format!("--hub-credentials {path} --hub-buffer {path}/b"),
            1,
            "name another one with --hub-buffer",
        ),
        (
            format!("--hub-credentials {path}x"),
            2,
            "--hub-credentials: cannot read the file",
        ),
        (
            format!("--hub-credentials {path} --hub h:4222"),
            2,
            "write tls://HOST:4222",
        ),
    ];
    for (flags, code, part) in table {
        let output = pair.output(&pair.near, &format!("agent --iface port1 {flags}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{flags}: {stderr}");
        assert!(
            stderr.contains(part) && stderr.lines().count() == 1,
            "{flags}: {stderr}"
        );
        assert!(output.stdout.is_empty());
    }
}
