//! Debian's Prometheus scrapes two agents with native histograms, and Debian's VictoriaMetrics gets theirs by OTLP.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::{Agent, can_have, lab_with};
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{Lab, Topology};
use xtask::setup::{Foreign, ensure_victoria_metrics};
use xtask::workspace;

fn deploy() -> PathBuf {
    workspace::root().join("deploy/prometheus")
}

#[test]
fn promtool_accepts_the_configuration_and_every_alert_fires_as_tested() {
    if !can_have(Foreign::Prometheus) {
        return;
    }
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        exec::capture(command.args(arguments).current_dir(deploy())).unwrap()
    };
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "kstamp.rules.yml", "kstamp.alerts.yml"]);
    promtool(&["test", "rules", "kstamp.tests.yml"]);
    // Each alert has a case in which it fires.
    let read = |name: &str| fs::read_to_string(deploy().join(name)).unwrap();
    let tests = read("kstamp.tests.yml");
    for alert in read("kstamp.alerts.yml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
    {
        let case = format!("alertname: {alert}\n        exp_alerts");
        assert!(tests.contains(&case), "{alert} is not tested");
    }
}

#[test]
fn the_dashboard_has_only_queries_that_prometheus_parses() {
    if !can_have(Foreign::Prometheus) {
        return;
    }
    let text = fs::read_to_string(workspace::root().join("deploy/grafana/kstamp.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let rules: Vec<_> = targets
        .enumerate()
        .map(|(number, target)| {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            serde_json::json!({"record": format!("panel:{number}"), "expr": query})
        })
        .collect();
    assert!(rules.len() >= 10);
    let rules = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), rules.to_string()).unwrap();
    exec::capture(Command::new("promtool").args(["check", "rules"]).arg(file.path())).unwrap();
}

fn directory(lab: &Lab) -> PathBuf {
    let directory = lab.scratch().unwrap().join("prometheus");
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// A Prometheus in the namespace of the first agent.
struct Prometheus<'a> {
    lab: &'a Lab,
    server: String,
    _process: KillOnDrop,
}

