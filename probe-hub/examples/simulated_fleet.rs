//! Sends what very many agents would send, and takes their assignments: `cargo xtask bench fleet` runs it.
//!
//! Each host has one connection, over which all its ports speak, with the encoders of agents. Delays are drawn, and nothing is
//! probed. Prints a line of JSON when all ports have an assignment, and one at the end.
//!
//! Usage: simulated_fleet PORTS SECONDS CREDENTIALS...

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use probe_core::stats::distribution::Distribution;
use probe_core::stats::report::Counts;
use probe_hub::connection::{self, REQUEST_TIMEOUT, connect};
use probe_hub::credentials::Credentials;
use probe_hub::message::assignment::{Assignment, SIGNATURE, Target};
use probe_hub::message::heartbeat::{self, Heartbeat};
use probe_hub::message::presence::{Presence, RACK, ZONE};
use probe_hub::message::windows::{Batch, Clock, Delay, Histogram, MESSAGE_ID, Probe, Window, address_bytes};
use probe_hub::name::PortName;
use probe_hub::subjects::{self, ASSIGNMENT, MINUTES, PRESENCE, Results, WINDOWS};
use prost::Message as _;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

/// As agents of a fleet have by default: two probes a second, and a window in seven seconds.
const REPORT: Duration = Duration::from_secs(7);
const PROBES: usize = 14;
const MINUTE: Duration = Duration::from_secs(60);
/// Batches of one port that wait for the server: more are counted as lost.
const MAX_WAITING: u32 = 4;
/// Different windows; each is sent very often.
const DRAWN: usize = 64;
const HOSTS_OF_A_RACK: usize = 10;
const RACKS_OF_A_ZONE: usize = 5;
/// How long all assignments may take.
const ASSIGNMENT_TIMEOUT: Duration = Duration::from_secs(600);
/// Time without an assignment after which they count as complete.
const SETTLED: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Counters {
    sent: Cell<u64>,
    acknowledged: Cell<u64>,
    failed: Cell<u64>,
    windows: Cell<u64>,
    bytes: Cell<u64>,
    heartbeats: Cell<u64>,
    assignments: Cell<u64>,
    assignment_bytes: Cell<u64>,
    refused: Cell<u64>,
    slowest_ack_ns: Cell<u64>,
}

fn add(counter: &Cell<u64>, more: u64) {
    counter.set(counter.get() + more);
}

/// What all ports share.
struct Fleet {
    counters: Counters,
    /// Ports that have an assignment with targets, and when the last one and the last of all came.
    assigned: Cell<usize>,
    all_assigned: Cell<Option<Instant>>,
    last_assignment: Cell<Instant>,
    ports: usize,
    minutes: Vec<Window>,
    windows: Vec<Window>,
}

struct Port {
    name: PortName,
    number: usize,
    boot: u64,
    assignment: RefCell<Option<Assignment>>,
    waiting: Cell<u32>,
}

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let mut number = |what| -> Result<usize> {
        let text = arguments.next().with_context(|| format!("no {what}"))?;
        text.parse().with_context(|| format!("{what}: {text}"))
    };
    let (ports, seconds) = (number("number of ports")?, number("number of seconds")?);
    let credentials: Vec<_> = arguments
        .map(|path| {
            Ok(Credentials::read(
                &fs::read_to_string(&path).with_context(|| path.clone())?,
            )?)
        })
        .collect::<Result<_>>()?;
    ensure!(!credentials.is_empty(), "no credentials");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    runtime.block_on(local.run_until(run(ports, Duration::from_secs(seconds as u64), credentials)))
}

