//! Whether the controller's traffic takes the way of least delay, and what becomes of it when a link is cut.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::links::{assert_only_edges_are_used, is_edge, latest};
use support::observer::Observer;
use support::{Agent, can_run, count};
use xtask::exec;
use xtask::lab::{AgentNs, Lab, Options, SWITCHES, Topology};

#[test]
fn the_arpanet_is_found_used_and_survives_a_cut() {
    if !can_run() {
        return;
    }
    support::kstamp();
    let lab = Lab::up(Topology::Arpanet, &Options::default()).unwrap();
    let observer = Observer::start(SWITCHES);
    let controller = Agent::controller(&lab, &["--report", "500ms"]);
    // From when it listens: switches try once in a second or two.
    controller.await_record(Duration::from_secs(5), "start", |record| record["type"] == "start");
    let begin = Instant::now();
    let count_links = |wanted: &dyn Fn(&Value) -> bool| {
        let records = controller.records();
        latest(&records).into_values().filter(|link| wanted(link)).count()
    };
    let await_links = |limit: Duration, what: &str, wanted: &dyn Fn(&Value) -> bool| {
        while count_links(wanted) < 10 {
            let (number, elapsed) = (count_links(wanted), begin.elapsed());
            assert!(
                elapsed < limit,
                "{number} links {what} after {elapsed:?}: {}",
                controller.stderr()
            );
            sleep(Duration::from_millis(20));
        }
        println!("10 links {what} after {:.1?}", begin.elapsed());
    };
    await_links(Duration::from_secs(5), "found", &|_| true);
    // A delay is known when there are some samples of each of its terms.
    await_links(Duration::from_secs(15), "in use", &is_edge);

    let (sdc, mit) = (host(&lab, "sdc"), host(&lab, "mit"));
    assert!(reaches(&lab, sdc, mit), "SDC does not reach MIT");
    // Windows fill, and estimates settle.
    let path = controller.await_record(Duration::from_secs(10), "path of 63 ms from SDC to MIT", |record| {
        let delay_ms = record["delay_ns"].as_f64().unwrap_or_default() / 1e6;
        record["type"] == "path" && ends(record) == ("sdc", "mit") && (62.0..68.0).contains(&delay_ms)
    });
    let switches: Vec<_> = path["switches"].as_array().unwrap().iter().collect();
    assert_eq!(switches, ["sdc", "rand", "bbn", "mit"], "{path:#}");

    // The first frames of a flow go by way of the controller.
    let mut pings = Pings::start(&lab, sdc, mit);
    sleep(Duration::from_secs(3));
    let mut rtts: Vec<_> = pings.answers().into_iter().skip(5).map(|(_, rtt)| rtt).collect();
    rtts.sort_by(f64::total_cmp);
    let rtt = rtts[rtts.len() / 2];
    println!("SDC to MIT and back in {rtt:.1} ms");
    let direct = 126.0..138.0;
    assert!(direct.contains(&rtt), "126 ms and four switches: {rtt} ms");

    let cut = now();
    lab.cut("mit", "bbn").unwrap();
    let by_utah = pings.await_answer(Duration::from_secs(5), |at, rtt| {
        at > cut && (144.0..170.0).contains(&rtt)
    });
    println!("by UTAH {:.2} s after the cut", by_utah - cut);
    assert!(by_utah - cut < 2.0, "rerouted after {} s", by_utah - cut);
    let repaired = now();
    lab.repair("mit", "bbn").unwrap();
    let back = pings.await_answer(Duration::from_secs(15), |at, rtt| at > repaired && rtt < direct.end);
    println!("back {:.2} s after the repair", back - repaired);
    drop(pings);

    assert_no_storm(&lab, &observer, sdc);
    let finished = controller.stop();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_only_edges_are_used(&finished.records);
    let summary = finished.of_type("summary")[0];
    assert_eq!(count(summary, "storms"), 0, "{summary:#}");
    assert!(count(summary, "reroutes") >= 2, "{summary:#}");
    lab.down().unwrap();
}

#[test]
fn a_link_that_drops_everything_and_says_nothing_is_left_in_time() {
    if !can_run() {
        return;
    }
    support::kstamp();
    let lab = Lab::up(Topology::Triangle, &Options::default()).unwrap();
    let controller = Agent::controller(&lab, &["--report", "500ms"]);
    let (s2, s3) = (host(&lab, "s2"), host(&lab, "s3"));
    assert!(reaches(&lab, s2, s3), "s2 does not reach s3: {}", controller.stderr());
    let is_by_s1 = |record: &Value| {
        record["type"] == "path" && ends(record) == ("s2", "s3") && record["hops"].as_array().unwrap().len() == 2
    };
    controller.await_record(Duration::from_secs(15), "path from s2 by s1 to s3", is_by_s1);
    let mut pings = Pings::start(&lab, s2, s3);
    // 10 ms by s1, 40 ms without it.
    let start = now();
    pings.await_answer(Duration::from_secs(10), |at, rtt| at > start && rtt < 35.0);

    let cut = now();
    lab.cut_silently("s1", "s2").unwrap();
    let around = pings.await_answer(Duration::from_secs(8), |at, rtt| at > cut && rtt >= 40.0);
    println!("around {:.2} s after the silent cut", around - cut);
    assert!(around - cut < 2.0, "rerouted after {} s", around - cut);
    controller.await_record(Duration::from_secs(3), "stale link", |record| {
        record["type"] == "link" && record["state"] == "stale"
    });
    let repaired = now();
    lab.repair("s1", "s2").unwrap();
    let back = pings.await_answer(Duration::from_secs(15), |at, rtt| at > repaired && rtt < 35.0);
    println!("back {:.2} s after the repair", back - repaired);
    drop(pings);
    let finished = controller.stop();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.of_type("summary")[0]["links"]["stale"], 0);
    lab.down().unwrap();
}

