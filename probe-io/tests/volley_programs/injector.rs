//! A namespace between the two ends that drops, duplicates and reorders probes, and counts them.

use std::time::{Duration, Instant};

use aya::maps::Array;
use aya::maps::xdp::DevMap;
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::net::if_::if_nametoindex;
use probe_core::volley::{Snapshot, Totals};
use probe_io::volley::Volley;

use crate::line::{Line, enter};

/// Embedded, since the test binary may run where nothing was built.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/kstamp-line-programs"));

/// In one direction, the number of probes of which one is dropped, copied or delayed; 0: none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Every {
    pub(crate) dropped: u64,
    pub(crate) copied: u64,
    pub(crate) overtaken: u64,
}

impl Every {
    /// The faults of the first `seen` probes: a probe has one fault at most, and a drop takes precedence over a copy.
    fn faults(self, seen: u64) -> Self {
        let each = |every: u64| (1..=seen.checked_div(every).unwrap_or(0)).map(move |nth| nth * every);
        let has = |every: u64, number: u64| every != 0 && number.is_multiple_of(every);
        let copied = each(self.copied).filter(|&number| !has(self.dropped, number));
        let overtaken = each(self.overtaken).filter(|&number| !has(self.dropped, number) && !has(self.copied, number));
        Self {
            dropped: each(self.dropped).count() as u64,
            copied: copied.count() as u64,
            overtaken: overtaken.count() as u64,
        }
    }
}

/// Counts of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) seen: u64,
    pub(crate) dropped: u64,
    pub(crate) copied: u64,
}

/// How long copies may still be on the line when a run has ended.
const ON_THE_LINE: Duration = Duration::from_secs(1);

/// Detached when dropped.
pub(crate) struct Injector {
    every: [Every; 2],
    ebpf: Ebpf,
    _links: Vec<XdpLink>,
}

