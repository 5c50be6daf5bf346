//! From one process to the next without a gap: the service manager keeps the links of the programs that receive, and the maps
//! with what the reflector knows of its sessions, while no process runs.
//!
//! The next process loads programs of its own over the same maps, and puts them in the place of the old ones. All that follows
//! from configuration, addresses and clock is in new maps, complete before the programs are exchanged.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::programs::TcAttachType;
use log::{info, warn};
use probe_common::abi::ABI_VERSION;
use probe_core::attach::AttachMode;
use probe_host::link::Link;

use crate::backend::ebpf::bpf_link::{BpfLink, LinkInfo};
use crate::backend::ebpf::clsact::Clsact;
use crate::backend::ebpf::hooks;

/// The maps that are handed over: how far the reflector has counted for each session, and the counters.
pub(super) const STATE: [&str; 3] = ["SESSION_SLOTS", "REFLECTOR_SESSIONS", "COUNTS"];

/// The mark of a qdisc that kstamp added.
pub(super) const QDISC: &str = "clsact";

/// In the place of a version in the names of what has no layout. systemd keeps a descriptor under the name that it had first: a
/// later version must not give it another one, and remove the first.
const NO_LAYOUT: u32 = 6;

/// The name of a descriptor while it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    /// The version of a map's layout.
    abi: u32,
    /// Of the interface.
    index: u32,
    /// A map, the mode of a link, the mark of a qdisc, or a member of a group, which the next process drops.
    what: String,
    /// The kernel's, of the map or the link, so that no two of them have one name. Else 0.
    id: u32,
}

impl Name {
    pub(crate) fn text(index: u32, what: &str, id: u32) -> String {
        let abi = match STATE.contains(&what) {
            true => ABI_VERSION,
            false => NO_LAYOUT,
        };
        format!("kstamp/{abi}/{index}/{what}/{id}")
    }

    fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        let &["kstamp", abi, index, what, id] = parts.as_slice() else {
            return None;
        };
        Some(Self {
            abi: abi.parse().ok()?,
            index: index.parse().ok()?,
            what: what.to_owned(),
            id: id.parse().ok()?,
        })
    }
}

/// The descriptors that the service manager has kept, by name.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(String, OwnedFd)>);

impl Inherited {
    pub fn new(descriptors: Vec<(String, OwnedFd)>) -> Self {
        Self(descriptors)
    }

    /// The XDP programs of the links: they are not foreign.
    pub(crate) fn xdp_programs(&self) -> Vec<u32> {
        let links = self.0.iter().filter_map(|(_, kept)| LinkInfo::of(kept.as_fd()).ok());
        links.filter(LinkInfo::is_xdp).map(|link| link.program).collect()
    }

    /// Takes the descriptors that still belong to `link`.
    pub(crate) fn take(&mut self, link: &Link) -> Handover {
        let mut handover = Handover::default();
        let mut maps: BTreeMap<&'static str, Vec<(u32, OwnedFd)>> = BTreeMap::new();
        let mut qdisc = None;
        let mut others = Vec::new();
        for (text, kept) in std::mem::take(&mut self.0) {
            let name = Name::parse(&text).filter(|name| name.index == link.index);
            let map = name
                .as_ref()
                .and_then(|name| STATE.into_iter().find(|map| *map == name.what));
            let mode = name.as_ref().and_then(|name| name.what.parse().ok());
            match (name, map, mode) {
                (Some(name), Some(map), _) => maps.entry(map).or_default().push((name.abi, kept)),
                (Some(name), _, _) if name.what == QDISC => qdisc = Some(kept),
                (_, _, Some(mode)) if is_attached(kept.as_fd(), mode, link) => {
                    handover.links.push((mode, BpfLink::inherited(kept)));
                }
                _ => others.push((text, kept)),
            }
        }
        self.0 = others;
        let has_any = !(self.0.is_empty() && maps.is_empty());
        if handover.links.is_empty() {
            if has_any {
                warn!(
                    "{}: the programs of the process before are no longer attached; starting afresh",
                    link.name
                );
            }
            return handover;
        }
        handover.qdisc = qdisc;
        match sole(maps) {
            Ok(maps) => handover.maps = maps,
            Err(why) => warn_of_new_counters(&link.name, &why),
        }
        info!("{}: took over from the process before", link.name);
        handover
    }

    /// Detaches all programs that were not taken over.
    pub fn discard(self) {
        for (_, kept) in self.0 {
            if let Ok(link) = LinkInfo::of(kept.as_fd()) {
                if link.index != 0 {
                    warn!(
                        "removed a program that the process before had left on the interface with index {}",
                        link.index
                    );
                }
                BpfLink::inherited(kept).detach();
            }
        }
    }
}

/// Whether the program of a link receives at `link` in `mode`. An index alone may be of another namespace, or of an interface
/// that was there before.
fn is_attached(kept: BorrowedFd<'_>, mode: AttachMode, link: &Link) -> bool {
    let Ok(info) = LinkInfo::of(kept) else { return false };
    let is_there = || match mode {
        AttachMode::Tc => hooks::programs(link.index, TcAttachType::Ingress)
            .is_ok_and(|programs| programs.iter().any(|program| program.id == Some(info.program))),
        _ => link.xdp_ids.contains(&info.program),
    };
    info.is_of(mode) && info.index == link.index && is_there()
}

