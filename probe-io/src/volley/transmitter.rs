//! Sends the probes of a run, by a test run of the XDP program or by a socket.

use std::io;

use aya::Ebpf;
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use probe_common::ntp::ErrorEstimate;
use probe_common::stamp::{self, BASE_LEN};
use socket2::Socket;

use crate::udp::batch::{MAX_BATCH, send_first};
use crate::volley::object::XDP;

pub(crate) struct Transmitter {
    /// As long as the frame of a probe. The program writes its content.
    pub(crate) frame: Vec<u8>,
    pub(crate) batch: u32,
    /// Connected to the peer.
    pub(crate) socket: Socket,
    pub(crate) ssid: u16,
    pub(crate) error: ErrorEstimate,
}

impl Transmitter {
    /// Runs the XDP program on `frames` frames. It turns them into probes, and the device sends them.
    pub(crate) fn send_frames(&self, programs: &Ebpf, frames: u32) -> Result<(), ProgramError> {
        let program: &Xdp = match programs.program(XDP).map(TryInto::try_into) {
            Some(Ok(program)) => program,
            _ => return Err(ProgramError::NotLoaded),
        };
        let options = TestRunOptions {
            data_in: Some(&self.frame),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(self.batch.min(frames)),
            ..TestRunOptions::new()
        };
        match program.test_run(options) {
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result.map(drop),
        }
    }

    /// Sends up to `number` probes by the socket, with sequence numbers from `first` on. The egress program stamps them.
    /// Returns how many the kernel took.
    pub(crate) fn send_datagrams(&self, first: u64, number: usize) -> io::Result<usize> {
        let number = number.min(MAX_BATCH);
        let mut packets: [[u8; BASE_LEN]; MAX_BATCH] = [[0; BASE_LEN]; MAX_BATCH];
        for (packet, sequence) in packets.iter_mut().zip(first..).take(number) {
            *packet = stamp::probe(sequence as u32, self.error, self.ssid);
        }
        send_first(&self.socket, packets[..number].iter().map(|packet| (packet, None)))
    }
}
