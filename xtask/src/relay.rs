//! A TCP relay that delays a control channel, each direction by its own time.
//!
//! A connection that the controller refuses is closed at the switch.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::signals;
use crate::timing::{now, sleep_until, use_realtime};

/// Printed once the relay listens.
pub const READY: &str = "relaying";

/// Queued reads of one direction, above which the sender must wait.
const QUEUE_LENGTH: usize = 4_096;

#[derive(Clone, Debug, Args)]
pub struct RelayArguments {
    /// Address at which the switch connects.
    #[arg(long)]
    listen: SocketAddr,
    /// Address of the controller.
    #[arg(long)]
    to: SocketAddr,
    /// Delay from the switch to the controller.
    #[arg(long, value_name = "TIME")]
    up: humantime::Duration,
    /// Delay from the controller to the switch.
    #[arg(long, value_name = "TIME")]
    down: humantime::Duration,
}

impl RelayArguments {
    /// Relays until SIGINT or SIGTERM.
    pub fn run(&self) -> Result<()> {
        // Before other threads start, so that they block the signals too.
        let end = signals::block()?;
        let listener = TcpListener::bind(self.listen).with_context(|| format!("cannot listen at {}", self.listen))?;
        let (to, up, down) = (self.to, self.up.into(), self.down.into());
        thread::spawn(move || serve(&listener, to, up, down));
        println!("{READY} {} to {}", self.listen, self.to);
        end.wait().context("cannot wait for a signal").map(drop)
    }
}

fn serve(listener: &TcpListener, to: SocketAddr, up: Duration, down: Duration) {
    for near in listener.incoming() {
        // If the controller refuses the connection, the switch sees it closed and tries again.
        let Ok(near) = near else { continue };
        let _ = TcpStream::connect(to).and_then(|far| relay(&near, &far, up, down));
    }
}

fn relay(near: &TcpStream, far: &TcpStream, up: Duration, down: Duration) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to, delay) in [(near, far, up), (far, near, down)] {
        let (queue, queued) = sync_channel(QUEUE_LENGTH);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || read(from, &queue, delay));
        thread::spawn(move || write(to, &queued));
    }
    Ok(())
}

/// Bytes and the time at which to send them.
type Chunk = (Duration, Vec<u8>);

fn read(mut from: TcpStream, queue: &SyncSender<Chunk>, delay: Duration) {
    use_realtime();
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if queue.send((now() + delay, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
    // The end of the stream is delayed like its bytes.
    let _ = queue.send((now() + delay, Vec::new()));
}

fn write(mut to: TcpStream, queued: &Receiver<Chunk>) {
    use_realtime();
    for (due, bytes) in queued {
        sleep_until(due);
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // It fails if the connection is closed already.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Starts a relay and returns its address.
    fn start(to: SocketAddr, up: u64, down: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [up, down] = [up, down].map(Duration::from_millis);
        thread::spawn(move || serve(&listener, to, up, down));
        address
    }

    #[test]
    fn each_direction_is_delayed_and_keeps_its_order() {
        const LENGTH: usize = 1_000_000;
        let controller = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = start(controller.local_addr().unwrap(), 30, 60);
        let begin = Instant::now();
        let mut switch = TcpStream::connect(address).unwrap();
        let sender = thread::spawn(move || {
            let bytes: Vec<_> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
            switch.write_all(&bytes).unwrap();
            switch.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            switch.read_to_end(&mut answer).unwrap();
            (answer, begin.elapsed())
        });
        let (mut near, _) = controller.accept().unwrap();
        let mut first = [0];
        near.read_exact(&mut first).unwrap();
        let up = begin.elapsed();
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).unwrap();
        near.write_all(b"answer").unwrap();
        drop(near);
        let (answer, both) = sender.join().unwrap();
        assert_eq!((first, rest.len()), ([0], LENGTH - 1));
        assert!((1..).zip(&rest).all(|(at, &byte)| byte == (at % 251) as u8));
        assert_eq!(answer, b"answer");
        assert!(up >= Duration::from_millis(30), "{up:?}");
        assert!(both >= Duration::from_millis(90), "{both:?}");
    }

    #[test]
    fn connection_is_closed_if_the_controller_does_not_listen() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut switch = TcpStream::connect(start(closed, 1, 1)).unwrap();
        switch.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(switch.read(&mut [0]).unwrap(), 0);
    }
}
