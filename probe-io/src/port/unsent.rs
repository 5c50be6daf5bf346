//! Why probes did not leave: the state of the interface at their time, the route, and the next hop.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;

use probe_common::family::Family;
use probe_core::observation::{Fate, SendFailure};
use probe_core::reflector::policy::Policy;
use probe_host::clock::monotonic_ns;
use probe_host::link::{Link, Obstacle, obstacle};

use crate::backend::Trace;

/// Outages that are remembered; probes of earlier ones have expired long ago.
const MAX_OUTAGES: usize = 64;

/// Explains why probes did not leave by one interface.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// `None` if the route chooses the interface, or while it is gone.
    index: Option<u32>,
    outages: Outages,
    /// When it had no address of an IP version: IPv4 and IPv6.
    unaddressed: [Outages; 2],
    /// Found since the last poll, by destination.
    found: BTreeMap<IpAddr, Option<SendFailure>>,
}

impl Unsent {
    /// Takes the state of the interface, `None` if it is gone, which was read after `asked_ns`, and whether the programs
    /// were found detached.
    pub(crate) fn follow(&mut self, link: Option<&Link>, detached: bool, asked_ns: u64) {
        self.index = link.map(|link| link.index);
        self.found.clear();
        let state = match link {
            None => Some(SendFailure::Gone),
            Some(link) if !link.up => Some(SendFailure::Down),
            Some(link) if !link.running => Some(SendFailure::NoCarrier),
            Some(_) => detached.then_some(SendFailure::Detached),
        };
        self.outages.observe(state, asked_ns, monotonic_ns());
    }

    /// Takes the addresses that were read after `asked_ns`.
    pub(crate) fn follow_addresses(&mut self, policy: &Policy, asked_ns: u64) {
        for (family, outages) in [Family::V4, Family::V6].into_iter().zip(&mut self.unaddressed) {
            let state = (!policy.has_address(family)).then_some(SendFailure::NoAddress);
            outages.observe(state, asked_ns, monotonic_ns());
        }
    }

    /// Why a socket did not send a probe.
    pub(crate) fn refused(&mut self, error: &io::Error, to: IpAddr) -> SendFailure {
        match SendFailure::from(error) {
            SendFailure::Forbidden => SendFailure::Forbidden,
            // Without carrier or interface, the route or the address is missing too.
            why => self.find(to).filter(|found| found.is_of_interface()).unwrap_or(why),
        }
    }

    /// The fate of a probe to `to` without a reply, sent at `sent_ns`. `is_preceded` says whether a foreign program may
    /// have taken it.
    pub(crate) fn fate(&mut self, trace: Trace, to: IpAddr, sent_ns: u64, is_preceded: impl FnOnce() -> bool) -> Fate {
        let unaddressed = &self.unaddressed[usize::from(to.is_ipv6())];
        match (trace, self.outages.at(sent_ns).or_else(|| unaddressed.at(sent_ns))) {
            (Trace::CollectorLost, _) => Fate::CollectorLost,
            // Queued without carrier, it was dropped after its stamp. Without an address, its source was 0.0.0.0.
            (Trace::Left | Trace::NotLeft, Some(why)) => Fate::NeverLeft(why),
            (Trace::Left, None) => Fate::Unanswered,
            (Trace::NotLeft, None) => Fate::NeverLeft(match self.find(to) {
                Some(why) => why,
                None if is_preceded() => SendFailure::Program,
                None => SendFailure::Unknown,
            }),
        }
    }

    fn find(&mut self, to: IpAddr) -> Option<SendFailure> {
        let index = self.index;
        *self.found.entry(to).or_insert_with(|| {
            let obstacle = obstacle(index, to).ok().flatten()?;
            Some(match obstacle {
                Obstacle::Gone => SendFailure::Gone,
                Obstacle::Down => SendFailure::Down,
                Obstacle::NoCarrier => SendFailure::NoCarrier,
                Obstacle::NoRoute => SendFailure::NoRoute,
                Obstacle::Prohibited => SendFailure::Forbidden,
                Obstacle::NoNeighbour => SendFailure::NoNeighbour,
            })
        })
    }
}

/// When the interface had no carrier, was down or gone: from the last time it was seen with a carrier.
#[derive(Debug, Default)]
struct Outages {
    spans: VecDeque<Outage>,
    /// The interface had a carrier then.
    good_ns: u64,
}

#[derive(Debug)]
struct Outage {
    why: SendFailure,
    from_ns: u64,
    /// `None` while it lasts.
    until_ns: Option<u64>,
}

