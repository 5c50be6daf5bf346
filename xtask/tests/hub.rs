//! A fleet in the lab, with a real nats-server: hosts in four subnets, a hub, black holes, and what fails.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::{StreamExt as _, TryStreamExt as _};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use probe_hub::connection::connect;
use probe_hub::enrol::{Servers, StateDirectory};
use probe_hub::message::windows::{Batch, MESSAGE_ID};
use probe_hub::name::PortName;
use probe_hub::subjects::{ASSIGNMENT, HUB, LEASE_KEY, WINDOWS};
use prost::Message as _;
use serde_json::Value;
use support::{Agent, Finished, count, kstamp, lab_with};
use xtask::exec::{self, KillOnDrop};
use xtask::fleet::{Fleet, PAGE};
use xtask::lab::{AgentNs, Lab, Options, Topology};
use xtask::setup::{ensure_nats_server, ensure_old_nats_server};

/// How long a fleet may take until all pairs are measured.
const START: Duration = Duration::from_secs(40);

/// A lab with this many hosts, and a nats-server, if there can be both.
fn place(hosts: u8) -> Option<(Lab, PathBuf)> {
    let server = ensure_nats_server();
    if let Err(error) = &server {
        println!("SKIPPED: no nats-server: {error:#}");
    }
    let server = server.ok()?;
    let options = Options {
        agents: hosts,
        ..Options::default()
    };
    lab_with(Topology::Fleet, &options).map(|lab| (lab, server))
}

/// A fleet that runs.
struct Running<'a> {
    lab: &'a Lab,
    server: PathBuf,
    fleet: Fleet<'a>,
    hubs: Vec<Agent>,
    agents: Vec<Agent>,
}

impl<'a> Running<'a> {
    /// Enrols all hosts, and starts a hub, and agents with these arguments.
    fn start(place: &'a (Lab, PathBuf), arguments: &str) -> Self {
        let mut running = Self::enrolled(place);
        running.start_hub();
        running.start_agents(arguments);
        running
    }

    fn enrolled((lab, server): &'a (Lab, PathBuf)) -> Self {
        let fleet = Fleet::new(lab, &kstamp(), server).unwrap();
        for host in lab.agents() {
            fleet.enroll(host).unwrap();
        }
        Self {
            lab,
            server: server.clone(),
            fleet,
            hubs: Vec::new(),
            agents: Vec::new(),
        }
    }

    fn start_hub(&mut self) {
        self.hubs.push(self.program(self.fleet.hub(), ""));
    }

    fn start_agents(&mut self, arguments: &str) {
        let hosts = self.lab.agents().iter();
        self.agents = hosts
            .map(|host| self.program(self.fleet.agent(host), arguments))
            .collect();
    }

    fn program(&self, command: Command, arguments: &str) -> Agent {
        Agent::spawn(&self.lab.scratch().unwrap(), "fleet", command, arguments)
    }

