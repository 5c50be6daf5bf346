//! Splits a byte stream into messages. A message is read only when it is complete, and only up to its length.

use crate::openflow::message::kind;
use crate::openflow::wire::{DecodeError, Reader};

/// Length of a message's header, in bytes.
pub const HEADER_LEN: usize = 8;
/// OpenFlow 1.3 on the wire.
pub const VERSION: u8 = 4;
/// The longest message that a header can announce.
pub const MAX_MESSAGE: usize = 65_535;

/// `ofp_header` without the length, which is that of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub version: u8,
    /// `ofp_type`.
    pub kind: u8,
    /// Transaction: an answer has that of its request.
    pub xid: u32,
}

impl Header {
    /// Reads a header, and returns it with the length of the whole message, which is at most `max_len`.
    ///
    /// Only a hello may be of another version.
    ///
    /// # Errors
    /// [`DecodeError`]; the stream is then unusable.
    pub fn decode(bytes: &[u8; HEADER_LEN], max_len: usize) -> Result<(Self, usize), DecodeError> {
        let mut reader = Reader::new(bytes, "a header");
        let (version, kind) = (reader.u8()?, reader.u8()?);
        let (len, xid) = (usize::from(reader.u16()?), reader.u32()?);
        if version == 0 || (kind != kind::HELLO && version != VERSION) {
            return Err(DecodeError::Version(version));
        }
        if kind > kind::LAST {
            return Err(DecodeError::Type(kind));
        }
        if len < HEADER_LEN || len > max_len {
            return Err(DecodeError::Length { len, max_len });
        }
        Ok((Self { version, kind, xid }, len))
    }
}

/// Bytes that were read but not yet split into messages.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
    max_len: usize,
}

impl Framer {
    /// Takes messages of up to `max_len` bytes.
    pub fn new(max_len: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            max_len: max_len.clamp(HEADER_LEN, MAX_MESSAGE),
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Header and body of the next message; `None` until it is complete.
    ///
    /// # Errors
    /// [`DecodeError`] as soon as a header is wrong, and at each later call.
    pub fn next_message(&mut self) -> Result<Option<(Header, &[u8])>, DecodeError> {
        let Some(head) = self.buffer[self.start..].first_chunk() else {
            return Ok(None);
        };
        let (header, len) = Header::decode(head, self.max_len)?;
        let Some(message) = self.buffer.get(self.start..self.start + len) else {
            return Ok(None);
        };
        self.start += len;
        Ok(Some((header, &message[HEADER_LEN..])))
    }

    /// Bytes that are waiting for the rest of their message.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }
}
