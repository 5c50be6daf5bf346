//! Addresses for servers of tests.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel gives to outgoing connections by default (`ip_local_port_range`), so that none takes the port
/// before the server does, or while the server is stopped.
const FIRST: u16 = 20_000;
/// So many processes, one after the other, begin at different ports.
const PROCESSES: u32 = 100;
const PORTS_OF_A_PROCESS: u16 = 100;

/// An address of loopback with a port that is free, and that no other caller in this process gets.
pub fn free_address() -> SocketAddr {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % PROCESSES).unwrap_or(0);
    loop {
        let place = TAKEN.fetch_add(1, Ordering::Relaxed) % PORTS_OF_A_PROCESS;
        let port = FIRST + process * PORTS_OF_A_PROCESS + place;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