    /// Waits until the API says what is `wanted`, and returns it.
    fn await_api(&self, path: &str, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + limit;
        loop {
            let reply = self.fleet.api(path);
            if let Ok(reply) = &reply
                && wanted(reply)
            {
                return reply.clone();
            }
            assert!(
                Instant::now() < end,
                "no {what} within {limit:?}: {reply:#?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(100));
        }
    }

    fn await_alerts(&self, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.await_api("/api/v1/alerts", limit, what, wanted)
    }

    fn log(&self) -> String {
        let all = self.hubs.iter().chain(&self.agents);
        all.map(Agent::stderr).collect::<Vec<_>>().join("\n")
    }

    /// Waits until each port measures each other.
    fn await_mesh(&self) {
        let hosts = self.lab.agents().len();
        self.await_api("/api/v1/matrix", START, "full mesh", |reply| {
            let pairs = reply["pairs"].as_array().into_iter().flatten();
            let measured = pairs.filter(|pair| pair["stale"] == false && count(pair, "received") > 0);
            measured.count() == hosts * (hosts - 1)
        });
    }

    /// Kills all processes of the hub's namespace.
    fn kill_hub_and_server(&mut self) {
        let hub = self.lab.hub().namespace;
        for pid in exec::run("ip", ["netns", "pids", &hub]).unwrap().lines() {
            kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        }
        self.hubs.clear();
    }

    /// Does work with a connection to the server, as the hub's user.
    fn with_nats<T: Send>(&self, work: impl AsyncFnOnce(jetstream::Context) -> T + Send) -> T {
        let hub = self.lab.hub();
        let state = StateDirectory::open(&self.fleet.state()).unwrap();
        let servers = Servers {
            urls: vec![format!("tls://{}:4222", hub.v4)],
            ca: None,
        };
        let credentials = state.hub(&"test".parse().unwrap(), servers).unwrap().credentials;
        let outcome = self.lab.within(&hub.namespace, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async {
                let client = connect(&credentials, |_| async {}).await.unwrap();
                work(jetstream::new(client)).await
            }))
        });
        outcome.unwrap()
    }

    /// All batches of windows that are in the stream, by message identifier and port.
    fn batches(&self) -> Vec<(String, PortName, Batch)> {
        self.with_nats(async |jetstream| {
            let mut stream = jetstream.get_stream(WINDOWS.stream).await.unwrap();
            let stored = stream.info().await.unwrap().state.messages;
            let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
            let messages = consumer.messages().await.unwrap().take(stored as usize);
            let batch = |message: jetstream::Message| {
                let id = message.headers.as_ref().and_then(|headers| headers.get(MESSAGE_ID));
                let port = PortName::from_tokens(&message.subject).unwrap();
                (id.unwrap().to_string(), port, Batch::decode(&*message.payload).unwrap())
            };
            messages.map_ok(batch).try_collect().await.unwrap()
        })
    }

    /// Each assignment with its revision.
    fn assignments(&self) -> BTreeMap<String, (u64, Vec<u8>)> {
        self.with_nats(async |jetstream| {
            let bucket = jetstream.get_key_value(ASSIGNMENT).await.unwrap();
            let mut assignments = BTreeMap::new();
            let mut keys = bucket.keys().await.unwrap();
            while let Some(key) = keys.try_next().await.unwrap() {
                let entry = bucket.entry(&key).await.unwrap().unwrap();
                assignments.insert(key, (entry.revision, entry.value.to_vec()));
            }
            assignments
        })
    }

    /// Whether this hub has the lease.
    fn coordinates(&self, name: &str) -> bool {
        let entry = self.with_nats(async |jetstream| {
            let bucket = jetstream.get_key_value(HUB).await.ok()?;
            bucket.get(LEASE_KEY).await.ok()?
        });
        let lease = entry.and_then(|entry| serde_json::from_slice::<Value>(&entry).ok());
        lease.is_some_and(|lease| lease["hub"] == name)
    }

    /// Ends all agents, each of which must have succeeded.
    fn stop_agents(&mut self) -> Vec<Finished> {
        self.agents.iter().for_each(|agent| agent.signal(Signal::SIGTERM));
        let end = |agent: Agent| agent.wait(Duration::from_secs(10)).assert_success();
        self.agents.drain(..).map(end).collect()
    }
}

fn raised(reply: &Value) -> Vec<Value> {
    reply["alerts"].as_array().cloned().unwrap_or_default()
}

fn port(host: &AgentNs) -> String {
    format!("{}/{}", host.namespace, host.interface)
}