async fn run(ports: usize, duration: Duration, hosts: Vec<Credentials>) -> Result<()> {
    let mut draw = Draw(1);
    let fleet = Rc::new(Fleet {
        counters: Counters::default(),
        assigned: Cell::new(0),
        all_assigned: Cell::new(None),
        last_assignment: Cell::new(Instant::now()),
        ports,
        windows: (0..DRAWN).map(|_| draw.window(PROBES)).collect(),
        minutes: (0..DRAWN).map(|_| draw.roll_up(PROBES * 6)).collect(),
    });
    let mut clients = Vec::new();
    for host in &hosts {
        clients.push(connected(host).await?);
    }
    let begin = Instant::now();
    for (index, (credentials, client)) in hosts.iter().zip(&clients).enumerate() {
        let own: Vec<_> = (index..ports)
            .step_by(hosts.len())
            .map(|number| Rc::new(Port::new(credentials, number)))
            .collect();
        tokio::task::spawn_local(assignments(
            Rc::clone(&fleet),
            client.clone(),
            credentials.hub.clone(),
            own.clone(),
        ));
        for port in own {
            let presence = port.presence(index);
            tokio::task::spawn_local(speak(Rc::clone(&fleet), client.clone(), port, presence, begin));
        }
    }
    let all_assigned = timeout(ASSIGNMENT_TIMEOUT, async {
        loop {
            sleep(Duration::from_millis(100)).await;
            match fleet.all_assigned.get() {
                Some(at) if fleet.last_assignment.get().elapsed() >= SETTLED => return at,
                _ => {}
            }
        }
    });
    let all_assigned = all_assigned
        .await
        .with_context(|| format!("{} of {ports} ports have an assignment", fleet.assigned.get()))?;
    let counters = &fleet.counters;
    let of = |at: Instant| (at - begin).as_secs_f64();
    println!(
        "{}",
        serde_json::json!({
            "all_assigned_s": of(all_assigned),
            "last_assignment_s": of(fleet.last_assignment.get()),
            "assignments": counters.assignments.get(),
            "assignment_bytes": counters.assignment_bytes.get(),
        })
    );
    let before = (counters.windows.get(), counters.bytes.get(), counters.sent.get());
    sleep(duration).await;
    println!(
        "{}",
        serde_json::json!({
            "windows": counters.windows.get() - before.0,
            "bytes": counters.bytes.get() - before.1,
            "batches": counters.sent.get() - before.2,
            "sent": counters.sent.get(),
            "acknowledged": counters.acknowledged.get(),
            "failed": counters.failed.get(),
            "refused_assignments": counters.refused.get(),
            "heartbeats": counters.heartbeats.get(),
            "slowest_ack_ns": counters.slowest_ack_ns.get(),
        })
    );
    Ok(())
}

async fn connected(credentials: &Credentials) -> Result<Client> {
    let client = connect(credentials, |_| async {}).await?;
    timeout(Duration::from_secs(30), client.flush())
        .await
        .with_context(|| format!("{} does not connect", credentials.name))??;
    Ok(client)
}

/// Takes the assignments of the ports of one host.
async fn assignments(fleet: Rc<Fleet>, client: Client, hub: String, ports: Vec<Rc<Port>>) -> Result<()> {
    let key = KeyPair::from_public_key(&hub)?;
    let host = &ports.first().context("no port")?.name.host;
    let mut messages = client
        .subscribe(subjects::entry(ASSIGNMENT, &format!("{host}.*")))
        .await?;
    let ports: HashMap<_, _> = ports.iter().map(|port| (port.name.clone(), port)).collect();
    while let Some(message) = messages.next().await {
        let Some(port) = PortName::from_tokens(&message.subject).and_then(|name| ports.get(&name)) else {
            continue;
        };
        let signature = message.headers.as_ref().and_then(|headers| headers.get(SIGNATURE));
        let signature = signature.map_or("", |signature| signature.as_str());
        let Ok(assignment) = Assignment::verify(&message.payload, signature, &key, &port.name) else {
            add(&fleet.counters.refused, 1);
            continue;
        };
        add(&fleet.counters.assignments, 1);
        add(&fleet.counters.assignment_bytes, message.payload.len() as u64);
        let now = Instant::now();
        fleet.last_assignment.set(now);
        let before = port.assignment.replace(Some(assignment));
        if before.is_none() {
            fleet.assigned.set(fleet.assigned.get() + 1);
            if fleet.assigned.get() == fleet.ports {
                fleet.all_assigned.set(Some(now));
            }
        }
        // An agent confirms at once.
        let _ = client
            .publish(subjects::heartbeat(&port.name), port.heartbeat().into())
            .await;
    }
    Ok(())
}

