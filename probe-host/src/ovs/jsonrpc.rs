//! JSON-RPC 1.0 over a stream (RFC 7047 §4): objects one after another, without a length or a separator.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use probe_core::text::plain;
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::{Domain, SockAddr, Socket, Type};

/// Longest message; the largest is the first one, with about 1 kB for each port of the switch.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Longest text of a refusal that is passed on.
const MAX_ERROR: usize = 200;
const READ_SIZE: usize = 64 << 10;

/// A message that could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("what it sends is no JSON-RPC: {0}")]
    Garbage(String),
    #[error("its message is longer than {} MiB", MAX_MESSAGE >> 20)]
    TooLong,
    #[error("it refused '{method}': {error}")]
    Refused { method: &'static str, error: String },
}

impl From<serde_json::Error> for RpcError {
    fn from(error: serde_json::Error) -> Self {
        Self::Garbage(error.to_string())
    }
}

/// What kind of a message it is. The rest is read by those who expect it.
#[derive(Debug, Default, Deserialize)]
pub struct Envelope {
    #[serde(default)]
    pub id: Value,
    /// Of a request or a notification.
    pub method: Option<String>,
    /// Of a reply.
    #[serde(default)]
    pub error: Value,
}

impl Envelope {
    pub fn of(message: &[u8]) -> Result<Self, RpcError> {
        Ok(serde_json::from_slice(message)?)
    }

    /// Whether this is the reply to the request `id`; an error if that was refused.
    pub fn answers(&self, id: &str, method: &'static str) -> Result<bool, RpcError> {
        if self.method.is_some() || self.id != id {
            return Ok(false);
        }
        match &self.error {
            Value::Null => Ok(true),
            error => {
                let text = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
                let error = plain(text.trim(), MAX_ERROR);
                Err(RpcError::Refused { method, error })
            }
        }
    }
}

pub fn request(id: &str, method: &str, params: &Value) -> Vec<u8> {
    json!({ "id": id, "method": method, "params": params })
        .to_string()
        .into_bytes()
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    /// Bytes of `bytes` that were looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub fn next(&mut self) -> Result<Option<Vec<u8>>, RpcError> {
        while let Some(&byte) = self.bytes.get(self.scanned) {
            if self.depth == 0 && !byte.is_ascii_whitespace() && byte != b'{' {
                return Err(RpcError::Garbage(format!("byte 0x{byte:02x} in place of a message")));
            }
            self.scanned += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let rest = self.bytes.split_off(self.scanned);
                        self.scanned = 0;
                        return Ok(Some(std::mem::replace(&mut self.bytes, rest)));
                    }
                }
                _ => {}
            }
        }
        if self.bytes.len() > MAX_MESSAGE {
            return Err(RpcError::TooLong);
        }
        Ok(None)
    }
}

/// Connects to a socket of Open vSwitch. Connecting, each read and each write take no longer than `limit`.
pub fn connect(socket: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A program that accepts nobody would else be waited for.
    stream.set_write_timeout(Some(limit))?;
    stream.set_read_timeout(Some(limit))?;
    stream.connect(&SockAddr::unix(socket)?)?;
    Ok(stream.into())
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    splitter: Splitter,
    buffer: Vec<u8>,
}

impl Connection {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            splitter: Splitter::default(),
            buffer: vec![0; READ_SIZE],
        }
    }

    /// Each read takes no longer than this.
    pub fn set_limit(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))
    }

    pub fn send(&mut self, message: &[u8]) -> Result<(), RpcError> {
        Ok(self.stream.write_all(message)?)
    }

    /// The next message; `None` if nothing came within the time limit.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, RpcError> {
        loop {
            if let Some(message) = self.splitter.next()? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(RpcError::Closed),
                Ok(length) => self.splitter.push(&self.buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_wherever_the_stream_is() {
        let stream = br#" {"a":"}\"{","b":[{}]}{"c":"\\"}
            {"d":1}"#;
        let messages = [r#" {"a":"}\"{","b":[{}]}"#, r#"{"c":"\\"}"#, "\n            {\"d\":1}"];
        for size in 1..stream.len() {
            let mut splitter = Splitter::default();
            let mut seen = Vec::new();
            for bytes in stream.chunks(size) {
                splitter.push(bytes);
                while let Some(message) = splitter.next().unwrap() {
                    seen.push(String::from_utf8(message).unwrap());
                }
            }
            assert_eq!(seen, messages, "{size} bytes at once");
        }
    }

    #[test]
    fn garbage_is_noticed_at_its_first_byte() {
        for garbage in ["SSH-2.0", "]", "{}x", "\u{0}"] {
            let mut splitter = Splitter::default();
            splitter.push(garbage.as_bytes());
            let refused = (0..2).any(|_| matches!(splitter.next(), Err(RpcError::Garbage(_))));
            assert!(refused, "{garbage}");
        }
    }

    #[test]
    fn a_message_without_an_end_is_refused() {
        let mut splitter = Splitter::default();
        splitter.push(b"{\"");
        splitter.push(&vec![b'a'; MAX_MESSAGE]);
        assert!(matches!(splitter.next(), Err(RpcError::TooLong)));
    }

    #[test]
    fn only_the_reply_to_the_own_request_counts() {
        let answers = |text: &str| {
            Envelope::of(text.as_bytes())
                .unwrap()
                .answers("7", "monitor")
                .map_err(|e| e.to_string())
        };
        assert_eq!(answers(r#"{"id":"7","result":{},"error":null}"#), Ok(true));
        assert_eq!(answers(r#"{"id":"8","result":{},"error":null}"#), Ok(false));
        assert_eq!(answers(r#"{"id":"7","method":"echo","params":[]}"#), Ok(false));
        let refused = answers(r#"{"id":"7","result":null,"error":{"error":"unknown table"}}"#);
        assert_eq!(
            refused,
            Err(r#"it refused 'monitor': {"error":"unknown table"}"#.to_owned())
        );
    }
}
