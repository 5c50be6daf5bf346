//! Lines of a stream of bytes, of bounded length.

use std::collections::VecDeque;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest line. A record of a window has about 3,000 bytes.
const MAX_LINE: usize = 1 << 20;
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Lines {
    /// The beginning of a line.
    begun: Vec<u8>,
    /// The line is too long, and its rest is skipped.
    is_skipped: bool,
}

impl Lines {
    /// Takes bytes, and returns the lines that they complete. Lines that are too long are left out.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.is_skipped |= self.begun.len() + text.len() > MAX_LINE;
            match self.is_skipped {
                true => self.begun.clear(),
                false => self.begun.extend_from_slice(text),
            }
            if is_whole {
                let line = std::mem::take(&mut self.begun);
                if !std::mem::take(&mut self.is_skipped) {
                    lines.push(line);
                }
            }
        }
        lines
    }
}

/// Reads lines until the end.
pub struct LineReader<R> {
    from: R,
    lines: Lines,
    chunk: Vec<u8>,
    read: VecDeque<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub fn new(from: R) -> Self {
        Self {
            from,
            lines: Lines::default(),
            chunk: vec![0; CHUNK],
            read: VecDeque::new(),
        }
    }

    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(line) = self.read.pop_front() {
                return Some(line);
            }
            let Ok(length @ 1..) = self.from.read(&mut self.chunk).await else {
                return None;
            };
            self.read.extend(self.lines.take(&self.chunk[..length]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_long_ones_left_out() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"one\ntw"), [b"one"]);
        assert_eq!(lines.take(b"o\n\n"), [b"two".to_vec(), vec![]]);
        for _ in 0..40 {
            assert!(lines.take(&[b'x'; 64 << 10]).is_empty());
            assert!(lines.begun.len() <= MAX_LINE);
        }
        assert_eq!(lines.take(b"x\nthree\n"), [b"three"]);
    }
}
