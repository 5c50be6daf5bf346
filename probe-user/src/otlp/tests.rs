use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message as _;
use ureq::tls::RootCerts;

use super::*;
use crate::output::fixtures;
use crate::output::metrics::{Detail, State};
use crate::output::model::Event;

/// Head in lower case, and body, of one request.
type Got = (String, Vec<u8>);

fn request(socket: &mut TcpStream) -> Got {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    loop {
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
            return (head, all.split_off(end + 4));
        }
    }
}

/// A receiver that gives these replies, and then does not listen.
fn receiver(replies: Vec<Vec<u8>>) -> (String, thread::JoinHandle<Vec<Got>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/metrics", listener.local_addr().unwrap());
    let serve = move || {
        let take = |reply: Vec<u8>| {
            let (mut socket, _) = listener.accept().unwrap();
            let got = request(&mut socket);
            socket.write_all(&reply).unwrap();
            got
        };
        replies.into_iter().map(take).collect()
    };
    (url, thread::spawn(serve))
}

fn reply(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn config(url: &str) -> OtlpConfig {
    OtlpConfig {
        url: url.to_owned(),
        headers: target::headers("f".as_ref(), b"Authorization: Bearer 7").unwrap(),
        roots: RootCerts::WebPki,
    }
}

fn metrics() -> Arc<Mutex<Metrics>> {
    let mut metrics = Metrics::new(Detail::Peer, None);
    metrics.event(&Event::Start(fixtures::start()), monotonic_ns());
    metrics.event(
        &Event::Windows(fixtures::windows(vec![fixtures::good()])),
        monotonic_ns(),
    );
    Arc::new(Mutex::new(metrics))
}

#[test]
fn a_request_is_as_the_protocol_demands() {
    let partial = ExportMetricsServiceResponse {
        partial_success: Some(ExportMetricsPartialSuccess {
            rejected_data_points: 3,
            error_message: "too\nold".to_owned(),
        }),
    };
    let (url, thread) = receiver(vec![
        reply("200 OK", &partial.encode_to_vec()),
        reply("204 No Content", b""),
        reply("429 Too Many Requests\r\nRetry-After: 7", b"wait"),
        reply("401 Unauthorized", b""),
        reply("307 Temporary Redirect\r\nLocation: http://127.0.0.2/", b""),
        b"nonsense\r\n\r\n".to_vec(),
    ]);
    let post = Post::new(config(&url));
    let send = || post.send(&zipped(b"body").unwrap(), None);
    let accepted = send().unwrap();
    assert_eq!((accepted.rejected, accepted.message.as_str()), (3, "too old"));
    assert_eq!(send().unwrap(), Accepted::default());
    let busy = send().unwrap_err();
    assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
    assert!(busy.why.contains("429 Too Many Requests"), "{busy:?}");
    assert!(send().unwrap_err().why.contains("--otlp-headers"));
    assert!(send().unwrap_err().why.contains("redirects to 'http://127.0.0.2/'"));
    assert!(!send().unwrap_err().why.is_empty());
    let requests = thread.join().unwrap();
    let gone = send().unwrap_err().why;
    assert!(gone.contains("cannot be reached"), "{gone}");
    for (head, body) in requests {
        for line in [
            "post /v1/metrics http/1.1",
            "content-type: application/x-protobuf",
            "content-encoding: gzip",
            "authorization: bearer 7",
        ] {
            assert!(head.lines().any(|have| have == line), "{line} is not in {head}");
        }
        let mut plain = String::new();
        GzDecoder::new(body.as_slice()).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, "body");
    }
}

#[test]
fn a_receiver_that_never_answers_takes_a_bounded_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let post = Post::new(config(&format!("http://{}", listener.local_addr().unwrap())));
    let begin = Instant::now();
    let failure = post.send(b"", Some(Duration::from_millis(200))).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(failure.why.contains("in time"), "{failure:?}");
}

#[test]
fn the_last_export_has_what_came_last() {
    let (url, thread) = receiver(vec![reply("200 OK", b"")]);
    let metrics = metrics();
    // No export is due before the end.
    let exporter = Exporter::start(
        config(&url),
        Arc::clone(&metrics),
        "h1".to_owned(),
        Duration::from_secs(60),
    )
    .unwrap();
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        let mut metrics = metrics.lock().unwrap();
        metrics.event(
            &Event::Windows(fixtures::windows(vec![fixtures::good()])),
            monotonic_ns(),
        );
        metrics.set_state(State {
            has_ended: true,
            ..State::default()
        });
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(exporter.finish());
    late.join().unwrap();
    let [(_, body)] = thread.join().unwrap().try_into().unwrap();
    let mut plain = Vec::new();
    GzDecoder::new(body.as_slice()).read_to_end(&mut plain).unwrap();
    let request = ExportMetricsServiceRequest::decode(plain.as_slice()).unwrap();
    let text = format!("{request:?}");
    assert!(text.contains("AsInt(40)"), "both windows: {text}");
}

#[test]
fn the_user_is_told_of_changes_only() {
    let failure = post::Failure {
        why: "no".to_owned(),
        retry_after: None,
    };
    let (good, partial) = (
        Accepted::default(),
        Accepted {
            rejected: 2,
            message: "old".to_owned(),
        },
    );
    let mut link = Link::default();
    let begin = Instant::now();
    let mut note = |outcome, s| link.note(outcome, begin + Duration::from_secs(s));
    assert_eq!(note(Ok(&good), 0), None);
    let down = note(Err(&failure), 1).unwrap();
    assert_eq!(down, "no; measuring goes on, and sending is tried again");
    assert_eq!(note(Err(&failure), 2), None);
    assert_eq!(note(Ok(&good), 8).unwrap(), "metrics are taken again, after 7 s");
    assert_eq!(note(Ok(&partial), 9).unwrap(), "2 series were not taken: old");
    assert_eq!(note(Ok(&partial), 10), None);
    assert!(note(Err(&failure), 11).is_some());
}
