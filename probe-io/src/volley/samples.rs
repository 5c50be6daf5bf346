//! Samples of single probes, from the ring buffer of the programs.

use aya::maps::{MapData, RingBuf};
use probe_common::ntp::{ErrorEstimate, NS_PER_S};
use probe_common::volley::{Epoch, Sample};

/// One probe and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolleySample {
    pub sequence: u32,
    /// UTC since 1970. T1 and T4 use the offset of UTC at the start of the run.
    pub t1_ns: u64,
    pub t2_ns: u64,
    pub t3_ns: u64,
    pub t4_ns: u64,
    /// (T4 − T1) − (T3 − T2) on the monotonic clock; `None` if the residence is longer than the round trip.
    pub rtt_ns: Option<u64>,
}

/// The reading end of the ring buffer.
pub(crate) struct Samples(RingBuf<MapData>);

impl Samples {
    pub(crate) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    pub(crate) fn take(&mut self, epoch: &Epoch) -> Vec<VolleySample> {
        let mut samples = Vec::new();
        while let Some(record) = self.0.next() {
            if record.len() == size_of::<Sample>() {
                // SAFETY: the length is right, any bytes are a valid `Sample` (`Pod`), and the read assumes no alignment.
                samples.push(decode(
                    &unsafe { record.as_ptr().cast::<Sample>().read_unaligned() },
                    epoch,
                ));
            }
        }
        samples
    }
}

fn decode(sample: &Sample, epoch: &Epoch) -> VolleySample {
    let is_ptp = ErrorEstimate(sample.reflector_error).is_ptp();
    let (t2, t3) = (epoch.mono(sample.t2_wire, is_ptp), epoch.mono(sample.t3_wire, is_ptp));
    let utc = |mono_ns: u64| (epoch.unix_s * NS_PER_S).wrapping_add(mono_ns.wrapping_sub(epoch.mono_ns));
    let elapsed = sample.t4_mono_ns.wrapping_sub(sample.t1_mono_ns);
    VolleySample {
        sequence: sample.sequence,
        t1_ns: utc(sample.t1_mono_ns),
        t2_ns: utc(t2),
        t3_ns: utc(t3),
        t4_ns: utc(sample.t4_mono_ns),
        rtt_ns: elapsed.checked_sub(t3.wrapping_sub(t2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_all_stamps_in_utc() {
        let epoch = Epoch {
            unix_s: 1_795_000_000,
            mono_ns: 5_000,
        };
        let utc = |ns| 1_795_000_000 * NS_PER_S + ns;
        let sample = Sample {
            t1_mono_ns: 6_000,
            t4_mono_ns: 16_000,
            t2_wire: epoch.wire(9_000).0,
            t3_wire: epoch.wire(9_400).0,
            sequence: 7,
            reflected: 3,
            reflector_error: ErrorEstimate::new(false, 5).0,
            reserved: [0; 3],
        };
        let decoded = VolleySample {
            sequence: 7,
            t1_ns: utc(1_000),
            t2_ns: utc(4_000),
            t3_ns: utc(4_400),
            t4_ns: utc(11_000),
            rtt_ns: Some(9_600),
        };
        assert_eq!(decode(&sample, &epoch), decoded);
        let swapped = Sample {
            t2_wire: sample.t3_wire,
            t3_wire: sample.t2_wire,
            ..sample
        };
        assert_eq!(decode(&swapped, &epoch).rtt_ns, None);
    }
}
