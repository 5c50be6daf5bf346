//! The I/O thread: accepts connections, runs TLS and the handshake, and reports refused connections.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info, warn};
use probe_host::clock::monotonic_ns;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use crate::openflow::server::connection::Connection;
use crate::openflow::server::context::Context;
use crate::openflow::server::event::{Command, ConnectionId, EventKind, Reason};
use crate::openflow::server::handshake::Handshake;
use crate::openflow::server::io::{Incoming, Outgoing, Stamped, from_io};
use crate::openflow::server::pacer::Pacer;
use crate::openflow::server::shared::Counts;

/// Commands that may wait for one connection.
const MAX_COMMANDS: usize = 2_048;
/// Wait after an error of accept (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for connections to end when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(900);

/// Runs until it is stopped and all connections have ended.
pub(super) async fn run(listener: TcpListener, context: Context, pacer: Pacer) {
    let context = Rc::new(context);
    let mut stop = context.stop.clone();
    let local = LocalSet::new();
    local
        .run_until(async {
            let mut connections = JoinSet::new();
            let pacing = tokio::task::spawn_local(pacer.run());
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((socket, address)) => admit(&context, &mut connections, socket, address),
                        Err(error) => {
                            warn!("cannot take a switch's connection: {error}");
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    },
                    Some(_) = connections.join_next() => {}
                    _ = stop.wait_for(|&stop| stop) => break,
                }
            }
            drop(listener);
            pacing.abort();
            let _ = timeout(STOP_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
        })
        .await;
}

fn admit(context: &Rc<Context>, connections: &mut JoinSet<()>, socket: TcpStream, address: SocketAddr) {
    let connection = ConnectionId(context.next_connection.get());
    context.next_connection.set(connection.0 + 1);
    let limit = context.config.limits.switches;
    if connections.len() >= limit {
        refuse(
            context,
            connection,
            address,
            Reason::Limit(format!("{limit} connections are open, and no more are taken")),
        );
        return;
    }
    // Nagle's algorithm would delay small messages.
    if let Err(error) = socket.set_nodelay(true) {
        debug!("{address}: TCP_NODELAY: {error}");
    }
    connections.spawn_local(serve(Rc::clone(context), connection, socket, address));
}

async fn serve(context: Rc<Context>, connection: ConnectionId, socket: TcpStream, address: SocketAddr) {
    let (stamped, read_at_ns) = Stamped::new(socket);
    let result = match &context.tls {
        None => talk(&context, connection, address, stamped, read_at_ns).await,
        Some(acceptor) => match timeout(context.config.limits.handshake, acceptor.accept(stamped)).await {
            Ok(Ok(stream)) => talk(&context, connection, address, stream, read_at_ns).await,
            Ok(Err(error)) => Err(tls_failure(&error)),
            Err(_) => Err(Reason::Silent(
                "it did not get through the TLS handshake in time; does it speak TLS (ssl:)?".to_owned(),
            )),
        },
    };
    if let Err(reason) = result {
        refuse(&context, connection, address, reason);
    }
}

/// Describes an error of rustls, or a connection that ended in the handshake.
fn tls_failure(error: &std::io::Error) -> Reason {
    match from_io(error) {
        Reason::ClosedBySwitch => {
            Reason::Tls("the switch gave up during the handshake; does it know our authority?".to_owned())
        }
        reason => reason,
    }
}

/// Runs the handshake, then the connection. An error is one of the handshake.
async fn talk<S: AsyncRead + AsyncWrite>(
    context: &Rc<Context>,
    connection: ConnectionId,
    address: SocketAddr,
    stream: S,
    read_at_ns: Rc<Cell<u64>>,
) -> Result<(), Reason> {
    let limits = &context.config.limits;
    let (reader, writer) = tokio::io::split(stream);
    let mut incoming = Incoming::new(reader, read_at_ns, limits.message_bytes);
    let mut outgoing = Outgoing::new(writer, limits.dead);
    let handshake = Handshake::new(
        &mut incoming,
        &mut outgoing,
        connection,
        address,
        context.config.measure_only,
    );
    let mut stop = context.stop.clone();
    let ready = tokio::select! {
        ready = timeout(limits.handshake, handshake.run(&context.slots)) => match ready {
            Ok(ready) => ready,
            Err(_) => Err(Reason::Silent(format!(
                "it did not get through the OpenFlow handshake in {} s",
                limits.handshake.as_secs_f32()
            ))),
        },
        _ = stop.wait_for(|&stop| stop) => Err(Reason::ClosedHere),
    };
    let mut ready = match ready {
        Ok(ready) => ready,
        Err(reason) => {
            outgoing.finish().await;
            return Err(reason);
        }
    };
    let dpid = ready.features.dpid;
    info!("switch {dpid} connected from {address}");
    Counts::add_one(&context.shared.counts.connected);
    let (sender, commands) = mpsc::channel::<Command>(MAX_COMMANDS);
    context.shared.register(connection, sender);
    let kind = EventKind::Connected {
        address,
        features: ready.features,
        ports: ready.ports,
    };
    context.notify(connection, ready.at_ns, kind).await;
    let life = Connection::new(
        Rc::clone(context),
        connection,
        address,
        dpid,
        ready.next_xid,
        ready.at_ns,
    );
    let left = life
        .run(incoming, outgoing, commands, ready.slot.summons(), ready.early)
        .await;
    context.shared.unregister(connection);
    let kind = EventKind::Gone {
        dpid,
        address,
        reason: left.reason.clone(),
    };
    match left.reason {
        Reason::ClosedHere => debug!("switch {dpid} at {address}: {}", left.reason),
        ref reason => warn!("switch {dpid} at {address}: {reason}; connection closed"),
    }
    context.notify(connection, monotonic_ns(), kind).await;
    // A newer connection that waits for the slot must find it free.
    drop(ready.slot);
    drop(left.reported);
    Ok(())
}

fn refuse(context: &Context, connection: ConnectionId, address: SocketAddr, reason: Reason) {
    if reason == Reason::ClosedHere {
        return;
    }
    context.refusals.log(address, &reason, monotonic_ns());
    Counts::add_one(&context.shared.counts.refused);
    context.notify_or_drop(connection, monotonic_ns(), EventKind::Refused { address, reason });
}