impl<'a> Prometheus<'a> {
    /// With the rules of `deploy`, over seconds instead of minutes.
    fn scraping(lab: &'a Lab, targets: &[String]) -> Self {
        let directory = directory(lab);
        let quick = |name: &str, changes: &[(&str, &str)]| {
            let mut text = fs::read_to_string(deploy().join(name)).unwrap();
            for (from, to) in changes {
                assert!(text.contains(from), "{name}: {from}");
                text = text.replace(from, to);
            }
            fs::write(directory.join(name), text).unwrap();
        };
        let targets = targets.join("\n          - ");
        quick("prometheus.yml", &[(": 15s", ": 1s"), ("127.0.0.1:9862", &targets)]);
        quick("kstamp.rules.yml", &[("[2m]", "[20s]")]);
        quick("kstamp.alerts.yml", &[("for: 1m", "for: 2s"), ("for: 5m", "for: 2s")]);
        let arguments = [
            "--enable-feature=native-histograms".to_owned(),
            format!("--config.file={}", directory.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", directory.join("data").display()),
            "--web.listen-address=127.0.0.1:9090".to_owned(),
        ];
        Self::start(lab, "prometheus".as_ref(), &arguments, "127.0.0.1")
    }

    /// VictoriaMetrics, which answers the same queries. Listens at an address that both agents reach.
    fn receiving(lab: &'a Lab, program: &Path, address: &str) -> Self {
        let arguments = [
            format!("-storageDataPath={}", directory(lab).join("data").display()),
            format!("-httpListenAddr={address}:9090"),
            "-opentelemetry.usePrometheusNaming".to_owned(),
            // Samples can be queried at once.
            "-search.latencyOffset=0s".to_owned(),
            "-search.disableCache".to_owned(),
        ];
        Self::start(lab, program, &arguments, address)
    }

    fn start(lab: &'a Lab, program: &Path, arguments: &[String], address: &str) -> Self {
        let directory = directory(lab);
        let place = &lab.pair()[0].namespace;
        support::run(&mut lab.command(place, "ip", "link set lo up".split(' ')));
        let mut command = lab.command(place, program, arguments);
        let log = fs::File::create(directory.join("log")).unwrap();
        let process = support::start(command.stdout(Stdio::null()).stderr(log));
        Self {
            lab,
            server: format!("http://{address}:9090"),
            _process: process,
        }
    }

    /// The value of each series now, and its labels.
    fn query(&self, query: &str) -> Vec<(f64, Value)> {
        self.query_at(query, SystemTime::now())
    }

    /// The value of each series at `time`, and its labels.
    fn query_at(&self, query: &str, time: SystemTime) -> Vec<(f64, Value)> {
        let time = time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let time = format!("--time={time:.3}");
        let place = &self.lab.pair()[0].namespace;
        let mut command = self.lab.command(
            place,
            "promtool",
            ["query", "instant", "-o", "json", &time, &self.server, query],
        );
        let Ok(text) = exec::capture(&mut command) else {
            return Vec::new();
        };
        let series: Value = serde_json::from_str(&text).unwrap();
        let series = series.as_array().unwrap().iter();
        series
            .map(|series| {
                (
                    series["value"][1].as_str().unwrap().parse().unwrap(),
                    series["metric"].clone(),
                )
            })
            .collect()
    }

    fn await_series(&self, query: &str) -> Vec<(f64, Value)> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.query(query);
            if !found.is_empty() {
                return found;
            }
            let log = fs::read_to_string(self.lab.scratch().unwrap().join("prometheus/log")).unwrap();
            assert!(
                Instant::now() < end,
                "{query} stays empty; up: {:?}; {log}",
                self.query("up")
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Round trips of the unicast probes, in the order of sending.
fn samples(path: &Path) -> Vec<f64> {
    let text = fs::read_to_string(path).unwrap();
    let mut answered: Vec<(u64, f64)> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|sample| sample["path"] == "unicast" && sample["state"] == "ok")
        .map(|sample| {
            (
                sample["seq"].as_u64().unwrap(),
                sample["rtt_ns"].as_f64().unwrap() / 1e9,
            )
        })
        .collect();
    answered.sort_by_key(|(seq, _)| *seq);
    answered.into_iter().map(|(_, rtt)| rtt).collect()
}

/// Two agents that probe each other, with further arguments for each. The first writes its samples to `file`.
fn agents(lab: &Lab, file: &Path, arguments: impl Fn(usize) -> String) -> Vec<Agent> {
    let pair = lab.pair();
    let start = |number: usize| {
        let peer = pair[1 - number].v4;
        let mut all = format!(
            "--family v4 --no-group --peer {peer} --interval 20ms --timeout 500ms --report 1s {}",
            arguments(number)
        );
        if number == 0 {
            all += &format!(" --samples {}", file.display());
        }
        Agent::start(lab, pair[number], "agent", &all)
    };
    let agents: Vec<_> = (0..2).map(start).collect();
    agents
        .iter()
        .for_each(|agent| agent.await_start(Duration::from_secs(10)));
    agents
}

#[test]
fn an_injected_loss_fires_the_alert_and_quantiles_are_those_of_the_samples() {
    if !can_have(Foreign::Prometheus) {
        return;
    }
    let Some(lab) = lab_with(Topology::Delay, &support::three_milliseconds()) else {
        return;
    };
    support::kstamp();
    let pair = lab.pair();
    let file = lab.scratch().unwrap().join("samples");
    let agents = agents(&lab, &file, |number| format!("--listen {}:9862", pair[number].v4));
    let targets: Vec<_> = pair.iter().map(|place| format!("{}:9862", place.v4)).collect();
    let prometheus = Prometheus::scraping(&lab, &targets);

    // The agents' windows end at different times, so one alert comes first. Seen from the other end, the same loss is backward.
    for (target, direction) in [(&targets[0], "forward"), (&targets[1], "backward")] {
        prometheus.await_series(&format!(
            "ALERTS{{alertname=\"KstampLoss\", alertstate=\"firing\", instance=\"{target}\", direction=\"{direction}\"}}"
        ));
    }
    let down =
        prometheus.query("ALERTS{alertname=~\"KstampPeerDown|KstampAgentDown|KstampStale\", alertstate=\"firing\"}");
    assert!(down.is_empty(), "{down:?}");
    // No scrape is lost in the agent.
    assert_eq!(prometheus.query("max(kstamp_metrics_events_lost_total)")[0].0, 0.0);

    let of_first = format!("kstamp_rtt_seconds{{instance=\"{}\"}}", targets[0]);
    let count = format!("histogram_count({of_first})");
    quantiles_are_those_of_the_samples(&prometheus, agents, [&count, &of_first], &file);
    drop(prometheus);
    lab.down().unwrap();
}

/// Ends the agents, and compares `count` and the `histogram` of the first one with its samples.
fn quantiles_are_those_of_the_samples(
    prometheus: &Prometheus<'_>,
    agents: Vec<Agent>,
    [count, histogram]: [&str; 2],
    file: &Path,
) {
    // All values must be of one scrape or push, and the newest may be there in part only. That of two seconds ago has 200
    // probes if the newest now has 400.
    prometheus.await_series(&format!("{count} > 400"));
    let quantiles = [0.5, 0.9, 0.99];
    let parts = quantiles.map(|quantile| {
        format!("label_replace(histogram_quantile({quantile}, {histogram}), \"what\", \"{quantile}\", \"\", \"\")")
    });
    let count = format!("label_replace({count}, \"what\", \"count\", \"\", \"\")");
    let query = format!("{count} or {}", parts.join(" or "));
    let values = prometheus.query_at(&query, SystemTime::now() - Duration::from_secs(2));
    let value = |what: &str| values.iter().find(|(_, labels)| labels["what"] == what).unwrap().0;
    agents.into_iter().for_each(|agent| drop(agent.stop().assert_success()));
    let mut samples = samples(file);
    let count = value("count") as usize;
    assert!(count > 200 && count <= samples.len(), "{count} of {}", samples.len());
    samples.truncate(count);
    samples.sort_by(f64::total_cmp);
    for quantile in quantiles {
        let rank = (quantile * count as f64).ceil() as usize - 1;
        // Prometheus puts the rank between two samples.
        let near = [rank.saturating_sub(1), rank, (rank + 1).min(count - 1)].map(|rank| samples[rank]);
        let got = value(&quantile.to_string());
        let off = near
            .map(|sample| (got - sample).abs() / sample)
            .into_iter()
            .fold(f64::INFINITY, f64::min);
        println!(
            "quantile {quantile} of {count}: {got} s, {:.2} % from {} s",
            off * 100.0,
            near[1]
        );
        assert!(off < 0.022, "{quantile}: {got} against {near:?}");
    }
}

#[test]
fn a_receiver_of_otlp_has_the_counts_and_quantiles_of_two_agents() {
    if !can_have(Foreign::Prometheus) {
        return;
    }
    let program = match ensure_victoria_metrics() {
        Ok(program) => program,
        Err(error) => return println!("SKIPPED: no VictoriaMetrics: {error:#}"),
    };
    let Some(lab) = lab_with(Topology::Delay, &support::three_milliseconds()) else {
        return;
    };
    support::kstamp();
    let pair = lab.pair();
    let file = lab.scratch().unwrap().join("samples");
    let address = pair[0].v4.to_string();
    // The agents start first: they say so, and send when the receiver is there.
    let agents = agents(&lab, &file, |number| {
        format!("--name agent{number} --otlp http://{address}:9090/opentelemetry")
    });
    let prometheus = Prometheus::receiving(&lab, &program, &address);
    // The newest push may be there in part only.
    let received = "kstamp_probes_received_total{service_name=\"kstamp\", path=\"unicast\"} offset 2s > 200";
    prometheus.await_series(&format!("count({received}) == 2"));
    let of_samples = prometheus.query("kstamp_rtt_seconds_count offset 2s - kstamp_probes_received_total offset 2s");
    assert_eq!(of_samples.len(), 2);
    assert!(
        of_samples.iter().all(|(difference, _)| *difference == 0.0),
        "{of_samples:?}"
    );
    let lost = prometheus.query("sum by (service_instance_id, direction) (kstamp_probes_lost_total) > 0");
    let directions: Vec<_> = lost
        .iter()
        .map(|(_, labels)| (&labels["service_instance_id"], &labels["direction"]))
        .collect();
    for (agent, direction) in [("agent0", "forward"), ("agent1", "backward")] {
        assert!(
            directions.contains(&(&agent.into(), &direction.into())),
            "{directions:?}"
        );
    }
    let of_first =
        ["count", "bucket"].map(|part| format!("kstamp_rtt_seconds_{part}{{service_instance_id=\"agent0\"}}"));
    quantiles_are_those_of_the_samples(&prometheus, agents, [&of_first[0], &of_first[1]], &file);
    drop(prometheus);
    lab.down().unwrap();
}
