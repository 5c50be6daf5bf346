//! True one-way delays of a link: the same LLDP frame, stamped by the kernel as it leaves one port and as it enters
//! another.

use std::collections::HashMap;

use crate::link_delay::Window;
use crate::topology::PortId;

/// Which way a frame passed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapDirection {
    /// Out of the host's stack, to the link.
    Egress,
    /// Off the link, into the host's stack.
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

/// Frames of which stamps are waited for at a time; an honest network has far fewer.
const MOST: usize = 1 << 16;
/// How long the other stamps of a frame are waited for: as long as its answer is.
const WAIT_NS: u64 = crate::link_delay::TIMEOUT_NS;

impl Kernel {
    /// The LLDP frame `seq` of `origin` was stamped at `stamp_ns`, monotonic.
    pub fn stamped(&mut self, origin: PortId, seq: u64, direction: TapDirection, stamp_ns: u64) {
        if self.seen.len() >= MOST && !self.seen.contains_key(&(origin, seq)) {
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

    /// The LLDP frame `seq` of `origin` has reached the controller, so all its stamps were taken. They may be read
    /// a little later: the delay is taken when [`Kernel::expire`] finds both.
    pub fn expire(&mut self, now_ns: u64, window_ns: u64) {
        let windows = &mut self.windows;
        self.seen.retain(|(origin, _), seen| {
            let age_ns = now_ns.saturating_sub(seen.first_ns);
            if age_ns <= WAIT_NS {
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
            window.forget_before(oldest_ns);
            window.count() > 0
        });
    }

    /// One-way delays of what a port sends.
    pub fn window(&self, origin: PortId) -> Option<&Window> {
        self.windows.get(&origin)
    }

    /// Forgets what a port sent: its link is no more.
    pub fn restart(&mut self, origin: PortId) {
        self.windows.remove(&origin);
        self.seen.retain(|(port, _), _| *port != origin);
    }
}
