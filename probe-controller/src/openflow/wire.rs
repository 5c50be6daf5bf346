//! A cursor that reads big-endian fields and checks every length, and its counterpart that writes them.

/// Bytes that are not a message of OpenFlow 1.3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a message of version {0:#04x} where OpenFlow 1.3 (0x04) was agreed")]
    Version(u8),
    #[error("a message of type {0}, which OpenFlow 1.3 does not have")]
    Type(u8),
    /// The length in the header is below that of the header, or above the limit.
    #[error("a message that says it has {len} bytes (8 to {max_len} are allowed)")]
    Length { len: usize, max_len: usize },
    /// A structure ends within a field, or has too many bytes.
    #[error("{what} of a wrong length")]
    Size { what: &'static str },
    /// A field has an invalid or unsupported value.
    #[error("{what} {value:#x} is not known")]
    Value { what: &'static str, value: u64 },
    /// A mandatory element is missing or repeated.
    #[error("{0}")]
    Content(&'static str),
}

/// Reads from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Name of the structure, for errors.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(super) fn size_error(&self) -> DecodeError {
        DecodeError::Size { what: self.what }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(|| self.size_error())?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.size_error())?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `len` bytes as a reader of their own.
    pub(super) fn part(&mut self, len: usize, what: &'static str) -> Result<Self, DecodeError> {
        Ok(Self::new(self.bytes(len)?, what))
    }

    pub(super) fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.bytes(len).map(drop)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Fails if bytes are left.
    pub(super) fn end(self) -> Result<(), DecodeError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.size_error())
        }
    }
}

/// Writes to the end of a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Zeros up to the next multiple of 8, counted from `start`.
    pub(super) fn pad_to_8(&mut self, start: usize) {
        self.zeros((self.len() - start).next_multiple_of(8) - (self.len() - start));
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_be_bytes());
    }

    /// Overwrites a length that was written as zero. If it does not fit, the message is too long and refused later.
    pub(super) fn set_u16(&mut self, at: usize, value: usize) {
        let value = u16::try_from(value).unwrap_or(u16::MAX);
        self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
