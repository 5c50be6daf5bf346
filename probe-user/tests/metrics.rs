//! `kstamp agent --listen`: paths, access, and refused requests.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::http::{ADDRESS, Reply, ask, connect, get, within};
use support::{FAR_V4, NEAR_V4, Pair, Running, ip};
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const QUICK: &str = "--interval 20ms --timeout 200ms --report 300ms --family v4";

/// Waits for a line of the metrics that satisfies `wanted`.
fn await_metric(namespace: &str, what: &str, wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let reply = get(namespace, "/metrics");
        let text = reply.text();
        if let Some(line) = text.lines().find(|line| wanted(line)) {
            return line.to_owned();
        }
        assert!(Instant::now() < end, "no {what} in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn value(line: &str) -> f64 {
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn agent(pair: &Pair, flags: &str) -> Running {
    ip(&pair.near, "link set lo up");
    pair.started(&pair.near, &format!("agent --iface port1 {QUICK} {flags}"))
}

/// Standard error of a run that must fail with this code.
fn refused(pair: &Pair, flags: &str, code: i32) -> String {
    let output = pair.output(&pair.near, &format!("agent --iface port1 {QUICK} {flags}"));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
    stderr
}

#[test]
fn an_agent_serves_its_windows_and_its_health() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4 --name far-end");
    let near = agent(&pair, &format!("--listen {ADDRESS} --peer {FAR_V4}"));
    let is_unicast = |line: &str, name: &str| {
        line.starts_with(name) && line.contains("path=\"unicast\"") && line.contains("peer_name=\"far-end\"")
    };
    await_metric(&pair.near, "received probes", |line| {
        is_unicast(line, "kstamp_probes_received_total") && value(line) >= 20.0
    });
    for line in [
        "kstamp_peer_up{peer=\"10.1.1.6\",peer_name=\"far-end\",family=\"v4\"} 1",
        "kstamp_interface_up 1",
    ] {
        await_metric(&pair.near, line, |have| have == line);
    }
    for name in [
        "kstamp_rtt_seconds_count",
        "kstamp_residence_seconds_count",
        "kstamp_forward_delay_seconds_count",
    ] {
        await_metric(&pair.near, name, |line| is_unicast(line, name) && value(line) >= 20.0);
    }
    await_metric(&pair.near, "counters of the programs", |line| {
        line.starts_with("kstamp_program_packets_total{counter=\"collected\"}")
    });
    assert_eq!(get(&pair.near, "/healthz").0, 200);
    assert_eq!(get(&pair.near, "/readyz").0, 200);
    let index = get(&pair.near, "/");
    assert!(index.1.contains("text/html") && index.text().contains("/metrics"));
    assert_eq!(get(&pair.near, "/none").0, 404);
    for (accept, content_type) in [
        ("*/*", "content-type: text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0",
            "content-type: application/openmetrics-text; version=1.0.0",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
            "content-type: application/vnd.google.protobuf; proto=io.prometheus.client.metricfamily",
        ),
    ] {
        let headers = format!("Accept: {accept}\r\nAccept-Encoding: gzip\r\n");
        let reply = within(&pair.near, || {
            ask(&mut connect(ADDRESS), "GET /metrics", &headers).unwrap()
        });
        assert!(
            reply.1.contains(content_type) && reply.1.contains("content-encoding: gzip"),
            "{}",
            reply.1
        );
        assert_eq!(reply.2[..2], [0x1f, 0x8b]);
    }
    // Counts are those of the records, and a silent peer is down.
    ip(&pair.near, "link set port1 down");
    assert_eq!(get(&pair.near, "/healthz").0, 200);
    let end = Instant::now() + Duration::from_secs(10);
    while get(&pair.near, "/readyz").0 != 503 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
    let shown = await_metric(&pair.near, "sent probes", |line| {
        is_unicast(line, "kstamp_probes_sent_total")
    });
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let windows = records
        .iter()
        .filter(|record| record["type"] == "window" && record["path"] == "unicast");
    let sums = windows.scan(0, |sum, window| {
        *sum += support::count(window, "sent");
        Some(*sum)
    });
    assert!(
        sums.map(|sum| sum as f64).any(|sum| sum == value(&shown)),
        "{shown}: {records:#?}"
    );
    drop(far);
}

#[test]
fn a_peer_that_ends_takes_its_series_with_it() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.started(&pair.far, &format!("agent --iface port2 {QUICK}"));
    let _near = agent(&pair, &format!("--listen {ADDRESS}"));
    let is_peer = |line: &str| line.starts_with("kstamp_probes_sent_total") && line.contains(FAR_V4);
    await_metric(&pair.near, "the peer", |line| {
        is_peer(line) && !line.contains("peer_name=\"\"")
    });
    far.stop();
    let end = Instant::now() + Duration::from_secs(10);
    while get(&pair.near, "/metrics").text().contains(FAR_V4) {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn nothing_but_reading_is_possible_and_little_of_it() {
    let Some(pair) = Pair::new() else { return };
    let near = agent(&pair, &format!("--listen {ADDRESS} --no-group --peer {FAR_V4}"));
    within(&pair.near, || {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            assert_eq!(
                ask(&mut connect(ADDRESS), &format!("{method} /metrics"), "").unwrap().0,
                405,
                "{method}"
            );
        }
        let head = ask(&mut connect(ADDRESS), "HEAD /metrics", "").unwrap();
        assert!(head.0 == 200 && head.2.is_empty());
        let body = ask(&mut connect(ADDRESS), "GET /metrics", "Content-Length: 1000000000\r\n").unwrap();
        assert_eq!(body.0, 413);
        for request in ["nonsense", "GET /\0"] {
            assert_eq!(ask(&mut connect(ADDRESS), request, "").unwrap().0, 400, "{request}");
        }
        // A page of another host, whose name was resolved to this address.
        for (host, status) in [("evil.example:9862", 421), (ADDRESS, 200)] {
            let reply = ask(&mut connect(ADDRESS), "GET /metrics", &format!("Host: {host}\r\n")).unwrap();
            assert_eq!(reply.0, status, "{host}");
        }
        // A head without end.
        let mut endless = connect(ADDRESS);
        let sent = (0..1_000).try_for_each(|_| endless.write_all(&[b'x'; 1_000]));
        let answer = Reply::read(&mut endless).map(|reply| reply.0);
        assert!(
            sent.is_err() || answer.as_ref().map_or(true, |status| *status >= 400),
            "{answer:?}"
        );
        // One source has eight connections.
        let idle: Vec<_> = (0..8).map(|_| connect(ADDRESS)).collect();
        let mut ninth = connect(ADDRESS);
        assert!(ask(&mut ninth, "GET /healthz", "").is_err());
        drop(idle);
        let end = Instant::now() + Duration::from_secs(10);
        while ask(&mut connect(ADDRESS), "GET /healthz", "").is_err() {
            assert!(Instant::now() < end);
        }
    });
    let (status, _, stderr) = near.stop();
    assert!(status.success() && stderr.is_empty(), "{stderr}");
}

#[test]
fn bad_input_is_one_line_and_nothing_is_attached() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "link set lo up");
    let directory = TempDir::new().unwrap();
    let web = directory.path().join("web.yml");
    fs::write(&web, "basic_auth_users: {ann: secret}").unwrap();
    let busy = within(&pair.near, || TcpListener::bind(ADDRESS).unwrap());
    let line = refused(&pair, &format!("--listen {ADDRESS}"), 1);
    assert!(
        line.contains("--listen 127.0.0.1:9862: another process listens there"),
        "{line}"
    );
    drop(busy);
    let line = refused(&pair, "--listen 192.0.2.1:9862", 1);
    assert!(line.contains("this host does not have that address"), "{line}");
    let line = refused(&pair, "--listen [fe80::1]:9862", 1);
    assert!(line.contains("needs the number of its interface"), "{line}");
    let line = refused(&pair, &format!("--listen {ADDRESS} --web-config {}", web.display()), 2);
    assert!(
        line.contains("web.yml: basic_auth_users: the password of ann is not a bcrypt hash"),
        "{line}"
    );
    for listen in ["localhost:9862", "127.0.0.1:0", ":9862"] {
        let line = refused(&pair, &format!("--listen {listen}"), 2);
        let wanted = format!("--listen '{listen}' is not an address and a port");
        assert!(line.contains(&wanted), "{line}");
    }
    let line = refused(&pair, &format!("--web-config {}", web.display()), 2);
    assert!(line.contains("--listen"), "{line}");
    // The warning comes once, and only where others may read.
    for (listen, warned) in [("0.0.0.0:9862", true), (ADDRESS, false)] {
        let near = agent(&pair, &format!("--listen {listen} --no-group --peer {FAR_V4}"));
        let (_, _, stderr) = near.stop();
        assert_eq!(
            stderr.lines().filter(|line| line.contains("--web-config")).count(),
            usize::from(warned),
            "{stderr}"
        );
    }
}

