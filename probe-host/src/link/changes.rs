//! Notices of the kernel that links or addresses have changed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::link::request::take;

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR` and `RTNLGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: [u32; 3] = [1, 5, 9];

/// Notices of one network namespace. The kernel bounds those that wait.
#[derive(Debug)]
pub struct Changes {
    notices: AsyncFd<Notices>,
    pub(super) seen: RefCell<Seen>,
}

/// As [`Changes`], for callers that look now and then.
#[derive(Debug)]
pub struct Notices(Socket);

impl AsRawFd for Notices {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Notices {
    /// Of the current network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Self(socket))
    }

    /// Whether anything has changed since the call before.
    pub fn take_changed(&self) -> bool {
        let mut seen = Seen::default();
        self.read(&mut seen);
        seen.concerns(None)
    }

    fn read(&self, seen: &mut Seen) {
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => {
                    let mut messages = Vec::new();
                    let _ = take(&bytes, &mut messages);
                    messages.into_iter().for_each(|message| seen.add(message));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => seen.overflowed = true,
                Err(_) => return,
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Links and addresses of these interfaces have changed.
    changed: BTreeSet<u32>,
    deleted: BTreeSet<u32>,
    /// The kernel had to leave notices out.
    pub(super) overflowed: bool,
}

impl Changes {
    /// Of the current network namespace, within a tokio runtime.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            // SAFETY: `Notices` owns the socket and gives the same descriptor until it is dropped.
            notices: unsafe { AsyncFd::register_with_interest(Notices::open()?, Interest::READABLE) }
                .map_err(io::Error::from)?,
            seen: RefCell::default(),
        })
    }

    /// Returns when the interface of that index has changed, or any if it has none. Cancel safe.
    pub async fn changed(&self, index: Option<u32>) -> io::Result<()> {
        // Once it has changed, further notices wait in the kernel, which bounds them.
        while !self.seen.borrow().concerns(index) {
            self.notices.readable().await?.clear_ready();
            self.read();
        }
        Ok(())
    }

    /// Forgets the notices so far. Returns whether the interface of that index was deleted.
    pub fn take_deleted(&self, index: Option<u32>) -> bool {
        self.read();
        let seen = self.seen.take();
        index.is_some_and(|index| seen.deleted.contains(&index))
    }

    fn read(&self) {
        self.notices.get_ref().read(&mut self.seen.borrow_mut());
    }
}

impl Seen {
    fn add(&mut self, message: RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::DelLink(LinkMessage { header, .. }) => {
                self.deleted.insert(header.index);
                self.changed.insert(header.index);
            }
            RouteNetlinkMessage::NewLink(LinkMessage { header, .. }) => {
                self.changed.insert(header.index);
            }
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                self.changed.insert(address.header.index);
            }
            _ => {}
        }
    }

    pub(super) fn concerns(&self, index: Option<u32>) -> bool {
        self.overflowed
            || match index {
                Some(index) => self.changed.contains(&index),
                None => !self.changed.is_empty(),
            }
    }
}