/// The peers that an agent has measured by group.
fn by_group(agent: &Agent) -> BTreeSet<String> {
    let records = agent.records().into_iter();
    let windows = records.filter(|record| record["type"] == "window" && record["path"] == "group");
    windows
        .filter(|window| count(window, "received") > 0)
        .map(|window| window["peer"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn subnets_meet_and_a_black_hole_is_named_within_five_seconds() {
    let Some(place) = place(6) else { return };
    let hosts = place.0.agents();
    let running = Running::start(&place, "--family v4 --report 1s");
    running.await_mesh();
    running.await_alerts(START, "end of alerts of the start", |reply| raised(reply).is_empty());

    // By multicast, the two first subnets have two hosts, and the others one.
    let neighbours = [Some(4), Some(5), None, None, Some(0), Some(1)];
    for (agent, neighbour) in running.agents.iter().zip(neighbours) {
        let want: BTreeSet<_> = neighbour.map(|index| hosts[index].v4.to_string()).into_iter().collect();
        let is_found = exec::wait_until(START, || by_group(agent) == want);
        assert!(is_found, "{:?}, not {want:?}", by_group(agent));
    }

    let [from, to] = [0, 1].map(|index| port(&hosts[index]));
    let want = BTreeSet::from([
        [&*from, &*to, "forward"].map(str::to_owned),
        [&*to, &*from, "backward"].map(str::to_owned),
    ]);
    let named = |reply: &Value| -> BTreeSet<[String; 3]> {
        let silent = raised(reply).into_iter().filter(|alert| alert["kind"] == "silent");
        let names = ["from", "to", "direction"];
        silent
            .map(|alert| names.map(|name| alert[name].as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    // A silence that begins earlier may come from the start of the peer, and is raised later.
    sleep(Duration::from_secs(15));
    running.lab.black_hole(&hosts[0], &hosts[1]).unwrap();
    let begin = Instant::now();
    let reply = running.await_alerts(Duration::from_secs(5), "alert", |reply| named(reply) == want);
    println!("named after {:?}: {}", begin.elapsed(), reply["alerts"]);
    // No other pair is concerned.
    sleep(Duration::from_secs(5));
    let reply = running.fleet.api("/api/v1/alerts").unwrap();
    assert_eq!(named(&reply), want, "{reply:#}");
    let is_of_pair = |alert: &Value| {
        [(&from, &to), (&to, &from)]
            .iter()
            .any(|(from, to)| alert["from"] == ***from && alert["to"] == ***to)
    };
    assert!(raised(&reply).iter().all(is_of_pair), "{reply:#}");

    running.lab.fill_black_hole(&hosts[0], &hosts[1]).unwrap();
    running.await_alerts(Duration::from_secs(30), "recovery", |reply| raised(reply).is_empty());
}

#[test]
fn nothing_is_missed_while_hub_and_server_are_away() {
    // In place of 10 minutes, of which each report window would have ten seconds.
    const AWAY: Duration = Duration::from_secs(40);
    let Some(place) = place(4) else { return };
    let hosts = place.0.agents();
    let mut running = Running::start(&place, "--family v4 --no-group --interval 200ms --report 1s");
    running.await_mesh();
    running.kill_hub_and_server();
    sleep(AWAY);
    running.start_hub();
    running.await_mesh();
    sleep(Duration::from_secs(10));
    let ended = running.stop_agents();

    let batches = running.batches();
    let ids: BTreeSet<_> = batches.iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), batches.len(), "a batch is there twice");
    for (host, agent) in hosts.iter().zip(&ended) {
        let own = batches.iter().filter(|(_, name, _)| name.to_string() == port(host));
        let own: Vec<_> = own
            .flat_map(|(.., batch)| batch.windows.iter().map(move |window| (batch, window)))
            .collect();
        let spans: BTreeSet<_> = own
            .iter()
            .map(|(batch, window)| (batch.end_ns, &window.address))
            .collect();
        assert_eq!(spans.len(), own.len(), "a window is there twice");
        let reported = agent.of_type("window").len();
        let share = own.len() as f64 / reported as f64;
        println!("{}: {} of {reported} windows", host.namespace, own.len());
        assert!((0.999..=1.0).contains(&share), "{share}");
        for peer in hosts.iter().filter(|peer| peer.v4 != host.v4) {
            let summary = agent.summary(&peer.v4.to_string(), "unicast");
            for field in ["not_sent", "send_failed"] {
                assert_eq!(count(summary, field), 0, "{summary:#}");
            }
            let windows = own
                .iter()
                .filter(|(_, window)| window.address() == Some(peer.v4.into()));
            let sent: u64 = windows.map(|(_, window)| window.counts.unwrap().sent).sum();
            let share = sent as f64 / count(summary, "sent") as f64;
            assert!((0.999..=1.0).contains(&share), "{share}");
        }
        // As scheduled: five probes to each peer in each second, except in the first and last window.
        let mut windows: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for window in agent.of_type("window") {
            windows
                .entry(window["peer"].as_str().unwrap())
                .or_default()
                .push(count(window, "sent"));
        }
        for (peer, sent) in windows {
            let inner = &sent[1..sent.len() - 1];
            assert!(inner.iter().all(|sent| (4..=6).contains(sent)), "{peer}: {sent:?}");
        }
    }
}

#[test]
fn another_hub_takes_over_and_no_assignment_changes() {
    let Some(place) = place(4) else { return };
    let mut running = Running::enrolled(&place);
    // The first hub writes the configuration of the server, which then runs on its own.
    running.start_hub();
    running.await_alerts(START, "hub", |_| true);
    running.hubs.remove(0).stop();
    let hub = running.lab.hub();
    let configuration = running.fleet.state().join("nats.conf");
    let mut server = running.lab.command(
        &hub.namespace,
        &running.server,
        ["-c".as_ref(), configuration.as_os_str()],
    );
    let _server = support::start(server.stdout(Stdio::null()).stderr(Stdio::null()));
    let standby = running.fleet.state().with_extension("standby");
    exec::run(
        "cp",
        ["-a".as_ref(), running.fleet.state().as_os_str(), standby.as_os_str()],
    )
    .unwrap();
    let start = |name: &str, state: &PathBuf, listen: &str| {
        let mut command = running
            .lab
            .command(&hub.namespace, kstamp(), ["hub", "--name", name, "--listen", listen]);
        command.arg("--state").arg(state);
        command.args(["--nats", &format!("tls://{}:4222", hub.v4)]);
        running.program(command, "")
    };
    let one = start("one", &running.fleet.state(), "none");
    assert!(
        exec::wait_until(START, || running.coordinates("one")),
        "{}",
        one.stderr()
    );
    let two = start("two", &standby, PAGE);
    running.hubs = vec![one, two];
    running.start_agents("--family v4 --no-group --report 1s");
    running.await_mesh();
    let before = running.assignments();
    running.hubs[0].signal(Signal::SIGKILL);
    let begin = Instant::now();
    let took_over = exec::wait_until(Duration::from_secs(15), || running.coordinates("two"));
    println!("taken over after {:?}", begin.elapsed());
    assert!(took_over, "{}", running.log());
    sleep(Duration::from_secs(10));
    assert_eq!(before.len(), 4);
    assert_eq!(running.assignments(), before);
    running.await_mesh();
}

#[test]
fn four_busy_processes_raise_no_alert() {
    // In place of an hour.
    const TIME: Duration = Duration::from_secs(120);
    let Some(place) = place(4) else { return };
    let running = Running::start(&place, "--family v4 --report 1s");
    running.await_mesh();
    let busy = |_| {
        let mut command = Command::new("sh");
        KillOnDrop(exec::spawn(command.args(["-c", "while :; do :; done"])).unwrap())
    };
    let busy: Vec<_> = (0..4).map(busy).collect();
    let resolved = |reply: &Value| reply["resolved"].as_array().map_or(0, Vec::len);
    let before = running.await_alerts(START, "end of alerts of the start", |reply| raised(reply).is_empty());
    sleep(TIME);
    drop(busy);
    let after = running.await_alerts(Duration::from_secs(20), "reply", |_| true);
    assert_eq!(raised(&after), [Value::Null; 0], "{after:#}");
    assert_eq!(resolved(&after), resolved(&before), "{after:#}");
}

#[test]
fn problems_are_one_line_and_measuring_goes_on() {
    let Some(place) = place(4) else { return };
    let hosts = place.0.agents();
    let mut running = Running::enrolled(&place);
    // The file of agent2 no longer counts, and agent3 says that it is agent1.
    let replaced = running.fleet.state().with_file_name("replaced.toml");
    let mut replace = running
        .fleet
        .at_hub(&["hub", "enroll", "agent2", "--replace", "--prefix", "10.2.0.0/16"]);
    exec::capture(replace.arg("--output").arg(&replaced)).unwrap();
    running.start_hub();
    let other = &hosts[2].namespace;
    for command in [
        "link add port1 type veth peer name far1",
        "addr add 10.2.3.200/24 dev port1",
        "link set far1 up",
        "link set port1 up",
    ] {
        exec::run("ip", ["-n", other].into_iter().chain(command.split(' '))).unwrap();
    }
    let arguments = "--family v4 --report 1s --allow 10.2.0.0/16 --peer 10.2.4.8";
    let mut impostor = running.lab.command(other, kstamp(), ["agent", "--iface", "port1"]);
    impostor
        .arg("--hub-credentials")
        .arg(running.fleet.credentials("agent1"))
        .arg("--hub-buffer")
        .arg(running.fleet.state().with_file_name("impostor.buffer"));
    let far = running.program(
        running.fleet.agent(&hosts[3]),
        "--family v4 --report 1s --allow 10.2.0.0/16",
    );
    // Until it reflects, whole windows have no reply.
    far.await_start(START);
    running.agents = vec![
        running.program(running.fleet.agent(&hosts[0]), arguments),
        running.program(running.fleet.agent(&hosts[1]), arguments),
        far,
    ];
    running.await_api("/api/v1/ports", START, "port of agent1", |reply| {
        let ports = reply["ports"].as_array().into_iter().flatten();
        ports.into_iter().any(|port| port["port"] == "agent1/port1")
    });
    running.agents.push(running.program(impostor, arguments));

    let lines = |agent: &Agent, what: &str| agent.stderr().lines().filter(|line| line.contains(what)).count();
    let refused = "the hub's server cannot be used";
    assert!(
        exec::wait_until(START, || lines(&running.agents[1], refused) > 0),
        "{}",
        running.log()
    );
    running.await_alerts(START, "conflict of names", |reply| {
        let mut alerts = raised(reply).into_iter();
        alerts.any(|alert| alert["kind"] == "name_conflict" && alert["port"] == "agent1/port1")
    });
    sleep(Duration::from_secs(10));
    let agents = [&running.agents[0], &running.agents[1]];
    println!("{}", running.log());
    assert_eq!(lines(agents[1], refused), 1, "{}", agents[1].stderr());
    for agent in agents {
        let is_window = |record: &&Value| record["type"] == "window" && record["peer"] == "10.2.4.8";
        let records = agent.records();
        let windows: Vec<_> = records.iter().filter(is_window).collect();
        assert!(windows.len() > 5 && windows.iter().skip(1).all(|window| count(window, "received") > 0));
    }
}

#[test]
fn a_server_that_is_too_old_is_named() {
    let old = ensure_old_nats_server();
    if let Err(error) = &old {
        println!("SKIPPED: no old nats-server: {error:#}");
    }
    let (Ok(old), Some(place)) = (old, place(2)) else {
        return;
    };
    let fleet = Fleet::new(&place.0, &kstamp(), &old).unwrap();
    let output = exec::output(&mut fleet.hub()).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("2.9.") && stderr.contains("2.11"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