#[test]
fn tls_and_passwords_hold_and_change_while_it_runs() {
    let Some(pair) = Pair::new() else { return };
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["kstamp.test".to_owned()]).unwrap();
    fs::write(path("cert.pem"), cert.pem()).unwrap();
    fs::write(path("key.pem"), signing_key.serialize_pem()).unwrap();
    let tls = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";
    let hash = bcrypt::hash("secret", 4).unwrap();
    fs::write(path("web.yml"), format!("{tls}basic_auth_users:\n  ann: {hash}\n")).unwrap();
    let web = path("web.yml");
    let listen = format!("{NEAR_V4}:9862");
    let _near = agent(
        &pair,
        &format!(
            "--listen {listen} --web-config {} --no-group --peer {FAR_V4}",
            web.display()
        ),
    );
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(tokio_rustls::rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let secure = |headers: &str| {
        within(&pair.near, || {
            let name = ServerName::try_from("kstamp.test").unwrap();
            let client = ClientConnection::new(Arc::clone(&config), name).unwrap();
            ask(&mut StreamOwned::new(client, connect(&listen)), "GET /metrics", headers).map(|reply| reply.0)
        })
    };
    // Of "ann:secret" and "ann:other".
    let (right, wrong) = ("YW5uOnNlY3JldA==", "YW5uOm90aGVy");
    assert_eq!(secure(&format!("Authorization: Basic {right}\r\n")).unwrap(), 200);
    assert_eq!(secure("").unwrap(), 401);
    let end = Instant::now() + Duration::from_secs(10);
    while secure(&format!("Authorization: Basic {wrong}\r\n")).unwrap() != 401 {
        assert!(Instant::now() < end);
    }
    // Without TLS there is no answer.
    within(&pair.near, || {
        assert!(ask(&mut connect(&listen), "GET /metrics", "").is_err())
    });
    // No passwords any more.
    fs::write(path("web.yml"), tls).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while secure("").unwrap() != 200 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_ends_while_a_reader_is_slow() {
    let Some(pair) = Pair::new() else { return };
    let near = agent(&pair, &format!("--listen {ADDRESS} --no-group --peer {FAR_V4}"));
    let stream = within(&pair.near, || {
        let mut stream = connect(ADDRESS);
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        stream
    });
    near.signal(Signal::SIGTERM);
    let (status, _, stderr) = near.wait();
    assert!(status.success(), "{stderr}");
    drop(stream);
}
