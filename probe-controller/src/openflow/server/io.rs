//! A connection's two halves, with the time of each read.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use probe_host::clock::monotonic_ns;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::openflow::frame::{Framer, Header};
use crate::openflow::server::{Reason, arrival};

/// Bytes read at a time.
const READ: usize = 16 * 1024;
/// A switch that sends more than this at once does not get all of the thread. An answer to what measures is far smaller.
const BUSY: usize = 1024;

/// A socket that notes when it was last read. Under TLS it is the inner stream, so that decryption is not counted.
pub(super) struct Stamped {
    socket: TcpStream,
    read_at_ns: Rc<Cell<u64>>,
}

impl Stamped {
    /// The socket, and the cell that will hold `CLOCK_MONOTONIC` in ns of the last read that gave bytes.
    pub(super) fn new(socket: TcpStream) -> (Self, Rc<Cell<u64>>) {
        arrival::ask(&socket);
        let read_at_ns = Rc::new(Cell::new(monotonic_ns()));
        let stamped = Self {
            socket,
            read_at_ns: Rc::clone(&read_at_ns),
        };
        (stamped, read_at_ns)
    }
}

impl AsyncRead for Stamped {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let free = to.initialize_unfilled();
            let mut received = None;
            let tried = self.socket.try_io(Interest::READABLE, || {
                let (count, at_ns) = arrival::receive(&self.socket, free)?;
                received = Some((count, at_ns));
                // A read that was not filled has emptied the socket. Said so, tokio waits for more, and need not try.
                if (1..free.len()).contains(&count) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (received, tried) {
                (Some((count, at_ns)), _) => {
                    to.advance(count);
                    self.read_at_ns.set(at_ns);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, tried) => return Poll::Ready(tried),
            }
        }
    }
}

impl AsyncWrite for Stamped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What comes.
pub(super) struct Incoming<S> {
    half: ReadHalf<S>,
    read_at_ns: Rc<Cell<u64>>,
    framer: Framer,
    buffer: Box<[u8]>,
    /// How much the last read gave.
    last: usize,
}

impl<S: AsyncRead> Incoming<S> {
    pub(super) fn new(half: ReadHalf<S>, read_at_ns: Rc<Cell<u64>>, message_bytes: usize) -> Self {
        Self {
            half,
            read_at_ns,
            framer: Framer::new(message_bytes),
            buffer: vec![0; READ].into_boxed_slice(),
            last: 0,
        }
    }

    /// Waits for bytes, and says when they were read.
    pub(super) async fn fill(&mut self) -> Result<u64, Reason> {
        match self.half.read(&mut self.buffer).await {
            Ok(0) if self.framer.waiting() > 0 => Err(Reason::Protocol(format!(
                "the connection ended within a message, {} bytes into it",
                self.framer.waiting()
            ))),
            Ok(0) => Err(Reason::ClosedBySwitch),
            Ok(count) => {
                self.framer.push(&self.buffer[..count]);
                self.last = count;
                Ok(self.read_at_ns.get())
            }
            Err(error) => Err(from_io(&error)),
        }
    }

    /// Whether so much came at once that more may be waiting.
    pub(super) fn is_busy(&self) -> bool {
        self.last > BUSY
    }

    /// The next message of those that were read.
    pub(super) fn next_message(&mut self) -> Result<Option<(Header, &[u8])>, Reason> {
        self.framer
            .next_message()
            .map_err(|error| Reason::Protocol(error.to_string()))
    }

    /// Reads and discards until the other end has closed, or `most` is over.
    pub(super) async fn drain(&mut self, most: Duration) {
        let _ = timeout(most, async {
            while matches!(self.half.read(&mut self.buffer).await, Ok(1..)) {}
        })
        .await;
    }
}

/// What goes.
pub(super) struct Outgoing<S> {
    half: WriteHalf<S>,
    most: Duration,
}

impl<S: AsyncWrite> Outgoing<S> {
    pub(super) fn new(half: WriteHalf<S>, most: Duration) -> Self {
        Self { half, most }
    }

    /// Hands all bytes to the kernel.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let write = async {
            self.half.write_all(bytes).await?;
            self.half.flush().await
        };
        match timeout(self.most, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(from_io(&error)),
            Err(_) => Err(Reason::Silent(format!(
                "it has read nothing for {} s",
                self.most.as_secs_f32()
            ))),
        }
    }

    /// Tells the other end that no more comes.
    pub(super) async fn finish(&mut self) {
        let _ = timeout(self.most, self.half.shutdown()).await;
    }
}

pub(super) fn from_io(error: &io::Error) -> Reason {
    match error.kind() {
        // What rustls finds wrong, and the end of a TLS stream without a word.
        io::ErrorKind::InvalidData => Reason::Tls(error.to_string()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Reason::ClosedBySwitch
        }
        _ => Reason::Io(error.to_string()),
    }
}
