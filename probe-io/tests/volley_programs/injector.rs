//! A namespace between the two ends that drops, duplicates and reorders probes, and counts them.

use aya::maps::Array;
use aya::maps::xdp::DevMap;
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use nix::net::if_::if_nametoindex;

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

/// Counts of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) seen: u64,
    pub(crate) dropped: u64,
    pub(crate) copied: u64,
}

/// Detached when dropped.
pub(crate) struct Injector {
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
}
