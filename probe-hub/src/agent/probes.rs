//! Picks the single probes of each window: the slowest one, and the first ones lost.

use std::collections::VecDeque;

use probe_core::observation::Reply;

/// Lost probes of one window.
const MAX_LOST: usize = 3;
/// Windows that wait for their last probes: more than a timeout has.
const MAX_SLOTS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostProbe {
    pub seq: u32,
    /// Monotonic.
    pub sent_ns: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Picked {
    pub slowest: Option<Reply>,
    pub lost: Vec<LostProbe>,
}

/// The probes to one peer on one path.
#[derive(Debug)]
pub struct Picker {
    report_ns: u64,
    /// When some window ends: all end at about multiples of `report_ns` from here. A probe that is sent in the moment in which
    /// the agent closes a window may be picked for neither.
    window_end_ns: u64,
    slots: VecDeque<Slot>,
}

#[derive(Debug)]
struct Slot {
    end_ns: u64,
    rtt_ns: u64,
    picked: Picked,
}

impl Picker {
    pub fn new(report_ns: u64, window_end_ns: u64) -> Self {
        Self {
            report_ns,
            window_end_ns,
            slots: VecDeque::new(),
        }
    }

    pub fn answered(&mut self, reply: &Reply) {
        let Some(rtt_ns) = reply.rtt_ns() else { return };
        let slot = self.slot(reply.sent_mono_ns);
        if rtt_ns > slot.rtt_ns || slot.picked.slowest.is_none() {
            slot.rtt_ns = rtt_ns;
            slot.picked.slowest = Some(*reply);
        }
    }

    pub fn lost(&mut self, probe: LostProbe) {
        let lost = &mut self.slot(probe.sent_ns).picked.lost;
        if lost.len() < MAX_LOST {
            lost.push(probe);
        }
    }

    fn slot(&mut self, sent_ns: u64) -> &mut Slot {
        let place = self.slots.partition_point(|slot| slot.end_ns <= sent_ns);
        if place == self.slots.len() {
            if place == MAX_SLOTS {
                self.slots.pop_front();
            }
            let since_ns = sent_ns.saturating_sub(self.window_end_ns);
            let windows = since_ns / self.report_ns + 1;
            self.slots.push_back(Slot {
                end_ns: self
                    .window_end_ns
                    .saturating_add(windows.saturating_mul(self.report_ns)),
                rtt_ns: 0,
                picked: Picked::default(),
            });
        }
        let place = place.min(self.slots.len() - 1);
        &mut self.slots[place]
    }

    /// Those of the window from `start_ns` to `end_ns`, and forgets all before.
    pub fn take(&mut self, start_ns: u64, end_ns: u64) -> Picked {
        self.window_end_ns = end_ns;
        let mut all = Picked::default();
        let mut slowest_ns = 0;
        let is_inside = |sent_ns| (start_ns..end_ns).contains(&sent_ns);
        while let Some(slot) = self
            .slots
            .pop_front_if(|slot| slot.end_ns <= end_ns.saturating_add(self.report_ns / 2))
        {
            let slowest = slot.picked.slowest.filter(|reply| is_inside(reply.sent_mono_ns));
            if slowest.is_some() && (slot.rtt_ns > slowest_ns || all.slowest.is_none()) {
                (slowest_ns, all.slowest) = (slot.rtt_ns, slowest);
            }
            let lost = slot.picked.lost.into_iter().filter(|lost| is_inside(lost.sent_ns));
            all.lost.extend(lost);
        }
        all.lost.truncate(MAX_LOST);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_data::reply;

    fn lost(sent_ns: u64) -> LostProbe {
        LostProbe {
            seq: sent_ns as u32,
            sent_ns,
        }
    }

    fn sent(picked: &Picked) -> (Option<u64>, Vec<u64>) {
        let lost = picked.lost.iter().map(|lost| lost.sent_ns).collect();
        (picked.slowest.map(|reply| reply.sent_mono_ns), lost)
    }

    #[test]
    fn each_window_has_its_slowest_and_its_first_lost_probes() {
        let mut picker = Picker::new(100, 0);
        for (sent_ns, rtt_ns) in [(10, 7), (20, 9), (30, 9), (110, 3), (190, 5), (250, 1)] {
            picker.answered(&reply(sent_ns, rtt_ns));
        }
        for sent_ns in [15, 25, 35, 45, 210] {
            picker.lost(lost(sent_ns));
        }
        // The windows are closed a little later than planned.
        assert_eq!(sent(&picker.take(0, 101)), (Some(20), vec![15, 25, 35]));
        assert_eq!(sent(&picker.take(101, 202)), (Some(190), vec![]));
        picker.answered(&reply(299, 4));
        assert_eq!(sent(&picker.take(202, 301)), (Some(299), vec![210]));
        assert_eq!(sent(&picker.take(301, 401)), (None, vec![]));
    }

    #[test]
    fn probes_of_later_windows_wait_and_of_earlier_ones_are_forgotten() {
        let mut picker = Picker::new(100, 0);
        picker.answered(&reply(150, 5));
        assert_eq!(sent(&picker.take(0, 100)), (None, vec![]));
        picker.lost(lost(50));
        assert_eq!(sent(&picker.take(100, 200)), (Some(150), vec![]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut picker = Picker::new(1, 1_000);
        for sent_ns in (0..10_000).chain(1_000_000..1_005_000) {
            picker.answered(&reply(sent_ns, 1));
            picker.lost(lost(sent_ns));
        }
        assert!(picker.slots.len() <= MAX_SLOTS);
    }
}
