//! `kstamp agent --otlp`: what a receiver gets, and what the user hears when there is none.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Text;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use prost::Message as _;
use support::{FAR_V4, Pair, Running, in_namespace, ip};

const RECEIVER: &str = "127.0.0.1:4318";
const QUICK: &str = "--interval 20ms --timeout 200ms --report 300ms --family v4 --no-group";

/// Takes requests until it is dropped.
struct Receiver {
    requests: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn start(namespace: &str) -> Self {
        ip(namespace, "link set lo up");
        let (requests, is_over) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicBool>::default());
        let (taken, stop, namespace) = (Arc::clone(&requests), Arc::clone(&is_over), namespace.to_owned());
        let thread = thread::spawn(move || {
            in_namespace(&namespace);
            let listener = TcpListener::bind(RECEIVER).unwrap();
            listener.set_nonblocking(true).unwrap();
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((socket, _)) => take(socket, &taken),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Self {
            requests,
            is_over,
            thread: Some(thread),
        }
    }

    fn last(&self) -> Option<ExportMetricsServiceRequest> {
        self.requests.lock().unwrap().last().cloned()
    }

    /// Waits until a request says that so many probes were received.
    fn await_received(&self, wanted: i64) {
        await_it("probes in a request", || {
            let last = self.last().as_ref().and_then(received);
            last.is_some_and(|(count, _)| count >= wanted)
        });
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

fn await_it(what: &str, mut is_there: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_there() {
        assert!(Instant::now() < end, "no {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Keeps a request before it is answered, so that it is there when the sender goes on.
fn take(mut socket: TcpStream, taken: &Mutex<Vec<ExportMetricsServiceRequest>>) {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let body = loop {
        let got = socket.read(&mut buffer).unwrap();
        assert!(got > 0, "it ends early");
        all.extend_from_slice(&buffer[..got]);
        let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        if all.len() == end + 4 + length.parse::<usize>().unwrap() {
            break all.split_off(end + 4);
        }
    };
    let mut plain = Vec::new();
    GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
    let request = ExportMetricsServiceRequest::decode(plain.as_slice()).unwrap();
    taken.lock().unwrap().push(request);
    write!(
        socket,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
}

/// Probes received from the far end, and samples in the histogram of their round trips.
fn received(request: &ExportMetricsServiceRequest) -> Option<(i64, u64)> {
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let data = |name: &str| metrics.iter().find(|metric| metric.name == name)?.data.clone();
    let (Data::Sum(sum), Data::ExponentialHistogram(rtt)) = (data("kstamp_probes_received")?, data("kstamp_rtt")?)
    else {
        panic!("other instruments");
    };
    let Some(Value::AsInt(count)) = sum.data_points[0].value else {
        panic!("no count")
    };
    Some((count, rtt.data_points[0].count))
}

fn agent(pair: &Pair, flags: &str) -> Running {
    ip(&pair.near, "link set lo up");
    let flags = format!("agent --iface port1 {QUICK} --peer {FAR_V4} --otlp http://{RECEIVER} {flags}");
    pair.started(&pair.near, &flags)
}

#[test]
fn a_receiver_gets_what_was_measured_until_the_end() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4");
    for flags in ["", "--listen 127.0.0.1:9862"] {
        let receiver = Receiver::start(&pair.near);
        let near = agent(&pair, flags);
        receiver.await_received(20);
        let (status, records, stderr) = near.stop();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
        let last = receiver.last().unwrap();
        let resource = last.resource_metrics[0].resource.clone().unwrap();
        let name = resource.attributes[0].value.clone().unwrap().value;
        assert_eq!(name, Some(Text::StringValue("kstamp".to_owned())));
        let want = support::count(support::summary(&records, FAR_V4, "unicast"), "received");
        let (count, samples) = received(&last).unwrap();
        assert_eq!((count as u64, samples), (want, want), "{flags}");
    }
    drop(far.stop());
}

#[test]
fn a_receiver_that_is_gone_is_reported_once_and_measuring_goes_on() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4");
    let near = agent(&pair, "");
    let lines = |part: &str| near.stderr().lines().filter(|line| line.contains(part)).count();
    let (gone, back) = ("it cannot be reached", "metrics are taken again");
    await_it("line about the receiver", || lines(gone) == 1);
    // More than one attempt fails meanwhile.
    near.await_record(12, "windows", |record| {
        record["type"] == "window" && record["received"] != 0
    });
    assert_eq!(near.stderr().lines().count(), 1, "{}", near.stderr());
    let receiver = Receiver::start(&pair.near);
    receiver.await_received(20);
    await_it("line about its return", || lines(back) == 1);
    drop(receiver);
    await_it("second line", || lines(gone) == 2);
    let begin = Instant::now();
    let (status, _, stderr) = near.stop();
    assert!(status.success() && begin.elapsed() < Duration::from_secs(5));
    assert_eq!(stderr.lines().count(), 3, "{stderr}");
    drop(far.stop());
}
