//! kstamp's own method over a veth pair between two unnamed network namespaces, which end with their threads. The
//! network takes no time there, so this measures the instrument itself.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{io, thread};

use futures_util::TryStreamExt as _;
use nix::sched::{CloneFlags, unshare};
use probe_core::agent::event::{Destination, Transmit};
use probe_core::attach::AttachMode;
use probe_core::rings::Rings;
use probe_host::clock::monotonic_ns;
use probe_host::timer::Timer;
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use thiserror::Error;

use crate::port::{Answering, Choice, Engine, Outgoing, Port, PortConfig, PortError};

const NEAR: (&str, Ipv4Addr) = ("near", Ipv4Addr::new(192, 0, 2, 1));
const FAR: (&str, Ipv4Addr) = ("far", Ipv4Addr::new(192, 0, 2, 2));
const PREFIX_LEN: u8 = 30;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const PORT: u16 = 1910;
const SSID: u16 = 1;
/// The first probes wait for address resolution and cold caches.
const WARM_UP: u32 = 50;
/// Time between probes.
const INTERVAL_NS: u64 = 1_000_000;
const LAST_REPLY_TIMEOUT: Duration = Duration::from_millis(50);

#[derive(Debug, Error)]
pub enum CalibrateError {
    #[error("cannot {what}: {source}")]
    Link { what: &'static str, source: io::Error },
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("no probe came back over the private veth pair ({0}); try another --attach")]
    Silent(AttachMode),
    #[error("the other end of the private veth pair failed")]
    OtherEnd,
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> CalibrateError {
    move |source| CalibrateError::Link {
        what,
        source: source.into(),
    }
}

fn refused(what: &'static str) -> impl FnOnce(rtnetlink::Error) -> CalibrateError {
    move |error| CalibrateError::Link {
        what,
        source: match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        },
    }
}

/// Round trips of `probes` probes, in nanoseconds, received in the given mode. Blocks for a millisecond per probe. On an
/// error nothing is left behind.
pub fn measure(mode: AttachMode, probes: u32) -> Result<Vec<u64>, CalibrateError> {
    let (to_far, from_near) = channel();
    let (to_near, from_far) = channel();
    let far = spawn("kstamp-far", move || far_end(mode, &to_near, &from_near))?;
    let near = spawn("kstamp-near", move || near_end(mode, probes, &to_far, &from_far))?;
    let measured = near.join().unwrap_or(Err(CalibrateError::OtherEnd));
    let answered = far.join().unwrap_or(Err(CalibrateError::OtherEnd));
    match (measured, answered) {
        (Err(CalibrateError::OtherEnd), Err(cause)) => Err(cause),
        (measured, _) => measured,
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> Result<T, CalibrateError> + Send + 'static,
) -> Result<thread::JoinHandle<Result<T, CalibrateError>>, CalibrateError> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(failed("start a thread"))
}

/// Moves this thread into a new namespace, which ends with it.
fn enter_own_namespace() -> Result<(), CalibrateError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(failed("make a network namespace"))
}

fn runtime() -> Result<tokio::runtime::Runtime, CalibrateError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(failed("start a runtime"))
}

/// Reflects until the near end has gone.
fn far_end(mode: AttachMode, to_peer: &Sender<OwnedFd>, from_peer: &Receiver<()>) -> Result<(), CalibrateError> {
    enter_own_namespace()?;
    let own = File::open("/proc/thread-self/ns/net").map_err(failed("open a network namespace"))?;
    let again = own.try_clone().map_err(failed("open a network namespace"))?;
    let gone = |_| CalibrateError::OtherEnd;
    to_peer.send(own.into()).map_err(|_| CalibrateError::OtherEnd)?;
    from_peer.recv().map_err(gone)?;
    runtime()?.block_on(async {
        let handle = netlink()?;
        set_up(&handle, FAR).await?;
        let port = Port::open(config(FAR.0, mode, false), Engine::Ebpf, None).await?;
        to_peer.send(again.into()).map_err(|_| CalibrateError::OtherEnd)?;
        // Until the near end goes.
        let _ = from_peer.recv();
        drop(port);
        Ok(())
    })
}

