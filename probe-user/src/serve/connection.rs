//! Connections, and the limits on their number and time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use log::debug;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::serve::reply::{Client, Replies};
use crate::serve::site::Site;
use crate::serve::stream;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// Of these, from one source.
const MAX_FROM_ONE: usize = 8;
/// Time for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the head of a request, counted from the end of the one before.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection takes no more requests after this time.
const LIFETIME: Duration = Duration::from_secs(300);
/// Time for the client to read the last reply after that.
const LAST_REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The kernel ends a connection whose client has acknowledged nothing for this time.
const UNACKNOWLEDGED_MS: u32 = 30_000;
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Open connections by source.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

pub(super) struct Connections<S> {
    replies: Replies<S>,
    tasks: JoinSet<()>,
    open: Open,
}

impl<S: Site> Connections<S> {
    pub(super) fn new(replies: Replies<S>) -> Self {
        Self {
            replies,
            tasks: JoinSet::new(),
            open: Open::default(),
        }
    }

    /// Serves a connection, or closes it if there are too many.
    pub(super) fn admit(&mut self, socket: TcpStream, from: SocketAddr) {
        let source = source_of(from.ip());
        let Some(place) = Place::take(&self.open, source) else {
            debug!("{from}: too many connections");
            return;
        };
        // If the kernel refuses this, a dead client keeps its place for longer.
        let _ = setsockopt(&socket, sockopt::TcpUserTimeout, &UNACKNOWLEDGED_MS);
        let replies = self.replies.clone();
        self.tasks.spawn(async move {
            let acceptor = replies.acceptor();
            match acceptor {
                None => serve(socket, source, &replies).await,
                Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                    Ok(Ok(stream)) => serve(stream, source, &replies).await,
                    Ok(Err(error)) => debug!("{from}: TLS: {error}"),
                    Err(_) => debug!("{from}: no TLS handshake in time"),
                },
            }
            drop(place);
        });
    }

    /// Returns when a connection has ended; never without connections. Cancel safe.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Who is behind an address. A host has as many IPv6 addresses as it likes in its network.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

/// One connection of a source; given back when dropped.
struct Place {
    open: Open,
    source: IpAddr,
}

impl Place {
    fn take(open: &Open, source: IpAddr) -> Option<Self> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.get(&source).copied().unwrap_or_default();
        if own >= MAX_FROM_ONE || counts.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        counts.insert(source, own + 1);
        Some(Self {
            open: Arc::clone(open),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = counts.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

async fn serve<S: Site>(stream: impl AsyncRead + AsyncWrite + Unpin, source: IpAddr, replies: &Replies<S>) {
    let client = Client {
        source,
        is_reader: AtomicBool::new(false),
    };
    let service = service_fn(|request| replies.reply(request, &client));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match timeout(LIFETIME, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            let last = match client.is_reader.load(Ordering::Relaxed) {
                true => stream::LIFETIME + LAST_REPLY_TIMEOUT,
                false => LAST_REPLY_TIMEOUT,
            };
            timeout(last, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        debug!("HTTP: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_one_source() {
        let source = |text: &str| source_of(text.parse().unwrap()).to_string();
        for (address, want) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("fd00::1:2", "fd00::"),
            ("fd00:0:0:1::1", "fd00:0:0:1::"),
        ] {
            assert_eq!(source(address), want);
        }
    }

    #[test]
    fn connections_are_bounded_in_all_and_by_source() {
        let open = Open::default();
        let source = |number: u8| IpAddr::from([10, 0, 0, number]);
        let mut places: Vec<_> = (0..MAX_FROM_ONE)
            .filter_map(|_| Place::take(&open, source(1)))
            .collect();
        assert_eq!(places.len(), MAX_FROM_ONE);
        assert!(Place::take(&open, source(1)).is_none());
        places.extend((2..=200).filter_map(|number| Place::take(&open, source(number))));
        assert_eq!(places.len(), MAX_CONNECTIONS);
        places.pop();
        assert!(Place::take(&open, source(1)).is_none());
        assert!(Place::take(&open, source(250)).is_some());
        drop(places);
        assert!(open.lock().unwrap().is_empty());
    }
}