/// All maps of one process and of this version.
fn sole(maps: BTreeMap<&'static str, Vec<(u32, OwnedFd)>>) -> Result<Vec<(&'static str, OwnedFd)>, String> {
    let others = maps.values().flatten().map(|(abi, _)| *abi);
    if let Some(other) = others.into_iter().find(|abi| *abi != ABI_VERSION) {
        return Err(format!(
            "the programs before were of version {other} of the layouts, and these are of {ABI_VERSION}"
        ));
    }
    if let Some(missing) = STATE.into_iter().find(|map| !maps.contains_key(map)) {
        return Err(format!("the service manager had no {missing}"));
    }
    let sole = maps.into_iter().map(|(map, kept)| match <[_; 1]>::try_from(kept) {
        Ok([(_, kept)]) => Ok((map, kept)),
        Err(kept) => Err(format!("the service manager had {} descriptors of {map}", kept.len())),
    });
    sole.collect()
}

pub(super) fn warn_of_new_counters(interface: &str, why: &str) {
    warn!("{interface}: probes were answered without a gap, but the counters of sessions restart: {why}");
}

/// Links and maps that one interface has from the process before.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    /// The links, by the mode in which their programs receive.
    links: Vec<(AttachMode, BpfLink)>,
    pub(super) maps: Vec<(&'static str, OwnedFd)>,
    /// The mark of the qdisc, if the process before had added it.
    pub(super) qdisc: Option<OwnedFd>,
}

impl Handover {
    /// The mode in which the process before received.
    pub(crate) fn mode(&self) -> Option<AttachMode> {
        let modes = self.links.iter().map(|(mode, _)| *mode);
        modes.min_by_key(|mode| *mode == AttachMode::Tc)
    }

    pub(super) fn take(&mut self, mode: AttachMode) -> Option<BpfLink> {
        let place = self.links.iter().position(|(of, _)| *of == mode)?;
        Some(self.links.swap_remove(place).1)
    }

    /// Detaches the links that are left.
    pub(super) fn detach(&mut self) {
        self.links.drain(..).for_each(|(_, link)| link.detach());
    }

    /// Detaches the links that are left, and removes the qdisc from the interface of index `index` if only the process before
    /// needed it.
    pub(super) fn end(&mut self, index: u32) {
        self.detach();
        drop(self.qdisc.take().map(|mark| Clsact::inherited(index, mark)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn file() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_name_is_parsed_as_it_was_written() {
        let name = Name::text(7, "xdp-generic", 12);
        let parsed = Name::parse(&name).unwrap();
        assert_eq!((parsed.index, parsed.id), (7, 12));
        assert_eq!(parsed.what.parse(), Ok(AttachMode::XdpGeneric));
        assert_eq!(Name::parse(&Name::text(7, STATE[0], 13)).unwrap().abi, ABI_VERSION);
        assert_eq!(name, "kstamp/6/7/xdp-generic/12", "in all versions");
        for wrong in ["", "stored", "kstamp/5/7/tc", "kstamp/x/7/tc/1", "other/5/7/tc/1"] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn maps_are_taken_over_only_together_and_in_this_version() {
        type Kept = &'static [(&'static str, u32)];
        let table: [(Kept, Option<&str>); 4] = [
            (
                &[
                    (STATE[0], ABI_VERSION),
                    (STATE[1], ABI_VERSION),
                    (STATE[2], ABI_VERSION),
                ],
                None,
            ),
            (
                &[(STATE[0], ABI_VERSION), (STATE[1], ABI_VERSION)],
                Some("had no COUNTS"),
            ),
            (
                &[(STATE[0], ABI_VERSION + 1), (STATE[1], ABI_VERSION)],
                Some("of version "),
            ),
            (
                &[
                    (STATE[0], ABI_VERSION),
                    (STATE[0], ABI_VERSION),
                    (STATE[1], ABI_VERSION),
                    (STATE[2], ABI_VERSION),
                ],
                Some("had 2 descriptors of SESSION_SLOTS"),
            ),
        ];
        for (kept, refusal) in table {
            let mut maps: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for (map, abi) in kept {
                maps.entry(*map).or_default().push((*abi, file()));
            }
            match (sole(maps), refusal) {
                (Ok(maps), None) => assert_eq!(maps.len(), STATE.len()),
                (Err(why), Some(part)) => assert!(why.contains(part), "{why}"),
                (outcome, _) => panic!("{kept:?}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn descriptors_that_are_no_links_are_not_taken_over() {
        let names = [
            Name::text(1, "xdp-native", 3),
            Name::text(1, "tc", 4),
            Name::text(1, QDISC, 0),
            "stored".to_owned(),
        ];
        let mut inherited = Inherited::new(names.into_iter().map(|name| (name, file())).collect());
        assert!(inherited.xdp_programs().is_empty());
        let link = Link {
            index: 1,
            ..Link::default()
        };
        let handover = inherited.take(&link);
        assert_eq!((handover.mode(), handover.qdisc.is_some()), (None, false));
        assert_eq!(inherited.0.len(), 3);
        inherited.discard();
    }
}