/// Makes the link, and probes.
fn near_end(
    mode: AttachMode,
    probes: u32,
    to_peer: &Sender<()>,
    from_peer: &Receiver<OwnedFd>,
) -> Result<Vec<u64>, CalibrateError> {
    enter_own_namespace()?;
    let gone = |_| CalibrateError::OtherEnd;
    let far = from_peer.recv().map_err(gone)?;
    runtime()?.block_on(async {
        let handle = netlink()?;
        let pair = LinkVeth::new(NEAR.0, FAR.0).build();
        let made = handle.link().add(pair).execute().await;
        made.map_err(refused("make a veth pair"))?;
        let moved = LinkUnspec::new_with_name(FAR.0).setns_by_fd(far.as_raw_fd()).build();
        let moved = handle.link().set(moved).execute().await;
        moved.map_err(refused("move the far end of the veth pair"))?;
        set_up(&handle, NEAR).await?;
        to_peer.send(()).map_err(|_| CalibrateError::OtherEnd)?;
        // In parallel with the far end, because loading the programs takes long.
        let port = Port::open(config(NEAR.0, mode, true), Engine::Ebpf, None).await?;
        from_peer.recv().map_err(gone)?;
        probe(port, mode, probes).await
    })
}

async fn probe(mut port: Port, mode: AttachMode, probes: u32) -> Result<Vec<u64>, CalibrateError> {
    let timer = Timer::new().map_err(failed("make a timer"))?;
    let mut rtts = Vec::with_capacity(probes as usize);
    let mut take = |port: &mut Port| port.drain(|reply| rtts.extend(reply.rtt_ns().filter(|_| reply.seq >= WARM_UP)));
    let to = IpAddr::V4(FAR.1);
    let start_ns = monotonic_ns();
    for seq in 0..WARM_UP + probes {
        let due_ns = start_ns + u64::from(seq) * INTERVAL_NS;
        timer.until(due_ns).await.map_err(failed("wait"))?;
        let transmit = Transmit {
            destination: Destination::Peer(to),
            ssid: SSID,
            seq,
        };
        // A probe that cannot be sent is not measured. No sample at all is an error at the end.
        port.send(&[Outgoing { transmit, to }], |_, _| {});
        take(&mut port);
    }
    tokio::time::sleep(LAST_REPLY_TIMEOUT).await;
    take(&mut port);
    if rtts.is_empty() {
        return Err(CalibrateError::Silent(mode));
    }
    Ok(rtts)
}

fn config(interface: &str, mode: AttachMode, probing: bool) -> PortConfig {
    PortConfig {
        interface: interface.to_owned(),
        test_port: PORT,
        other_ports: vec![],
        other_ports_are_optional: false,
        groups: vec![GROUP.into()],
        late: Vec::new(),
        choice: Choice::Only(mode),
        probing,
        rings: Rings::ONE,
        log_level: 0,
        cold: false,
        answering: Answering::default(),
    }
}

fn netlink() -> Result<Handle, CalibrateError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(failed("open a netlink socket"))?;
    tokio::spawn(connection);
    Ok(handle)
}

/// Gives the interface its address, and sets it up.
async fn set_up(handle: &Handle, (name, address): (&str, Ipv4Addr)) -> Result<(), CalibrateError> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    let link = links.try_next().await.map_err(refused("look at the veth pair"))?;
    let index = link.ok_or(CalibrateError::OtherEnd)?.header.index;
    let added = handle.address().add(index, address.into(), PREFIX_LEN).execute().await;
    added.map_err(refused("give the veth pair an address"))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    let set = handle.link().set(up).execute().await;
    set.map_err(refused("set the veth pair up"))
}