impl Outages {
    /// Takes the state that was read between two times.
    fn observe(&mut self, state: Option<SendFailure>, asked_ns: u64, answered_ns: u64) {
        let lasting = self.spans.back_mut().filter(|outage| outage.until_ns.is_none());
        match (state, lasting) {
            (None, Some(outage)) => outage.until_ns = Some(answered_ns),
            (Some(why), None) => self.spans.push_back(Outage {
                why,
                from_ns: self.good_ns,
                until_ns: None,
            }),
            _ => {}
        }
        if state.is_none() {
            self.good_ns = asked_ns;
        }
        if self.spans.len() > MAX_OUTAGES {
            self.spans.pop_front();
        }
    }

    fn at(&self, time_ns: u64) -> Option<SendFailure> {
        let within = |outage: &&Outage| (outage.from_ns..=outage.until_ns.unwrap_or(u64::MAX)).contains(&time_ns);
        self.spans.iter().find(within).map(|outage| outage.why)
    }
}

#[cfg(test)]
mod tests {
    use probe_core::reflector::policy::OwnAddress;

    use super::*;

    #[test]
    fn an_outage_lasts_from_the_last_carrier_seen_to_the_next() {
        let mut outages = Outages::default();
        outages.observe(None, 100, 101);
        outages.observe(None, 200, 201);
        outages.observe(Some(SendFailure::NoCarrier), 300, 301);
        outages.observe(Some(SendFailure::Down), 400, 401);
        outages.observe(None, 500, 501);
        outages.observe(Some(SendFailure::Gone), 600, 601);
        let table = [
            (199, None),
            (200, Some(SendFailure::NoCarrier)),
            (450, Some(SendFailure::NoCarrier)),
            (501, Some(SendFailure::NoCarrier)),
            (u64::MAX, Some(SendFailure::Gone)),
        ];
        for (time_ns, want) in table {
            assert_eq!(outages.at(time_ns), want, "at {time_ns}");
        }
        outages.observe(None, 700, 701);
        assert_eq!(outages.at(702), None);
    }

    #[test]
    fn a_probe_that_left_without_a_source_address_is_no_loss() {
        let own = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            let prefix = ip.into();
            Policy::of_interface(
                &[OwnAddress {
                    ip,
                    prefix,
                    deprecated: false,
                }],
                [],
            )
        };
        let [v4, v6] = ["192.0.2.1", "fd01::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        for (has, lacks, left) in [(v4, v6, "192.0.2.9"), (v6, v4, "fd01::9")] {
            let mut unsent = Unsent::default();
            unsent.follow_addresses(&own(left), monotonic_ns());
            let fate = |unsent: &mut Unsent, to| unsent.fate(Trace::Left, to, monotonic_ns(), || true);
            assert_eq!(fate(&mut unsent, has), Fate::Unanswered);
            assert_eq!(fate(&mut unsent, lacks), Fate::NeverLeft(SendFailure::NoAddress));
            unsent.follow_addresses(&own(&lacks.to_string()), monotonic_ns());
            assert_eq!(fate(&mut unsent, lacks), Fate::Unanswered, "an address has come");
        }
    }

    #[test]
    fn outages_are_bounded() {
        let mut outages = Outages::default();
        for time_ns in 0..1_000 {
            let state = (time_ns % 2 == 0).then_some(SendFailure::NoCarrier);
            outages.observe(state, time_ns, time_ns);
        }
        assert_eq!(outages.spans.len(), MAX_OUTAGES);
    }

    #[test]
    fn a_probe_that_left_without_carrier_is_no_loss() {
        let mut unsent = Unsent::default();
        let to: IpAddr = [192, 0, 2, 1].into();
        let link = |running| Link {
            index: 7,
            up: true,
            running,
            ..Link::default()
        };
        let before_ns = monotonic_ns();
        unsent.follow(Some(&link(true)), false, before_ns);
        let left = Trace::Left;
        assert_eq!(unsent.fate(left, to, before_ns + 1, || true), Fate::Unanswered);
        unsent.follow(Some(&link(false)), false, monotonic_ns());
        let why = SendFailure::NoCarrier;
        assert_eq!(unsent.fate(left, to, monotonic_ns(), || true), Fate::NeverLeft(why));
        assert_eq!(unsent.fate(left, to, before_ns - 1, || true), Fate::Unanswered);
        unsent.found.insert(to, None);
        let dark = unsent.fate(Trace::NotLeft, to, monotonic_ns(), || true);
        assert_eq!(dark, Fate::NeverLeft(why));
        let unstamped = [(true, SendFailure::Program), (false, SendFailure::Unknown)];
        for (is_preceded, why) in unstamped {
            assert_eq!(
                unsent.fate(Trace::NotLeft, to, before_ns - 1, || is_preceded),
                Fate::NeverLeft(why)
            );
        }
        unsent.found.insert(to, Some(SendFailure::NoNeighbour));
        let nobody = Fate::NeverLeft(SendFailure::NoNeighbour);
        assert_eq!(unsent.fate(Trace::NotLeft, to, before_ns - 1, || true), nobody);
    }
}
