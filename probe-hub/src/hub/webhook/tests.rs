use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::hub::alerts::{Alert, Kind, Subject};

fn raised(number: usize) -> Change {
    let host = format!("h{number}").parse().unwrap();
    let alert = Alert::new(Kind::HostDown, Subject::Host { host }, String::new(), 5);
    Change::Raised(alert)
}

/// Answers requests in this order, and hands their bodies over.
fn receiver(answers: &'static [&'static str]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alerts", listener.local_addr().unwrap());
    let (sender, bodies) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            let head = String::from_utf8(request).unwrap().to_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.lines().next());
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            // Before the answer, after which the test no longer waits.
            let _ = sender.send(String::from_utf8(body).unwrap());
            write!(
                stream,
                "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            .unwrap();
        }
    });
    (url, bodies)
}

fn wait(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn changes_arrive_in_order_and_after_a_failure() {
    let (url, bodies) = receiver(&["503 Busy", "200 OK", "404 Not Found", "204 No Content"]);
    let webhook = Webhook::start(url, "hub1".to_owned(), || {}).unwrap();
    webhook.post([raised(1), raised(2), raised(3)]);
    wait(|| webhook.unsent().is_empty());
    let hosts = bodies.try_iter().map(|body| {
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["hub"], &body["state"]), (&"hub1".into(), &"raised".into()));
        body["host"].as_str().unwrap().to_owned()
    });
    assert_eq!(hosts.collect::<Vec<_>>(), ["h1", "h1", "h2", "h3"]);
    assert_eq!(webhook.figures(), DeliveryCounts { sent: 2, dropped: 1 });
}

#[test]
fn what_waits_is_bounded() {
    // Nobody accepts.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let webhook = Webhook::start(url, "hub1".to_owned(), || {}).unwrap();
    webhook.post((0..MAX_UNSENT + 5).map(raised));
    let unsent = webhook.unsent();
    assert_eq!((unsent.len(), &unsent[0]), (MAX_UNSENT, &raised(5)));
    assert_eq!(webhook.figures().dropped, 5);
    webhook.clear();
    assert_eq!(webhook.unsent(), []);
}

#[test]
fn failures_are_tried_again_ever_more_rarely() {
    for (failures, want_s) in [(1, 1), (2, 2), (3, 4), (7, 60), (1000, 60)] {
        let want = Duration::from_secs(want_s);
        let wait = backoff(failures);
        assert!(want / 2 <= wait && wait <= want, "{failures}: {wait:?}");
    }
}
