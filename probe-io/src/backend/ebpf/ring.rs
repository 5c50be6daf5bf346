//! The ring buffer of samples: read as the kernel fills it, and decoded.

use std::io;
use std::task::{Context, Poll, ready};

use aya::maps::{MapData, RingBuf};
use probe_common::abi::Sample;
use probe_common::ntp::ErrorEstimate;
use probe_core::observation::{ReflectorStamps, Reply};
use tokio::io::unix::AsyncFd;

/// Samples taken at once, so that a flood of replies does not hold up the probes: some milliseconds of work.
const MAX_AT_ONCE: usize = 8_192;

/// The reading end.
pub(crate) struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// Watches `ring` from within a tokio runtime.
    pub(crate) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: `RingBuf` owns the map's descriptor and gives the same one until it is dropped.
        unsafe { AsyncFd::register(ring) }.map(Self).map_err(io::Error::from)
    }

    /// Ready when there may be samples.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_read_ready(cx))?.clear_ready();
        Poll::Ready(Ok(()))
    }

    /// Takes the replies of the samples received so far, at most [`MAX_AT_ONCE`]; then it returns T4 of the last one.
    /// `own_error_ns` bounds this host's clock error, if it is synchronised.
    pub(crate) fn drain(&mut self, own_error_ns: Option<u64>, mut each: impl FnMut(Reply)) -> Option<u64> {
        let ring = self.0.get_mut();
        let mut last_ns = 0;
        for _ in 0..MAX_AT_ONCE {
            let record = ring.next()?;
            if record.len() == size_of::<Sample>() {
                // SAFETY: the length is right, any bytes are a valid `Sample` (`Pod`), and the read assumes no alignment.
                let sample = unsafe { record.as_ptr().cast::<Sample>().read_unaligned() };
                last_ns = sample.t4_mono_ns;
                each(reply(&sample, own_error_ns));
            }
        }
        Some(last_ns)
    }
}

fn reply(sample: &Sample, own_error_ns: Option<u64>) -> Reply {
    let estimate = ErrorEstimate(sample.reflector_error);
    let stamps = ReflectorStamps::read(estimate, sample.t2_wire, sample.t3_wire, sample.t4_unix_ns);
    Reply {
        peer: sample.source.into(),
        ssid: sample.ssid,
        seq: sample.seq,
        reflector_seq: sample.reflector_seq,
        sent_mono_ns: sample.t1_mono_ns,
        received_mono_ns: sample.t4_mono_ns,
        // T4 less the monotonic difference. The T1 in the packet has the old offset of UTC if the clock was set meanwhile.
        t1_ns: sample
            .t4_unix_ns
            .wrapping_sub(sample.t4_mono_ns.wrapping_sub(sample.t1_mono_ns)),
        t2_ns: stamps.t2_ns,
        t3_ns: stamps.t3_ns,
        t4_ns: sample.t4_unix_ns,
        reflector_error_ns: stamps.error_ns,
        own_error_ns,
        wrong_z: stamps.wrong_z,
        clock_set: false,
    }
}

#[cfg(test)]
mod tests {
    use probe_common::abi::Address;
    use probe_common::ntp::NtpTime;

    use super::*;

    const T1_NS: u64 = 1_795_000_000_123_456_789;

    fn sample(reflector_error: ErrorEstimate, wire: impl Fn(u64) -> u64) -> Sample {
        Sample {
            t1_mono_ns: 1_000,
            t4_mono_ns: 161_000,
            t1_wire: NtpTime::from_unix_ns(T1_NS).0,
            t2_wire: wire(T1_NS + 70_000),
            t3_wire: wire(T1_NS + 70_250),
            t4_unix_ns: T1_NS + 160_000,
            source: Address::from_v4([10, 1, 1, 6]),
            seq: 7,
            reflector_seq: 5,
            ssid: 9,
            reflector_error: reflector_error.0,
            reserved: 0,
        }
    }

    #[test]
    fn every_stamp_arrives_to_the_nanosecond() {
        let ntp = |ns| NtpTime::from_unix_ns(ns).0;
        let ptp = |ns| (ns / 1_000_000_000) << 32 | (ns % 1_000_000_000);
        let table = [
            (sample(ErrorEstimate::new(false, 5), ntp), None),
            (
                sample(ErrorEstimate::new(true, 1_000_000), ntp),
                ErrorEstimate::new(true, 1_000_000).bound_ns(),
            ),
            (sample(ErrorEstimate(0x4001), ptp), None),
        ];
        for (sample, bound_ns) in table {
            let reply = reply(&sample, Some(3));
            assert_eq!(reply.peer, "10.1.1.6".parse::<std::net::IpAddr>().unwrap());
            assert_eq!(
                [reply.t1_ns, reply.t2_ns, reply.t3_ns, reply.t4_ns],
                [0, 70_000, 70_250, 160_000].map(|d| T1_NS + d)
            );
            assert_eq!((reply.rtt_ns(), reply.residence_ns()), (Some(159_750), Some(250)));
            assert_eq!((reply.forward_ns(), reply.backward_ns()), (70_000, 89_750));
            assert_eq!((reply.ssid, reply.seq, reply.reflector_seq), (9, 7, 5));
            assert_eq!((reply.reflector_error_ns, reply.own_error_ns), (bound_ns, Some(3)));
        }
    }

    #[test]
    fn a_clock_that_is_set_during_the_round_trip_changes_no_delay_by_itself() {
        let ntp = |ns| NtpTime::from_unix_ns(ns).0;
        const STEP_NS: u64 = 3_000_000_000;
        let sample = sample(ErrorEstimate::new(false, 5), ntp);
        let unset = reply(&sample, None);
        let set = reply(
            &Sample {
                t4_unix_ns: sample.t4_unix_ns + STEP_NS,
                ..sample
            },
            None,
        );
        assert_eq!((set.rtt_ns(), set.elapsed_ns()), (unset.rtt_ns(), unset.elapsed_ns()));
        assert_eq!((set.t1_ns, set.t4_ns), (unset.t1_ns + STEP_NS, unset.t4_ns + STEP_NS));
        assert_eq!(
            set.forward_ns() + set.backward_ns(),
            unset.forward_ns() + unset.backward_ns(),
            "the sum does not change"
        );
    }
}
