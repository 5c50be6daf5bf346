//! True one-way delays of a link: the kernel stamps an LLDP frame when it leaves one port and when it enters another.

use std::collections::HashMap;

use crate::link_delay::Window;
use crate::topology::PortId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapDirection {
    Egress,
    Ingress,
}

/// Stamps of a frame. If it passed several interfaces, those of the first and the last.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    egress_ns: Option<u64>,
    ingress_ns: Option<u64>,
    first_ns: u64,
}

/// Stamps by frame, and the delays that follow from them, by the port that sent the frame.
#[derive(Debug, Default)]
pub struct Kernel {
    seen: HashMap<(PortId, u64), Seen>,
    windows: HashMap<PortId, Window>,
}

/// Bounds the memory for frames that wait for stamps; a network without forged frames has far fewer.
const MAX_FRAMES: usize = 1 << 16;
/// Time to wait for the other stamps of a frame.
const STAMP_TIMEOUT_NS: u64 = crate::link_delay::TIMEOUT_NS;

impl Kernel {
    /// The LLDP frame `seq` of `origin` was stamped at `stamp_ns`, monotonic.
    pub fn stamped(&mut self, origin: PortId, seq: u64, direction: TapDirection, stamp_ns: u64) {
        if self.seen.len() >= MAX_FRAMES && !self.seen.contains_key(&(origin, seq)) {
            return;
        }
        let seen = self.seen.entry((origin, seq)).or_insert(Seen {
            first_ns: stamp_ns,
            ..Seen::default()
        });
        match direction {
            TapDirection::Egress => {
                seen.egress_ns = Some(seen.egress_ns.map_or(stamp_ns, |first_ns| first_ns.min(stamp_ns)));
            }
            TapDirection::Ingress => {
                seen.ingress_ns = Some(seen.ingress_ns.map_or(stamp_ns, |last_ns| last_ns.max(stamp_ns)));
            }
        }
    }

    /// Records the delay of frames that have waited long enough for all their stamps, and drops old samples.
    pub fn expire(&mut self, now_ns: u64, window_ns: u64) {
        let windows = &mut self.windows;
        self.seen.retain(|(origin, _), seen| {
            let age_ns = now_ns.saturating_sub(seen.first_ns);
            if age_ns <= STAMP_TIMEOUT_NS {
                return true;
            }
            if let (Some(egress_ns), Some(ingress_ns)) = (seen.egress_ns, seen.ingress_ns)
                && let Some(delay_ns) = ingress_ns.checked_sub(egress_ns)
            {
                let delay_ns = i64::try_from(delay_ns).unwrap_or(i64::MAX);
                windows.entry(*origin).or_default().record(ingress_ns, delay_ns);
            }
            false
        });
        let oldest_ns = now_ns.saturating_sub(window_ns);
        windows.retain(|_, window| {
            window.drop_before(oldest_ns);
            window.count() > 0
        });
    }

    /// One-way delays of the frames that a port sends.
    pub fn window(&self, origin: PortId) -> Option<&Window> {
        self.windows.get(&origin)
    }

    /// Drops the samples of a port, because its link has changed.
    pub fn restart(&mut self, origin: PortId) {
        self.windows.remove(&origin);
        self.seen.retain(|(port, _), _| *port != origin);
    }
}
