use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::output::fixtures;
use crate::output::model::Event;
use crate::output::model::hops::Outlier;
use crate::output::report::record::{Happening, Record};

const EVENTS: &str = "/api/v1/events?limit=500";
const PEERS: &str = "/api/v1/peers?limit=1024";
const UNICAST: &str = "/api/v1/windows?peer=10.1.1.6&path=unicast&by=report&limit=120";
const GROUP: &str = "/api/v1/windows?peer=10.1.1.6&path=group&by=report&limit=120";

const HOPS: &str = "/api/v1/hops?limit=1024";
const OUTLIERS: &str = "/api/v1/outliers?limit=500";

/// The history of a server with these pages, and the requests that it gets.
fn read_from(pages: &'static [(&'static str, &'static str)]) -> (Result<(), String>, Vec<String>, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut requests, mut request, mut byte) = (Vec::new(), Vec::new(), [0]);
        while let Ok(1) = stream.read(&mut byte) {
            request.push(byte[0]);
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut request)).unwrap();
            let path = text.split(' ').nth(1).unwrap().to_owned();
            let page = pages.iter().find(|(of, _)| *of == path).map(|(_, page)| *page);
            let status = if page.is_some() { 200 } else { 404 };
            let page = page.unwrap_or("{}");
            write!(
                stream,
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{page}",
                page.len()
            )
            .unwrap();
            requests.push(path);
        }
        requests
    });
    let config = ServerConfig {
        url: "http://h".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        is_tls: false,
        path: String::new(),
        credentials: None,
        ca_file: "".into(),
    };
    let (sender, mut receiver) = mpsc::channel(64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.unwrap().block_on(read(&config, &sender));
    drop(sender);
    let mut updates = Vec::new();
    while let Some(update) = receiver.blocking_recv() {
        updates.push(match update {
            Update::Record(_, record) => match *record {
                Record::Window(window) => format!("window {} to {}", window.path.name(), window.end.unix_ns),
                Record::Hops(hops) => format!("hops of {}", hops.peer),
                Record::Outlier(outlier) => format!("outlier {}", outlier.seq),
                Record::Event(event) => Happening::from(event).text,
                _ => "another".to_owned(),
            },
            Update::Known { peer, name, is_down } => format!("{peer} {name:?} {is_down}"),
            other => format!("{other:?}"),
        });
    }
    (outcome, updates, server.join().unwrap())
}

macro_rules! window {
    ($end:literal) => {
        concat!(
            r#"{"type":"window","agent":"h1","peer":"10.1.1.6","path":"unicast","start":"1970-01-01T00:00:00Z","end":""#,
            $end,
            r#"","sent":1,"received":1,"lost":0,"pending":0,"lost_forward":0,"lost_backward":0,"lost_unknown":0,"late":0,"#,
            r#""duplicates":0,"reordered":0,"collector_lost":0,"send_failed":0,"not_sent":0,"unanswered":0,"rtt_ns":null}"#
        )
    };
}

const TWO_EVENTS: (&str, &str) = (
    EVENTS,
    r#"{"events":[
        {"type":"peer","agent":"h1","event":"down","peer":"10.1.1.7","reason":"ended","time":"2026-11-21T10:10:39Z"},
        {"type":"peer","agent":"h1","event":"up","peer":"10.1.1.6","name":"h2","time":"2026-11-21T10:10:38Z"}
    ],"cut":false}"#,
);
const ONE_PEER: (&str, &str) = (
    PEERS,
    r#"{"agent":null,"status":{},"peers":[{"peer":"10.1.1.6","peer_name":"h2","state":"up","later":1,
        "paths":[{"path":"unicast","recent":{}},{"path":"group","recent":{}}]}],"cut":false}"#,
);
const TWO_WINDOWS: (&str, &str) = (
    UNICAST,
    concat!(
        r#"{"windows":["#,
        window!("1970-01-01T00:00:00.000000002Z"),
        ",",
        window!("1970-01-01T00:00:00.000000001Z"),
        "]}"
    ),
);

#[test]
fn the_history_is_read_with_the_oldest_first() {
    let value = |event| {
        let line = fixtures::exported(fixtures::jsonl(), [event]);
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let slow = |seq| {
        value(Event::Outlier(Outlier {
            seq,
            ..fixtures::outlier()
        }))
    };
    let hops = json!({"hops": [{"latest": value(Event::Hops(fixtures::hops())), "lost": 0}]}).to_string();
    let outliers = json!({"outliers": [slow(9), slow(8)]}).to_string();
    let pages = [
        TWO_EVENTS,
        ONE_PEER,
        TWO_WINDOWS,
        (HOPS, hops.leak()),
        (OUTLIERS, outliers.leak()),
    ];
    let (outcome, updates, requests) = read_from(Vec::from(pages).leak());
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        updates,
        [
            "peer 10.1.1.6 (h2) up",
            "peer 10.1.1.7 down: ended",
            "10.1.1.6 Some(\"h2\") false",
            "window unicast to 1",
            "window unicast to 2",
            "hops of 10.1.1.6",
            "outlier 8",
            "outlier 9",
        ]
    );
    // The server has forgotten the windows of the other path.
    assert_eq!(requests, [EVENTS, PEERS, UNICAST, GROUP, HOPS, OUTLIERS]);
}

#[test]
fn a_server_without_a_history_has_none_and_a_wrong_page_is_a_line() {
    type Case = (&'static [(&'static str, &'static str)], Result<(), &'static str>, usize);
    let cases: [Case; 4] = [
        (&[], Ok(()), 0),
        (&[TWO_EVENTS], Ok(()), 0),
        (
            &[(EVENTS, "<html>")],
            Err("http://h: /api/v1/events?limit=500: expected value at line 1 column 1"),
            0,
        ),
        (
            &[TWO_EVENTS, ONE_PEER, (UNICAST, "[")],
            Err("http://h: /api/v1/windows?peer=10.1.1.6&path=unicast&by=report&limit=120: EOF while parsing"),
            3,
        ),
    ];
    for (pages, wanted, number) in cases {
        let (outcome, updates, _) = read_from(pages);
        match (outcome, wanted) {
            (Err(why), Err(wanted)) => assert!(why.starts_with(wanted), "{why}"),
            (outcome, wanted) => assert_eq!(outcome.is_ok(), wanted.is_ok(), "{outcome:?}"),
        }
        assert_eq!(updates.len(), number, "{updates:?}");
    }
}
