//! Addresses for servers of tests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel gives to outgoing connections, so that none takes the port before the server does, or
/// while the server is stopped.
const FIRST: u16 = 20_000;
/// Processes begin at different ports.
const PROCESSES: u16 = 10_000;

/// An address of loopback with a port that is free, and that no other caller in this process gets.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(PROCESSES)).unwrap_or(0);
    loop {
        let port = FIRST + (process + TAKEN.fetch_add(1, Ordering::Relaxed)) % PROCESSES;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
