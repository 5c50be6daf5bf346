//! Counters in words.

use std::io::{self, Write};

use probe_common::abi::{COUNTER_NAMES, Counter};
use probe_core::reflector::Count;

use crate::output::model::Counters;
use crate::output::quantity::count;
use crate::output::text::wrap;

/// Counters of sockets, with what they count; none is a sign of trouble.
pub const SOCKETS: [(&str, &str); 4] = [
    ("socket_sent", "Probes sent by sockets (--engine socket)."),
    ("socket_stamped", "Of these, probes with a transmit timestamp."),
    ("socket_received", "Replies received by sockets."),
    (
        "echo_unmatched",
        "Packets of legacy agents that answer no probe (--legacy-peers).",
    ),
];

/// Kernel counters that are no sign of trouble.
const ORDINARY: [Counter; 11] = [
    Counter::EgressStamped,
    // Identity requests leave like this,
    Counter::EgressForeign,
    Counter::Reflected,
    Counter::ReflectedGroup,
    // and arrive like this.
    Counter::PassedUp,
    Counter::Collected,
    Counter::SessionStarted,
    Counter::LegacyReflected,
    Counter::LegacyReflectedGroup,
    Counter::Padded,
    Counter::SourceStarted,
];

/// The other kernel counters: what they count, and what became of it.
const IN_WORDS: [(Counter, &str, &str); 23] = [
    (
        Counter::EgressFailed,
        "probe",
        "left without a stamp: not remembered or not rewritten",
    ),
    (
        Counter::Malformed,
        "probe",
        "not answered: too short, or of a length that its headers contradict",
    ),
    (Counter::BadChecksum, "probe", "not answered: wrong checksum"),
    (
        Counter::NotForUs,
        "probe",
        "not answered: to an address that is neither this interface's nor a joined group",
    ),
    (
        Counter::BadSource,
        "probe",
        "not answered: from an address that cannot be answered",
    ),
    (
        Counter::SourcePort,
        "probe",
        "not answered: from the test port itself, as replies are",
    ),
    (
        Counter::ReplyShaped,
        "probe",
        "not answered: with the fields of a reply: answering could loop",
    ),
    (
        Counter::NoOwnAddress,
        "probe",
        "not answered: the interface has no address of that family",
    ),
    (
        Counter::ReflectFailed,
        "probe",
        "not answered: the reply could not be written",
    ),
    (
        Counter::LegacyLoop,
        "probe",
        "not answered: from a port or with a TTL of replies to legacy agents, answering could loop",
    ),
    (
        Counter::NotAllowed,
        "probe",
        "not answered: from outside the prefixes that are answered; --allow admits more",
    ),
    (
        Counter::RateSource,
        "probe",
        "not answered: more than --rate-source of one source",
    ),
    (
        Counter::RateGroup,
        "probe",
        "not answered: more than --rate-group of one source by a group",
    ),
    (Counter::RatePort, "probe", "not answered: more than --rate in all"),
    (
        Counter::RingFull,
        "reply",
        "counted without stamps: the ring buffer was full",
    ),
    (
        Counter::Unmatched,
        "reply",
        "ignored: to no probe in flight, or from an address that was not asked",
    ),
    (Counter::ReplyBadChecksum, "reply", "ignored: wrong checksum"),
    (
        Counter::ReplyMalformed,
        "reply",
        "ignored: too short, or of a length that its headers contradict",
    ),
    (Counter::Vlan, "packet", "left alone: with an 802.1Q tag"),
    (Counter::IpOptions, "packet", "left alone: with IPv4 options"),
    (Counter::Extension, "packet", "left alone: with IPv6 extension headers"),
    (Counter::Fragment, "packet", "left alone: in several pieces"),
    (
        Counter::AbiMismatch,
        "packet",
        "left alone: the programs and this binary are of different builds",
    ),
];

/// Writes how many probes a reflector has answered.
pub fn write_reflected(counters: &Counters, out: &mut dyn Write) -> io::Result<()> {
    let in_userspace = |what: Count| counters.values.get(what.name()).copied().unwrap_or(0);
    let by_group = value(counters, Counter::ReflectedGroup) + in_userspace(Count::ReflectedGroup);
    let all = value(counters, Counter::Reflected) + in_userspace(Count::Reflected) + by_group;
    writeln!(
        out,
        "{} {} answered since the start, {by_group} of them by a group",
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
    let is_ordinary = |counter: &str| {
        let in_userspace = Count::ALL.iter().find(|what| what.name() == counter);
        ORDINARY.iter().any(|&ordinary| name(ordinary) == counter)
            || SOCKETS.iter().any(|&(name, _)| name == counter)
            || in_userspace.is_some_and(|what| what.in_words().is_none())
    };
    for (counter, &number) in &counters.values {
        if number == 0 || is_ordinary(counter) {
            continue;
        }
        let in_kernel = IN_WORDS.iter().find(|(known, ..)| name(*known) == counter);
        let in_kernel = in_kernel.map(|&(_, what, became)| (what, became));
        let in_userspace = || Count::ALL.iter().find(|what| what.name() == counter)?.in_words();
        let note = match in_kernel.or_else(in_userspace) {
            Some((what, became)) => format!("{} {became} ({counter})", count(number, what)),
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
    fn every_counter_is_ordinary_or_has_words_beyond_its_name() {
        for counter in COUNTER_NAMES {
            let in_words = IN_WORDS.iter().find(|(known, ..)| name(*known) == counter);
            assert_ne!(
                in_words.is_some(),
                ORDINARY.iter().any(|&ordinary| name(ordinary) == counter),
                "{counter}"
            );
            if let Some((_, _, words)) = in_words {
                assert!(!words.to_lowercase().contains(counter), "{words} ({counter})");
            }
        }
    }
}
