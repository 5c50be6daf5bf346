//! A configuration file, and SIGHUP after it has changed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use support::{FAR_V4, KSTAMP, Pair, Running, command, count, counters, ip, key_file, summary};

/// Writes the file, has kstamp read it again, and returns the line about it.
fn reload(running: &Running, path: &Path, text: &str) -> String {
    let before = running.stderr().len();
    fs::write(path, text).unwrap();
    running.signal(Signal::SIGHUP);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let new = running.stderr().split_off(before);
        if let Some(line) = new.lines().find(|line| line.contains("configuration")) {
            return line.to_owned();
        }
        assert!(Instant::now() < end, "no line about the configuration: {new}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_agent_is_reloaded_without_losing_a_probe() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    let samples = directory.path().join("samples");
    let others: Vec<_> = (1..=5).map(|number| format!("10.1.1.{}", 100 + number)).collect();
    for other in &others {
        ip(&pair.far, &format!("address add {other}/24 dev port2"));
    }
    let text = |peers: &[String], report_ms: usize, more: &str| {
        let peers: Vec<_> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
        format!(
            "interval = \"1ms\"\ntimeout = \"1s\"\nno-group = true\npeer = [\"{FAR_V4}\", {}]\n\
             report = \"{report_ms}ms\"\n{more}",
            peers.join(", ")
        )
    };
    fs::write(&path, text(&[], 300, "[interface.port1]\nname = \"edge\"\n")).unwrap();
    let near = pair.started(&pair.near, &format!("agent --config {}", path.display()));
    for number in 1..=5 {
        let peers = &others[..number];
        let line = reload(
            &near,
            &path,
            &text(peers, 300 + 50 * number, "iface = \"port1\"\nname = \"edge\"\n"),
        );
        assert_eq!(line, "kstamp: configuration read again: applied peer, report");
        near.await_record(1, "new peer", |record| {
            record["type"] == "peer" && record["peer"] == *peers[number - 1]
        });
    }
    let rest = "iface = \"port1\"\nname = \"edge\"\n";
    let line = reload(&near, &path, &text(&others, 550, &format!("interval = \"3x\"\n{rest}")));
    assert!(
        line.starts_with(&format!("kstamp: configuration not changed: {}:6: ", path.display())),
        "{line}"
    );
    let changed = format!(
        "listen = \"127.0.0.1:9862\"\nsamples = \"{}\"\n{rest}",
        samples.display()
    );
    let text = text(&others[1..], 550, &changed).replace("\"1ms\"", "\"100us\"");
    assert_eq!(
        reload(&near, &path, &text),
        "kstamp: configuration read again: applied peer, samples; restart kstamp for interval, listen"
    );
    let down = near.await_record(1, "end of a peer", |record| record["event"] == "down");
    assert_eq!(
        (&down["peer"], &down["reason"]),
        (&others[0].as_str().into(), &"removed".into())
    );
    near.await_record(9, "windows", |record| {
        record["type"] == "window" && record["peer"] == FAR_V4
    });
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    for peer in others.iter().map(String::as_str).chain([FAR_V4]) {
        let summary = summary(&records, peer, "unicast");
        assert!(count(summary, "received") > 0, "{summary}");
        let missing = ["lost", "send_failed"].map(|field| count(summary, field));
        assert_eq!(missing, [0, 0], "{summary}");
        let of_it = |record: &&serde_json::Value| record["type"] == "window" && record["peer"] == peer;
        let sent: u64 = records.iter().filter(of_it).map(|window| count(window, "sent")).sum();
        assert_eq!(sent, count(summary, "sent"), "{peer}");
    }
    let samples = fs::read_to_string(samples).unwrap();
    assert!(samples.lines().count() > 100, "{samples}");
}

#[test]
fn a_reflector_takes_other_limits() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("reflect.toml");
    fs::write(&path, "rate-source = 20\n").unwrap();
    let far = pair.reflector(&format!("--config {}", path.display()));
    let received = || {
        let (_, records, _) = pair.ping(&format!("-p 1910 -c 100 -i 5ms -W 300ms {FAR_V4}"));
        count(records.last().unwrap(), "received")
    };
    assert!(received() < 100);
    let output = directory.path().join("out");
    let text = format!("rate-source = 0\nattach = \"tc\"\noutput = \"{}\"\n", output.display());
    assert_eq!(
        reload(&far, &path, &text),
        "kstamp: configuration read again: applied output, rate-source; restart kstamp for attach"
    );
    let fifo = directory.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    assert_eq!(
        reload(&far, &path, &format!("output = \"{}\"\n", fifo.display())),
        format!(
            "kstamp: configuration not changed: cannot write {}: no process reads it",
            fifo.display()
        )
    );
    assert_eq!(received(), 100);
    far.stop();
    let written = fs::read_to_string(output).unwrap();
    assert!(written.starts_with("{\"type\":\"start\""), "{written}");
    assert!(
        written
            .trim_end()
            .rsplit('\n')
            .next()
            .unwrap()
            .contains("\"type\":\"counters\""),
        "{written}"
    );
}

