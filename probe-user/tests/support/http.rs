//! Requests to a server in a namespace.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::in_namespace;

/// Where the tests have kstamp listen.
pub const ADDRESS: &str = "127.0.0.1:9862";

/// Runs `act` in the namespace, in a thread of its own.
pub fn within<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let act = || {
        in_namespace(namespace);
        act()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

/// Status, head in lower case, body.
#[derive(Debug)]
pub struct Reply(pub u16, pub String, pub Vec<u8>);

impl Reply {
    pub fn read(stream: &mut impl Read) -> io::Result<Self> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| io::Error::other(String::from_utf8_lossy(&all).into_owned()))?;
        let head = String::from_utf8_lossy(&all[..end]).to_ascii_lowercase();
        Ok(Self(status_of(&head), head, all[end + 4..].to_vec()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.2).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.2).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends `GET /…` with further headers, each ended by `\r\n`.
fn send(stream: &mut impl Write, request: &str, headers: &str) -> io::Result<()> {
    // One header of a name holds.
    let host = if headers.contains("Host:") {
        ""
    } else {
        "Host: localhost\r\n"
    };
    write!(stream, "{request} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n")
}

pub fn ask(stream: &mut (impl Read + Write), request: &str, headers: &str) -> io::Result<Reply> {
    send(stream, request, headers)?;
    Reply::read(stream)
}

/// `GET /…`, in this namespace.
pub fn request(request: &str) -> Reply {
    ask(&mut connect(ADDRESS), request, "").unwrap()
}

pub fn get(namespace: &str, path: &str) -> Reply {
    within(namespace, || request(&format!("GET {path}")))
}

/// Asks until the reply is as wanted.
pub fn await_json(namespace: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(15);
    loop {
        let reply = get(namespace, path).json();
        if wanted(&reply) {
            return reply;
        }
        assert!(Instant::now() < end, "{path}: {reply:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Reads server-sent events.
pub struct Events {
    pub status: u16,
    reader: BufReader<TcpStream>,
}

impl Events {
    pub fn open(path: &str) -> Self {
        let mut stream = connect(ADDRESS);
        send(&mut stream, &format!("GET {path}"), "").unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let status = status_of(&head);
        Self { status, reader }
    }

    /// The next event of this type: its data.
    pub fn next(&mut self, kind: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(15);
        let mut event = String::new();
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "the stream ended");
            assert!(Instant::now() < end, "no {kind}");
            let line = line.trim_end();
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ").filter(|_| event == kind) {
                let record: Value = serde_json::from_str(data).unwrap();
                assert_eq!(record["type"], kind);
                return record;
            }
        }
    }
}
