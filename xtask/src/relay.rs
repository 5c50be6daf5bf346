//! A TCP relay that holds back what it carries, each direction by a time of its own: a control channel that takes time.
//!
//! Bytes stay in order. When a connection is not accepted at the far end, it is closed at the near end.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};

use crate::forward::{be_punctual, now, sleep_until};

/// What the relay prints once it listens.
pub const READY: &str = "relaying";

/// How many reads of one direction may wait; then the sender has to.
const QUEUE: usize = 4_096;

/// From where to where, and how long it takes.
#[derive(Clone, Debug, Args)]
pub struct RelayArguments {
    /// Where the switch connects to.
    #[arg(long)]
    listen: SocketAddr,
    /// Where the controller listens.
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
    ///
    /// # Errors
    /// If it cannot listen.
    pub fn run(&self) -> Result<()> {
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGINT);
        ends.add(Signal::SIGTERM);
        // Before any thread starts, so that none is interrupted: the wait below takes the signal.
        ends.thread_block().context("cannot block signals")?;
        let listener = TcpListener::bind(self.listen).with_context(|| format!("cannot listen at {}", self.listen))?;
        let (to, up, down) = (self.to, self.up.into(), self.down.into());
        thread::spawn(move || serve(&listener, to, up, down));
        println!("{READY} {} to {}", self.listen, self.to);
        ends.wait().context("cannot wait for a signal").map(drop)
    }
}

/// Carries every connection that comes.
fn serve(listener: &TcpListener, to: SocketAddr, up: Duration, down: Duration) {
    for near in listener.incoming() {
        // A connection that broke before it was taken concerns nobody, nor one that the controller does not take:
        // the switch sees it closed, and tries again.
        let Ok(near) = near else { continue };
        let _ = TcpStream::connect(to).and_then(|far| carry(&near, &far, up, down));
    }
}

fn carry(near: &TcpStream, far: &TcpStream, up: Duration, down: Duration) -> io::Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    for (from, to, delay) in [(near, far, up), (far, near, down)] {
        let (queue, queued) = sync_channel(QUEUE);
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || read(from, &queue, delay));
        thread::spawn(move || write(to, &queued));
    }
    Ok(())
}

/// Bytes, and when they are due.
type Chunk = (Duration, Vec<u8>);

fn read(mut from: TcpStream, queue: &SyncSender<Chunk>, delay: Duration) {
    be_punctual();
    let mut buffer = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if queue.send((now() + delay, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
    // The end takes as long as all that comes before it.
    let _ = queue.send((now() + delay, Vec::new()));
}

fn write(mut to: TcpStream, queued: &Receiver<Chunk>) {
    be_punctual();
    for (due, bytes) in queued {
        sleep_until(due);
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    // Closed already is as good.
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A relay to `to`; its address.
    fn relay(to: SocketAddr, up: u64, down: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let [up, down] = [up, down].map(Duration::from_millis);
        thread::spawn(move || serve(&listener, to, up, down));
        address
    }

    #[test]
    fn each_direction_takes_its_time_and_keeps_its_order() {
        const LENGTH: usize = 1_000_000;
        let controller = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = relay(controller.local_addr().unwrap(), 30, 60);
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
    fn without_a_controller_the_switch_is_let_go() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut switch = TcpStream::connect(relay(nobody, 1, 1)).unwrap();
        switch.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(switch.read(&mut [0]).unwrap(), 0);
    }
}
