//! A stamped socket within a tokio runtime.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::udp::stamped::{Leaving, Received, SentStamp, StampedSocket};

struct Inner(RefCell<StampedSocket>);

impl AsRawFd for Inner {
    fn as_raw_fd(&self) -> RawFd {
        self.0.borrow().as_fd().as_raw_fd()
    }
}

/// A [`StampedSocket`] that does not block and can be waited for. No borrow of it lasts over a wait.
pub struct WatchedSocket(AsyncFd<Inner>);

impl WatchedSocket {
    /// Watches `socket`, which must not block and has sent nothing yet.
    pub fn new(socket: Socket) -> io::Result<Self> {
        let inner = Inner(RefCell::new(StampedSocket::new(socket)?));
        // SAFETY: `Inner` owns the socket and gives the same descriptor until it is dropped.
        let fd = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    /// Returns when there may be packets: read them until there are none. Cancel safe.
    pub async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// As [`WatchedSocket::ready`]. Wakes only the last task that polled.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// A packet, of which at most `max_len` bytes are taken. Wakes only the last task that polled.
    pub fn poll_receive(&self, max_len: usize, cx: &mut Context<'_>) -> Poll<io::Result<(Vec<u8>, Received)>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let mut packet = vec![0; max_len];
            match guard.try_io(|fd| fd.get_ref().0.borrow_mut().receive(&mut packet)) {
                Ok(received) => {
                    let received = received?;
                    packet.truncate(received.len);
                    return Poll::Ready(Ok((packet, received)));
                }
                // Readiness can be stale, and a datagram with a wrong checksum vanishes on reading.
                Err(_would_block) => {}
            }
        }
    }

    /// Takes a packet that is there already.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        match self.0.get_ref().0.borrow_mut().receive(buffer) {
            Ok(received) => Ok(Some(received)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs `body` on the socket, within the limits of [`StampedSocket::socket`].
    pub fn with_socket<T>(&self, body: impl FnOnce(&Socket) -> T) -> T {
        body(self.0.get_ref().0.borrow().socket())
    }

    /// As [`StampedSocket::send`].
    pub fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<u32> {
        self.0.get_ref().0.borrow_mut().send(packet, to)
    }

    /// As [`StampedSocket::send_leaving`].
    pub fn send_leaving(&self, packet: &[u8], to: SocketAddr, leaving: Leaving) -> io::Result<u32> {
        self.0.get_ref().0.borrow_mut().send_leaving(packet, to, leaving)
    }

    /// As [`StampedSocket::sent_stamp`].
    pub fn sent_stamp(&self) -> io::Result<Option<SentStamp>> {
        self.0.get_ref().0.borrow_mut().sent_stamp()
    }
}
