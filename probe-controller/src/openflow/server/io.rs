//! A connection's two halves, with the time of each read.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use log::debug;
use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, Timestamps, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use probe_host::clock::{monotonic_ns, realtime_ns};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::openflow::frame::{Framer, Header};
use crate::openflow::server::event::Reason;

/// Bytes read at a time.
const READ: usize = 16 * 1024;
/// After a read of more than this, other connections get their turn. Answers to probes are far smaller.
const BUSY: usize = 1024;

/// A socket that notes when it was last read. Under TLS it is the inner stream, so that decryption is not counted.
pub(super) struct Stamped {
    socket: TcpStream,
    read_at_ns: Rc<Cell<u64>>,
}

impl Stamped {
    /// The socket, and the cell that will hold `CLOCK_MONOTONIC` in ns of the last read that gave bytes.
    pub(super) fn new(socket: TcpStream) -> (Self, Rc<Cell<u64>>) {
        ask_for_stamps(&socket);
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
                let (count, at_ns) = receive(&self.socket, free)?;
                received = Some((count, at_ns));
                // A short read has emptied the socket; tokio then waits without trying to read.
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

/// The reading half.
pub(super) struct Incoming<S> {
    half: ReadHalf<S>,
    read_at_ns: Rc<Cell<u64>>,
    framer: Framer,
    buffer: Box<[u8]>,
    /// Length of the last read.
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

    /// Waits for bytes, and returns the time of the read.
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

    /// Whether the last read was so large that more bytes may be waiting.
    pub(super) fn is_busy(&self) -> bool {
        self.last > BUSY
    }

    pub(super) fn next_message(&mut self) -> Result<Option<(Header, &[u8])>, Reason> {
        self.framer
            .next_message()
            .map_err(|error| Reason::Protocol(error.to_string()))
    }

    /// Reads and discards until the other end has closed, at most for `limit`.
    pub(super) async fn drain(&mut self, limit: Duration) {
        let _ = timeout(limit, async {
            while matches!(self.half.read(&mut self.buffer).await, Ok(1..)) {}
        })
        .await;
    }
}

/// The writing half.
pub(super) struct Outgoing<S> {
    half: WriteHalf<S>,
    limit: Duration,
}

impl<S: AsyncWrite> Outgoing<S> {
    pub(super) fn new(half: WriteHalf<S>, limit: Duration) -> Self {
        Self { half, limit }
    }

    /// Hands all bytes to the kernel.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let write = async {
            self.half.write_all(bytes).await?;
            self.half.flush().await
        };
        match timeout(self.limit, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(from_io(&error)),
            Err(_) => Err(Reason::Silent(format!(
                "it has read nothing for {} s",
                self.limit.as_secs_f32()
            ))),
        }
    }

    /// Shuts the writing half down.
    pub(super) async fn finish(&mut self) {
        let _ = timeout(self.limit, self.half.shutdown()).await;
    }
}

pub(super) fn from_io(error: &io::Error) -> Reason {
    match error.kind() {
        // Errors of rustls, and a TLS stream that ends without close_notify.
        io::ErrorKind::InvalidData => Reason::Tls(error.to_string()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Reason::ClosedBySwitch
        }
        _ => Reason::Io(error.to_string()),
    }
}

const NS_PER_S: i64 = 1_000_000_000;
/// A larger age of an arrival stamp means that the socket was not read, or that the wall clock was set. The time of the
/// read is then the better stamp.
const MAX_WAIT_NS: u64 = NS_PER_S as u64;

/// Asks for stamps. Without them the time of the read is used.
fn ask_for_stamps(socket: &impl AsFd) {
    let flags = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    if let Err(error) = setsockopt(socket, sockopt::Timestamping, &flags) {
        debug!("no stamps of arrival for a switch's connection: {error}");
    }
}

/// Reads, and returns when the last byte arrived (`CLOCK_MONOTONIC`, ns): TCP has one stamp for each read
/// (`tcp_recvmsg_locked` in `net/ipv4/tcp.c`).
///
/// # Errors
/// As those of `recvmsg`.
fn receive(socket: &impl AsRawFd, to: &mut [u8]) -> io::Result<(usize, u64)> {
    let mut parts = [IoSliceMut::new(to)];
    let mut control = nix::cmsg_space!(Timestamps);
    let (count, stamped) = loop {
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
            Ok(received) => break (received.bytes, stamp(received.cmsgs().ok().into_iter().flatten())),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    Ok((count, to_monotonic(stamped, realtime_ns(), monotonic_ns())))
}

fn stamp(mut messages: impl Iterator<Item = ControlMessageOwned>) -> Option<TimeSpec> {
    messages.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampsns(stamps) => Some(stamps.system),
        _ => None,
    })
}

/// Converts a stamp from `CLOCK_REALTIME` to `CLOCK_MONOTONIC` by its age.
fn to_monotonic(stamp: Option<TimeSpec>, realtime_ns: u64, monotonic_ns: u64) -> u64 {
    let waited = stamp
        .and_then(|stamp| u64::try_from(stamp.tv_sec() * NS_PER_S + stamp.tv_nsec()).ok())
        .filter(|&at_ns| at_ns > 0)
        .and_then(|at_ns| realtime_ns.checked_sub(at_ns))
        .filter(|&waited| waited <= MAX_WAIT_NS)
        .unwrap_or(0);
    monotonic_ns.saturating_sub(waited)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_that_cannot_be_is_not_used() {
        let real = 1_800_000_000 * NS_PER_S as u64;
        let mono = 5_000 * NS_PER_S as u64;
        let at = |ns: u64| {
            Some(TimeSpec::new(
                (ns / NS_PER_S as u64) as i64,
                (ns % NS_PER_S as u64) as i64,
            ))
        };
        let table = [
            (at(real - 700), mono - 700),
            (at(real), mono),
            (at(real - MAX_WAIT_NS), mono - MAX_WAIT_NS),
            // The wall clock was set forth, or back; no stamp; none from this device.
            (at(real - MAX_WAIT_NS - 1), mono),
            (at(real + 1), mono),
            (None, mono),
            (at(0), mono),
        ];
        for (stamp, expected) in table {
            assert_eq!(to_monotonic(stamp, real, mono), expected, "{stamp:?}");
        }
    }
}
