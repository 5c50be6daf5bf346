//! The controller forwards on the path of least delay, and reroutes when a link is cut.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::links::{Observer, assert_only_edges_are_used, is_edge, latest};
use support::{Agent, count, lab, ping_rtts, start};
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{AgentNs, Lab, SWITCHES, Topology};

#[test]
fn arpanet_is_discovered_and_rerouted_after_a_cut() {
    let Some(lab) = lab(Topology::Arpanet) else { return };
    support::kstamp();
    let observer = Observer::start(SWITCHES);
    let controller = Agent::controller(&lab, "--report 500ms");
    // Switches try to connect once in a second or two.
    controller.await_start(Duration::from_secs(5));
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
    // A delay needs some samples of each of its terms.
    await_links(Duration::from_secs(15), "in use", &is_edge);

    let (sdc, mit) = (lab.host("sdc"), lab.host("mit"));
    assert!(reaches(&lab, sdc, mit), "SDC does not reach MIT");
    // Until windows are full and estimates are stable.
    let path = controller.await_record(Duration::from_secs(10), "path of 63 ms from SDC to MIT", |record| {
        let delay_ms = record["delay_ns"].as_f64().unwrap_or_default() / 1e6;
        record["type"] == "path" && ends(record) == ("sdc", "mit") && (62.0..68.0).contains(&delay_ms)
    });
    let switches: Vec<_> = path["switches"].as_array().unwrap().iter().collect();
    assert_eq!(switches, ["sdc", "rand", "bbn", "mit"], "{path:#}");

    // The first frames of a flow pass through the controller.
    let pings = Pings::start(&lab, sdc, mit);
    sleep(Duration::from_secs(3));
    let mut rtts: Vec<_> = pings
        .answers()
        .into_iter()
        .skip(5)
        .map(|answer| answer.rtt_ms)
        .collect();
    rtts.sort_by(f64::total_cmp);
    let rtt = rtts[rtts.len() / 2];
    println!("SDC to MIT and back in {rtt:.1} ms");
    let direct = 126.0..138.0;
    assert!(direct.contains(&rtt), "126 ms and four switches: {rtt} ms");

    let cut = now();
    lab.cut("mit", "bbn").unwrap();
    let detour = 144.0..170.0;
    let rerouted = pings.await_answer(Duration::from_secs(5), cut, |rtt_ms| detour.contains(&rtt_ms));
    println!("by UTAH {:.2} s after the cut", rerouted - cut);
    assert!(rerouted - cut < 2.0, "rerouted after {} s", rerouted - cut);
    let repaired = now();
    lab.repair("mit", "bbn").unwrap();
    let back = pings.await_answer(Duration::from_secs(15), repaired, |rtt_ms| rtt_ms < direct.end);
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
fn link_that_drops_everything_while_its_ports_stay_up_is_avoided() {
    let Some(lab) = lab(Topology::Triangle) else { return };
    support::kstamp();
    let controller = Agent::controller(&lab, "--report 500ms");
    let (s2, s3) = (lab.host("s2"), lab.host("s3"));
    assert!(reaches(&lab, s2, s3), "s2 does not reach s3: {}", controller.stderr());
    let is_through_s1 = |record: &Value| {
        record["type"] == "path" && ends(record) == ("s2", "s3") && record["hops"].as_array().unwrap().len() == 2
    };
    controller.await_record(Duration::from_secs(15), "path from s2 through s1 to s3", is_through_s1);
    let pings = Pings::start(&lab, s2, s3);
    // 10 ms through s1, 40 ms without it.
    pings.await_answer(Duration::from_secs(10), now(), |rtt_ms| rtt_ms < 35.0);

    let cut = now();
    lab.cut_silently("s1", "s2").unwrap();
    let rerouted = pings.await_answer(Duration::from_secs(8), cut, |rtt_ms| rtt_ms >= 40.0);
    println!("rerouted {:.2} s after the silent cut", rerouted - cut);
    assert!(rerouted - cut < 2.0, "rerouted after {} s", rerouted - cut);
    controller.await_record(Duration::from_secs(3), "stale link", |record| {
        record["type"] == "link" && record["state"] == "stale"
    });
    let repaired = now();
    lab.repair("s1", "s2").unwrap();
    let back = pings.await_answer(Duration::from_secs(15), repaired, |rtt_ms| rtt_ms < 35.0);
    println!("back {:.2} s after the repair", back - repaired);
    drop(pings);
    let finished = controller.stop();
    assert!(finished.status.success(), "{}", finished.stderr);
    assert_eq!(finished.of_type("summary")[0]["links"]["stale"], 0);
    lab.down().unwrap();
}

/// Broadcast frames cross each link at most once, and reach every host once, in a network full of loops.
fn assert_no_storm(lab: &Lab, observer: &Observer, from: &AgentNs) {
    const SENT: u64 = 20;
    // ARP requests of the hosts.
    const OTHERS: u64 = 10;
    let before = observer.broadcasts();
    let count = SENT.to_string();
    let arguments = ["-b", "-n", "-q", "-c", &count, "-i", "0.05", "-W", "1", "10.1.1.255"];
    // ping fails: no host answers (icmp_echo_ignore_broadcasts).
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

/// Whether one host reaches another within 15 seconds.
fn reaches(lab: &Lab, from: &AgentNs, to: &AgentNs) -> bool {
    let to = to.v4.to_string();
    // Not one ping for the whole time: it ends when ARP requests are not answered.
    exec::wait_until(Duration::from_secs(15), || {
        let arguments = ["-n", "-q", "-c", "1", "-W", "1", &to];
        let output = exec::output(&mut lab.command(&from.namespace, "ping", arguments)).unwrap();
        output.status.success()
    })
}

/// Ten pings a second, until this is dropped.
struct Pings {
    log: std::path::PathBuf,
    _ping: KillOnDrop,
}

#[derive(Debug)]
struct Answer {
    /// In seconds since 1970.
    time: f64,
    rtt_ms: f64,
}

impl Pings {
    fn start(lab: &Lab, from: &AgentNs, to: &AgentNs) -> Self {
        let log = lab.scratch().unwrap().join("pings");
        let to = to.v4.to_string();
        let mut command = lab.command(&from.namespace, "ping", ["-D", "-n", "-i", "0.1", &to]);
        let ping = start(command.stdout(std::fs::File::create(&log).unwrap()));
        Self { log, _ping: ping }
    }

    fn answers(&self) -> Vec<Answer> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let answer = |line: &str| {
            let time = line.strip_prefix('[')?.split(']').next()?.parse().ok()?;
            let rtt_ms = *ping_rtts(line).first()?;
            Some(Answer { time, rtt_ms })
        };
        text.lines().filter_map(answer).collect()
    }

    /// Waits for an answer after `since` with an accepted round trip, and returns its time.
    fn await_answer(&self, limit: Duration, since: f64, accept: impl Fn(f64) -> bool) -> f64 {
        let end = Instant::now() + limit;
        loop {
            let answers = self.answers();
            let found = answers
                .iter()
                .find(|answer| answer.time > since && accept(answer.rtt_ms));
            if let Some(answer) = found {
                return answer.time;
            }
            let last = &answers[answers.len().saturating_sub(40)..];
            assert!(Instant::now() < end, "no such answer within {limit:?}: {last:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// Seconds since 1970, as ping prints them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}