impl Injector {
    /// Joins the ends of `line` by a namespace, and replaces their ports by new ones with the same names and addresses.
    pub(crate) fn between(line: &Line, right: Every, left: Every) -> Self {
        let middle = line.insert_middle();
        // Frames are looked at in the middle's namespace.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&middle);
                Self::attach(right, left)
            });
            thread.join().unwrap()
        })
    }

    fn attach(right: Every, left: Every) -> Self {
        let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
        let index = |name: &str| u64::from(if_nametoindex(name).unwrap());
        let mut directions: Array<_, [u64; 8]> = ebpf.map_mut("DIRECTIONS").unwrap().try_into().unwrap();
        for (direction, every, out, detour) in [(0, right, "right", "detour1"), (1, left, "left", "detour2")] {
            let words = [
                index(out),
                index(detour),
                every.dropped,
                every.copied,
                every.overtaken,
                0,
                0,
                0,
            ];
            directions.set(direction, words, 0).unwrap();
        }
        for (map, out) in [("TWICE_RIGHT", "right"), ("TWICE_LEFT", "left")] {
            let mut twice: DevMap<_> = ebpf.map_mut(map).unwrap().try_into().unwrap();
            for entry in [0, 1] {
                twice.set(entry, index(out) as u32, None, 0).unwrap();
            }
        }
        let places = [
            ("line_right", "left"),
            ("line_left", "right"),
            ("line_detour_right", "detour2"),
            ("line_detour_left", "detour1"),
        ];
        let links = places.map(|(program, interface)| {
            let program: &mut Xdp = ebpf.program_mut(program).unwrap().try_into().unwrap();
            program.load().unwrap();
            let id = program
                .attach_to_if_index(index(interface) as u32, XdpMode::Driver)
                .unwrap();
            program.take_link(id).unwrap()
        });
        Self {
            every: [right, left],
            ebpf,
            _links: links.into(),
        }
    }

    /// To the right, and to the left.
    pub(crate) fn done(&self) -> [Done; 2] {
        let directions: Array<_, [u64; 8]> = self.ebpf.map("DIRECTIONS").unwrap().try_into().unwrap();
        [0, 1].map(|direction| {
            let [.., seen, dropped, copied] = directions.get(&direction, 0).unwrap();
            Done { seen, dropped, copied }
        })
    }

    /// The number of probes and replies that took the detour so far.
    pub(crate) fn overtaken(&self) -> u64 {
        let [right, left] = self.done();
        let [to_right, to_left] = self.every;
        to_right.faults(right.seen).overtaken + to_left.faults(left.seen).overtaken
    }

    /// Replies that have left the line towards the sender, without those to the probes before the run.
    fn delivered(&self, sent_before: u64) -> u64 {
        let [_, left] = self.done();
        left.seen - left.dropped + left.copied - sent_before
    }

    /// Ends the run, and waits for the copies that are still on the line.
    pub(crate) async fn end(&self, volley: &mut Volley) -> Snapshot {
        let mut snapshot = volley.stop(false).await;
        let start = Instant::now();
        while arrived(&snapshot.totals) != self.delivered(volley.sent_before()) && start.elapsed() < ON_THE_LINE {
            tokio::time::sleep(Duration::from_millis(1)).await;
            snapshot = volley.snapshot();
        }
        snapshot
    }

    /// Compares the counts of a run that has ended with those of the line. None of the probes before the run may have had a
    /// fault. `Err` says in one line what does not agree.
    ///
    /// The line may also drop or copy a reply to a copied probe, `twice` times at most. If it drops one of two replies, no probe
    /// is lost and no reply is a duplicate. If it copies the second one, the third reply counts as the answer to another
    /// copy, and one backward loss less is left. A reply after the timeout counts as late, not as a duplicate, and its probe as
    /// lost. Without all these, each count is exact.
    pub(crate) fn agree(&self, totals: &Totals, sent_before: u64, twice: u64) -> Result<(), String> {
        let [right, left] = self.done();
        let [right_faults, left_faults] = [(0, right), (1, left)].map(|(at, done)| self.every[at].faults(done.seen));
        let (dropped, copied) = (right.dropped + left.dropped, right.copied + left.copied);
        let late = totals.late;
        let unharmed = copied.saturating_sub(totals.duplicates);
        // What, the count, and the range in which it must be.
        let exact = |want: u64| (want, want);
        let checks = [
            ("dropped to the right", right.dropped, exact(right_faults.dropped)),
            ("copied to the right", right.copied, exact(right_faults.copied)),
            ("dropped to the left", left.dropped, exact(left_faults.dropped)),
            ("copied to the left", left.copied, exact(left_faults.copied)),
            ("sent", totals.sent + sent_before, exact(right.seen)),
            ("reflected", left.seen, exact(right.seen - right.dropped + right.copied)),
            ("arrived", arrived(totals), exact(self.delivered(sent_before))),
            ("refused", totals.refused.total(), exact(0)),
            ("pending", totals.pending, exact(0)),
            ("received or lost", totals.received + totals.lost, exact(totals.sent)),
            (
                "duplicates",
                totals.duplicates,
                (copied.saturating_sub(twice + late), copied),
            ),
            ("lost", totals.lost + unharmed, (dropped, dropped + late)),
            // A reply that is dropped behind the newest one that arrives counts as a forward loss. Drops are so far apart that
            // this is one at most.
            (
                "lost backward",
                totals.lost_backward,
                (left.dropped.saturating_sub(1 + twice), left.dropped + late),
            ),
            ("lost unknown", totals.lost_unknown, exact(0)),
        ];
        let wrong: Vec<String> = checks
            .iter()
            .filter(|(_, count, (least, most))| !(least..=most).contains(&count))
            .map(|(what, count, (least, most))| match least == most {
                true => format!("{what}: {count}, not {least}"),
                false => format!("{what}: {count}, not {least} to {most}"),
            })
            .collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(wrong.join("; ")),
        }
    }
}

/// All replies that have arrived.
fn arrived(totals: &Totals) -> u64 {
    totals.received + totals.duplicates + totals.late + totals.refused.total()
}
