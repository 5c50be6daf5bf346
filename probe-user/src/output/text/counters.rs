//! Counters in words.

use std::io::{self, Write};

use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_core::mismatch::Mismatch;
use probe_core::reflector::Count;

use crate::output::model::Counters;
use crate::output::quantity::count;
use crate::output::text::wrap;

/// Counters of the process, with what they count; none is a sign of trouble.
pub const PROCESS: [(&str, &str); 5] = [
    (
        "peers_evicted",
        "Peers that were down and lost their entry to a new one, because there were too many.",
    ),
    ("socket_sent", "Probes sent by sockets (--engine socket)."),
    ("socket_stamped", "Of these, probes with a transmit timestamp."),
    ("socket_received", "Replies received by sockets."),
    (
        "echo_unmatched",
        "Packets of legacy agents that answer no probe (--legacy-peers).",
    ),
];

/// A counter of records that `--hops` lost.
pub struct Lost {
    pub name: &'static str,
    pub meaning: &'static str,
    /// What it counts, in the singular.
    unit: &'static str,
}

/// The counters of `--hops`. Each is a sign of trouble. `HopStamps` counts in this order.
pub const HOPS: [Lost; 2] = [
    Lost {
        name: "hop_stamps_lost",
        meaning: "Hop stamps for which the ring buffer had no room. Losses of probes before that are in no known place.",
        unit: "hop stamp",
    },
    Lost {
        name: "upcalls_lost",
        meaning: "Upcalls of probes for which the ring buffer had no room. Outliers before that have no cause `queue` or \
                  `far_switch` in that switch, because they may have waited for ovs-vswitchd.",
        unit: "upcall",
    },
];

/// The unit that a kernel counter counts, and its outcome; `None` if it is no sign of trouble.
fn in_words(counter: Counter) -> Option<(&'static str, &'static str)> {
    use Counter as C;
    Some(match counter {
        // Identity requests leave as `EgressForeign`, and arrive as `PassedUp`.
        C::EgressStamped | C::EgressForeign | C::PassedUp | C::Padded => return None,
        C::Reflected | C::ReflectedGroup | C::LegacyReflected | C::LegacyReflectedGroup => return None,
        C::Collected | C::SessionStarted | C::SourceStarted => return None,
        C::EgressFailed => ("probe", "left without a stamp: not remembered or not rewritten"),
        C::Malformed => (
            "probe",
            "not answered: too short, or of a length that its headers contradict",
        ),
        C::BadChecksum => ("probe", "not answered: wrong checksum"),
        C::NotForUs => (
            "probe",
            "not answered: to an address that is neither this interface's nor a joined group",
        ),
        C::BadSource => ("probe", "not answered: from an address that cannot be answered"),
        C::OwnSource => (
            "probe",
            "not answered: from an own address of this interface (forged, or its own multicast came back)",
        ),
        C::SubnetSource => (
            "probe",
            "not answered: from the network or broadcast address of an own prefix",
        ),
        C::SourcePort => ("probe", "not answered: from port 0, to which no reply can be sent"),
        C::ReplyShaped => (
            "probe",
            "not answered: with the fields of a reply: answering could loop",
        ),
        C::NoOwnAddress => ("probe", "not answered: the interface has no address of that family"),
        C::ReflectFailed => ("probe", "not answered: the reply could not be written"),
        C::LegacyLoop => (
            "probe",
            "not answered: from a port or with a TTL of replies to legacy agents: answering could loop",
        ),
        C::NotAllowed => (
            "probe",
            "not answered: from outside the prefixes that are answered; --allow admits more",
        ),
        C::RateSource => ("probe", "not answered: one source above --rate-source"),
        C::RateGroup => ("probe", "not answered: group probes of one source above --rate-group"),
        C::RatePort => ("probe", "not answered: all sources together above --rate"),
        C::DuplicateDropped => ("reply", "dropped: above the limit of replies to one probe"),
        C::RingFull => ("reply", "counted without stamps: the ring buffer was full"),
        C::Unmatched => (
            "reply",
            "ignored: to no probe in flight, or from an address that was not probed",
        ),
        C::ReplyNotAllowed => (
            "reply",
            "to the group ignored: from an own address, or from outside the prefixes that are answered; --allow admits more",
        ),
        C::ReplyBadChecksum => ("reply", "ignored: wrong checksum"),
        C::ReplyMalformed => (
            "reply",
            "ignored: too short, or of a length that its headers contradict",
        ),
        C::Vlan => ("packet", "left alone: with an 802.1Q tag"),
        C::IpOptions => ("packet", "left alone: with IPv4 options"),
        C::Extension => ("packet", "left alone: with IPv6 extension headers"),
        C::Fragment => ("packet", "left alone: in several pieces"),
        C::AbiMismatch => (
            "packet",
            "left alone: the programs and this binary are of different builds",
        ),
    })
}

/// Writes how many probes a reflector has answered.
pub fn write_reflected(counters: &Counters, out: &mut dyn Write) -> io::Result<()> {
    let in_userspace = |what: Count| counters.values.get(what.name()).copied().unwrap_or(0);
    let by_group = value(counters, Counter::ReflectedGroup) + in_userspace(Count::ReflectedGroup);
    let all = value(counters, Counter::Reflected) + in_userspace(Count::Reflected) + by_group;
    writeln!(
        out,
        "{} {} answered since the start, {by_group} of them sent to a group",
        counters.time.to_second(),
        count(all, "probe")
    )?;
    let echoed = value(counters, Counter::LegacyReflected) + value(counters, Counter::LegacyReflectedGroup);
    match echoed {
        0 => Ok(()),
        _ => writeln!(out, "  and {} of legacy agents", count(echoed, "probe")),
    }
}

/// Writes the counters that are a sign of trouble.
pub fn write_trouble(counters: &Counters, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    for (counter, &number) in counters.values.iter().filter(|(_, number)| **number > 0) {
        let in_kernel = Counter::ALL.into_iter().find(|&known| name(known) == counter);
        let in_userspace = || Some(Count::ALL.iter().find(|known| known.name() == counter)?.in_words());
        let of_process = || PROCESS.iter().any(|&(name, _)| name == counter).then_some(None);
        // The programs, or the sockets, count these as unmatched, too.
        let of_mismatches = || Mismatch::ALL.iter().any(|why| why.name() == counter).then_some(None);
        let of_hops = || {
            let lost = HOPS.iter().find(|lost| lost.name == counter)?;
            Some(Some((lost.unit, "lost: the ring buffer was full")))
        };
        let known = in_kernel
            .map(in_words)
            .or_else(in_userspace)
            .or_else(of_process)
            .or_else(of_hops);
        let note = match known.or_else(of_mismatches) {
            Some(Some((what, became))) => format!("{} {became} ({counter})", count(number, what)),
            Some(None) => continue,
            None => format!("{number} {counter}"),
        };
        wrap::write("", &note, 2, columns, out)?;
    }
    Ok(())
}

pub fn value(counters: &Counters, counter: Counter) -> u64 {
    counters.values.get(name(counter)).copied().unwrap_or(0)
}

fn name(counter: Counter) -> &'static str {
    COUNTER_NAMES[counter as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_counter_do_not_repeat_its_name() {
        for counter in Counter::ALL {
            let (words, name) = (in_words(counter).unwrap_or_default().1, name(counter));
            assert!(!words.to_lowercase().contains(name), "{words} ({name})");
        }
    }
}