/// Frames to everybody cross each link once at most, and come to every host once, in a network that is full of loops.
fn assert_no_storm(lab: &Lab, observer: &Observer, from: &AgentNs) {
    const SENT: u64 = 20;
    // ARP and neighbour discovery of hosts go to everybody too: a few a second, if at all.
    const OTHERS: u64 = 10;
    let before = observer.broadcasts();
    let count = SENT.to_string();
    let arguments = ["-b", "-n", "-q", "-c", &count, "-i", "0.05", "-W", "1", "10.1.1.255"];
    // Nobody answers (icmp_echo_ignore_broadcasts), so ping fails.
    exec::output(&mut lab.command(&from.namespace, "ping", arguments)).unwrap();
    let sent: BTreeMap<_, _> = observer
        .broadcasts()
        .into_iter()
        .map(|(port, after)| (port.clone(), after - before.get(&port).copied().unwrap_or(0)))
        .collect();
    for (port, &number) in &sent {
        assert!(
            number <= SENT + OTHERS,
            "{port} sent {number} of {SENT} frames: {sent:#?}"
        );
    }
    let hosts = sent.iter().filter(|(port, _)| port.ends_with("-host"));
    assert_eq!(hosts.clone().count(), 8, "to every host but the sender: {sent:#?}");
    for (port, &number) in hosts {
        assert!(number >= SENT - 2, "{port} sent {number} of {SENT} frames: {sent:#?}");
    }
}

/// The first and the last switch of a path.
fn ends(path: &Value) -> (&str, &str) {
    let switches = path["switches"].as_array().unwrap();
    (
        switches.first().and_then(Value::as_str).unwrap_or_default(),
        switches.last().and_then(Value::as_str).unwrap_or_default(),
    )
}

fn host<'a>(lab: &'a Lab, switch: &str) -> &'a AgentNs {
    let switches = lab.topology().network().unwrap().switches;
    let at = switches.iter().position(|name| *name == switch).unwrap();
    &lab.agents()[at]
}

/// Whether one host gets an answer from another within ten seconds.
fn reaches(lab: &Lab, from: &AgentNs, to: &AgentNs) -> bool {
    let to = to.v4.to_string();
    // One ping for all that time would not do: where nobody answers to ARP yet, it ends with that.
    exec::wait_until(Duration::from_secs(15), || {
        let arguments = ["-n", "-q", "-c", "1", "-W", "1", &to];
        let output = exec::output(&mut lab.command(&from.namespace, "ping", arguments)).unwrap();
        output.status.success()
    })
}

/// Ten pings a second, for as long as this is not dropped.
struct Pings {
    child: Child,
    log: std::path::PathBuf,
}

impl Pings {
    fn start(lab: &Lab, from: &AgentNs, to: &AgentNs) -> Self {
        let log = lab.scratch().unwrap().join("pings");
        let to = to.v4.to_string();
        let mut command = lab.command(&from.namespace, "ping", ["-D", "-n", "-i", "0.1", &to]);
        let out = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).spawn().unwrap();
        Self { child, log }
    }

    /// When each answer came, in seconds since 1970, and its round trip in ms.
    fn answers(&mut self) -> Vec<(f64, f64)> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let answer = |line: &str| {
            let at = line.strip_prefix('[')?.split(']').next()?.parse().ok()?;
            let rtt = line.split("time=").nth(1)?.split(' ').next()?.parse().ok()?;
            Some((at, rtt))
        };
        text.lines().filter_map(answer).collect()
    }

    /// Waits for an answer that pleases; when it came.
    fn await_answer(&mut self, limit: Duration, pleases: impl Fn(f64, f64) -> bool) -> f64 {
        let end = Instant::now() + limit;
        loop {
            let answers = self.answers();
            if let Some((at, _)) = answers.iter().find(|(at, rtt)| pleases(*at, *rtt)) {
                return *at;
            }
            let last = &answers[answers.len().saturating_sub(40)..];
            assert!(Instant::now() < end, "no such answer within {limit:?}: {last:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds since 1970, as ping prints them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