/// Sends what one port sends.
async fn speak(fleet: Rc<Fleet>, client: Client, port: Rc<Port>, presence: Presence, begin: Instant) -> Result<()> {
    let tokens = port.name.tokens();
    let stream = format!("KV_{ASSIGNMENT}");
    let (entry, content) = (subjects::entry(PRESENCE, &tokens), serde_json::to_vec(&presence)?);
    while connection::publish(&client, entry.clone(), HeaderMap::new(), content.clone())
        .await
        .is_err()
    {
        add(&fleet.counters.failed, 1);
        sleep(Duration::from_secs(1)).await;
    }
    let newest = subjects::newest(&stream, &subjects::entry(ASSIGNMENT, &tokens));
    // There is none yet, but an agent asks.
    let _ = timeout(REQUEST_TIMEOUT, client.request(newest, "".into())).await;
    let share = port.number as f64 / fleet.ports as f64;
    let heartbeat = Duration::from_nanos(heartbeat::INTERVAL_NS);
    let mut heartbeats = interval_at(begin + heartbeat.mul_f64(share), heartbeat);
    let mut reports = interval_at(begin + REPORT.mul_f64(share), REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut numbers = HashMap::new();
    let mut minute = unix_ns() / MINUTE.as_nanos() as u64;
    loop {
        tokio::select! {
            _ = heartbeats.tick() => {
                client.publish(subjects::heartbeat(&port.name), port.heartbeat().into()).await?;
                add(&fleet.counters.heartbeats, 1);
            }
            _ = reports.tick() => {
                let mut send = |results: Results, drawn: &[Window], length: Duration| {
                    let number = numbers.entry(results.stream).or_insert(0);
                    *number += 1;
                    if let Some(batch) = port.batch(*number, drawn, length) {
                        tokio::task::spawn_local(publish(
                            Rc::clone(&fleet),
                            client.clone(),
                            Rc::clone(&port),
                            results,
                            batch,
                        ));
                    }
                };
                send(WINDOWS, &fleet.windows, REPORT);
                let now = unix_ns() / MINUTE.as_nanos() as u64;
                if std::mem::replace(&mut minute, now) != now {
                    send(MINUTES, &fleet.minutes, MINUTE);
                }
            }
        }
    }
}

/// Sends a batch, and waits until the server has stored it.
async fn publish(fleet: Rc<Fleet>, client: Client, port: Rc<Port>, results: Results, batch: Batch) {
    let counters = &fleet.counters;
    if port.waiting.get() >= MAX_WAITING {
        return add(&counters.failed, 1);
    }
    port.waiting.set(port.waiting.get() + 1);
    let subject = results.of(&port.name);
    let mut headers = HeaderMap::new();
    headers.insert(MESSAGE_ID, batch.id(&subject));
    let payload = batch.encode_to_vec();
    add(&counters.sent, 1);
    add(&counters.windows, batch.windows.len() as u64);
    add(&counters.bytes, payload.len() as u64);
    let begin = Instant::now();
    match connection::publish(&client, subject, headers, payload).await {
        Ok(_) => add(&counters.acknowledged, 1),
        Err(_) => add(&counters.failed, 1),
    }
    let took = begin.elapsed().as_nanos() as u64;
    counters.slowest_ack_ns.set(counters.slowest_ack_ns.get().max(took));
    port.waiting.set(port.waiting.get() - 1);
}

impl Port {
    fn new(credentials: &Credentials, number: usize) -> Self {
        Self {
            name: PortName {
                host: credentials.name.clone(),
                interface: format!("p{number}"),
            },
            number,
            boot: unix_ns() ^ (number as u64) << 32,
            assignment: RefCell::default(),
            waiting: Cell::default(),
        }
    }

    fn presence(&self, host: usize) -> Presence {
        let rack = host / HOSTS_OF_A_RACK;
        let [_, b, c, d] = (self.number as u32 + 1).to_be_bytes();
        Presence {
            port: self.name.clone(),
            boot: self.boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: vec![Ipv4Addr::new(10, b, c, d).into()],
            udp_port: 1910,
            interval_ns: (REPORT / PROBES as u32).as_nanos() as u64,
            max_peers: 64,
            labels: [
                (RACK.to_owned(), format!("rack{rack}")),
                (ZONE.to_owned(), format!("zone{}", rack / RACKS_OF_A_ZONE)),
            ]
            .into(),
            clock: format!("{host:016x}"),
            attach: "xdp-native".to_owned(),
            kernel: "6.12.0".to_owned(),
            ended: false,
        }
    }

    fn heartbeat(&self) -> Vec<u8> {
        let assignment = self.assignment.borrow();
        let peers = assignment
            .as_ref()
            .map_or(0, |assignment| assignment.targets.len() as u32);
        let heartbeat = Heartbeat {
            boot: self.boot,
            sent_ns: unix_ns(),
            generation: assignment.as_ref().map_or(0, |assignment| assignment.generation),
            peers,
            up: peers,
            ..Heartbeat::default()
        };
        heartbeat.encode_to_vec()
    }

    /// A window of each target; `None` without an assignment.
    fn batch(&self, number: u64, drawn: &[Window], length: Duration) -> Option<Batch> {
        let assignment = self.assignment.borrow();
        let targets = &assignment.as_ref()?.targets;
        let end_ns = unix_ns();
        let window = |(index, Target { port, addresses }): (usize, &Target)| Window {
            address: address_bytes(addresses.first().copied().unwrap_or(IpAddr::from([0; 4]))),
            peer: port.to_string(),
            ..drawn[(self.number + 7 * index + number as usize) % drawn.len()].clone()
        };
        Some(Batch {
            boot: self.boot,
            number,
            start_ns: end_ns - length.as_nanos() as u64,
            end_ns,
            windows: targets.iter().enumerate().map(window).collect(),
        })
    }
}

/// Draws delays: xorshift, so that every run sends the same.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// About `base_ns`, and above it with a long tail.
    fn delay(&mut self, base_ns: u64) -> i64 {
        let uniform = (self.next() % 1_000_000 + 1) as f64 / 1e6;
        (base_ns as f64 * (1.0 - 0.2 * uniform.ln())) as i64
    }

    fn delays(&mut self, base_ns: u64, count: usize) -> Distribution {
        let mut delays = Distribution::default();
        (0..count).for_each(|_| delays.record(self.delay(base_ns)));
        delays
    }

    /// Of `count` probes, and sometimes one is lost.
    fn window(&mut self, count: usize) -> Window {
        let slowest_ns = unix_ns();
        Window {
            probes: vec![Probe {
                seq: 1_000_000 + (self.next() % 1_000_000) as u32,
                t1_ns: slowest_ns,
                t2_ns: slowest_ns + 300_000,
                t3_ns: slowest_ns + 306_000,
                t4_ns: slowest_ns + 600_000,
                rtt_ns: 594_000,
            }],
            residence: plain(&self.delays(6_000, count)),
            forward: plain(&self.delays(300_000, count)),
            backward: plain(&self.delays(300_000, count)),
            ..self.roll_up(count)
        }
    }

    /// As [`Self::window`], with all histograms and without single probes.
    fn roll_up(&mut self, count: usize) -> Window {
        let lost = u64::from(self.next().is_multiple_of(20));
        let counts = Counts {
            sent: count as u64,
            received: count as u64 - lost,
            lost_forward: lost,
            ..Counts::default()
        };
        let base_ns = 200_000 + self.next() % 2_000_000;
        Window {
            counts: Some(counts.into()),
            rtt: full(&self.delays(base_ns, count)),
            residence: full(&self.delays(6_000, count)),
            forward: full(&self.delays(base_ns / 2, count)),
            backward: full(&self.delays(base_ns / 2, count)),
            clock: Clock::Estimated.into(),
            clock_bound_ns: base_ns / 2,
            ..Window::default()
        }
    }
}

fn plain(delays: &Distribution) -> Option<Delay> {
    delays.summary().map(|summary| Delay::new(&summary, None))
}

fn full(delays: &Distribution) -> Option<Delay> {
    let histogram = Histogram::from(&delays.native());
    delays.summary().map(|summary| Delay::new(&summary, Some(histogram)))
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as u64
}