#[test]
fn a_controller_takes_another_report_interval() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "link set lo up");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("controller.toml");
    fs::write(&path, "listen = \"127.0.0.1:0\"\nreport = \"1h\"\n").unwrap();
    let controller = pair.started(&pair.near, &format!("controller --config {}", path.display()));
    let text = "listen = \"127.0.0.1:0\"\nreport = \"100ms\"\nperiod = \"1s\"\n";
    assert_eq!(
        reload(&controller, &path, text),
        "kstamp: configuration read again: applied report; restart kstamp for period"
    );
    let (status, ..) = controller.stop();
    assert!(status.success());
}

#[test]
fn a_process_that_has_given_up_its_privileges_is_reloaded() {
    let Some(pair) = Pair::new() else { return };
    let (_directory, key) = key_file(&[b'k'; 32]);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("reflect.toml");
    let text = format!("user = \"nobody\"\nkey-file = \"{}\"\n", key.display());
    fs::write(&path, &text).unwrap();
    let far = pair.reflector(&format!("--config {}", path.display()));
    let line = reload(&far, &path, &format!("{text}rate = 7\n"));
    assert_eq!(line, "kstamp: configuration read again: applied rate");
    fs::write(&key, "short").unwrap();
    let line = reload(&far, &path, &text);
    assert_eq!(
        line, "kstamp: configuration read again: applied rate",
        "the key needs a restart"
    );
}

#[test]
fn a_wrong_file_ends_the_command_before_it_starts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    fs::write(&path, "iface = \"port1\"\nreprot = \"1s\"\n").unwrap();
    for what in ["agent", "config check agent"] {
        let output = command(&format!("{KSTAMP} {what} --config {}", path.display()))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let expected = format!(
            "kstamp: {}:2: reprot is not a key of `kstamp agent`; did you mean report?\n",
            path.display()
        );
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    }
    fs::write(&path, "iface = \"port1\"\n\"re\\nprot\" = 1\nreport = \"3x\"\n").unwrap();
    let output = command(&format!("{KSTAMP} config check agent --config {}", path.display()))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].contains("agent.toml:2: re\u{fffd}prot is not a key"), "{text}");
    assert!(
        lines[1].contains("agent.toml:3: report '3x' is not a duration"),
        "{text}"
    );
    assert_eq!((lines.len(), output.status.code()), (2, Some(2)));
}

#[test]
fn another_threshold_of_outliers_holds_without_a_restart() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--family v4");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.toml");
    let text = |outlier: &str| {
        format!(
            "iface = \"port1\"\nfamily = \"v4\"\nno-group = true\npeer = [\"{FAR_V4}\"]\ninterval = \"20ms\"\ntimeout = \"1s\"\n\
             report = \"300ms\"\nhops = true\nhost-netns = \"/run/netns/{}\"\noutlier = \"{outlier}\"\n",
            pair.near
        )
    };
    fs::write(&path, text("1h")).unwrap();
    let near = pair.started(&pair.near, &format!("agent --config {}", path.display()));
    near.await_record(2, "hops", |record| {
        record["type"] == "hops" && record["outliers"] == 0 && record["threshold_ns"] == 3_600_000_000_000_u64
    });
    assert_eq!(
        reload(&near, &path, &text("1us")),
        "kstamp: configuration read again: applied outlier"
    );
    near.await_record(1, "outlier", |record| {
        record["type"] == "outlier" && record["threshold_ns"] == 1_000
    });
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let counters = counters(&records);
    assert_eq!([&counters["hop_stamps_lost"], &counters["upcalls_lost"]], [0, 0]);
}
