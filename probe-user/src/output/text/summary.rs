//! The end of the text form: what a person should know of the run, and of what went wrong.

use std::io::{self, Write};
use std::net::IpAddr;

use probe_common::abi::{COUNTER_NAMES, Counter};

use super::list;
use super::table::{self, path_name};
use crate::output::model::{Counters, End};
use crate::output::quantity::count;
use crate::output::results::Results;

/// Counters that are no sign of trouble.
const ORDINARY: [Counter; 7] = [
    Counter::EgressStamped,
    // Questions to peers, who they are, leave like that.
    Counter::EgressForeign,
    Counter::Reflected,
    Counter::ReflectedGroup,
    // And these questions arrive like that.
    Counter::PassedUp,
    Counter::Collected,
    Counter::SessionStarted,
];

/// What the others mean, after their number.
const IN_WORDS: [(Counter, &str); 16] = [
    (
        Counter::EgressFailed,
        "probes left without a stamp: they could not be remembered or rewritten",
    ),
    (Counter::Malformed, "probes not answered: malformed"),
    (Counter::BadChecksum, "probes not answered: wrong UDP checksum"),
    (
        Counter::NotForUs,
        "probes not answered: to an address that is neither this interface's nor a joined group",
    ),
    (
        Counter::BadSource,
        "probes not answered: from an address that cannot be answered",
    ),
    (
        Counter::SourcePort,
        "probes not answered: from the test port itself, as replies are",
    ),
    (
        Counter::NoOwnAddress,
        "probes not answered: the interface has no address of that family",
    ),
    (
        Counter::ReflectFailed,
        "probes not answered: the reply could not be written",
    ),
    (
        Counter::RingFull,
        "replies counted without their stamps: the ring buffer was full",
    ),
    (
        Counter::Unmatched,
        "replies ignored: to no probe in flight, or from an address that was not asked",
    ),
    (Counter::ReplyMalformed, "replies ignored: malformed"),
    (Counter::Vlan, "packets left alone: with a VLAN tag"),
    (Counter::IpOptions, "packets left alone: with IPv4 options"),
    (Counter::Extension, "packets left alone: with IPv6 extension headers"),
    (Counter::Fragment, "packets left alone: fragments"),
    (
        Counter::AbiMismatch,
        "packets left alone: the programs and this binary are of different builds",
    ),
];

/// Writes the summary of a run.
pub(super) fn write(end: &End, port: u16, groups: &[IpAddr], out: &mut dyn Write) -> io::Result<()> {
    let results = &end.results;
    writeln!(out)?;
    if results.iter().all(|result| result.counts.received == 0) {
        write_silence(&end.counters, port, groups, out)?;
    }
    if !results.is_empty() {
        writeln!(out, "Summary: round trips, less the time in the reflector")?;
        table::write(&table::round_trips(results), out)?;
        writeln!(out, "\nParts of a round trip; avg latency is half of the mean RTT")?;
        table::write(&table::parts(results), out)?;
    }
    let mut notes = Vec::new();
    write_notes(results, &mut notes)?;
    write_counters(&end.counters, &mut notes)?;
    if !notes.is_empty() && !results.is_empty() {
        writeln!(out)?;
    }
    out.write_all(&notes)
}

/// What to look at when nothing was heard.
fn write_silence(counters: &Counters, port: u16, groups: &[IpAddr], out: &mut dyn Write) -> io::Result<()> {
    let stamped = value(counters, Counter::EgressStamped);
    writeln!(
        out,
        "no peer answered ({} left this host): check that",
        count(stamped, "probe")
    )?;
    writeln!(
        out,
        "  - kstamp runs on the other port too, with --port {port} and the same groups"
    )?;
    writeln!(out, "  - UDP port {port} is not filtered on the way")?;
    if !groups.is_empty() {
        writeln!(
            out,
            "  - the switch forwards {} (IGMP and MLD snooping), or name a peer: --peer ADDR",
            list(groups)
        )?;
    }
    writeln!(out, "  - kstamp doctor finds nothing to complain of\n")
}

/// What is seldom there: shown only where it is.
pub(super) fn write_notes(results: &[Results], out: &mut dyn Write) -> io::Result<()> {
    for result in results {
        let counts = &result.counts;
        let who = format!("{} {}", result.peer, path_name(result.path));
        let losses = [
            (counts.lost_forward, "on the way there"),
            (counts.lost_backward, "on the way back"),
            (counts.lost_unknown, "not known which way"),
        ];
        let replies = [
            (counts.pending, "still pending"),
            (counts.late, "late"),
            (counts.duplicates, "duplicate"),
            (counts.reordered, "reordered"),
        ];
        let own = [
            (counts.send_failed, "never left this host"),
            (counts.collector_lost, "answered, stamps lost to a full ring buffer"),
        ];
        write_note(&format!("{who} lost {}", counts.lost), &losses, out)?;
        write_note(&format!("{who} replies"), &replies, out)?;
        write_note(&format!("{who} probes"), &own, out)?;
    }
    Ok(())
}

/// `who: 1 this, 2 that`, or nothing if all are zero.
fn write_note(who: &str, numbers: &[(u64, &str)], out: &mut dyn Write) -> io::Result<()> {
    let present = numbers.iter().filter(|(number, _)| *number > 0);
    let notes: Vec<String> = present.map(|(number, what)| format!("{number} {what}")).collect();
    if notes.is_empty() {
        Ok(())
    } else {
        writeln!(out, "{who}: {}", notes.join(", "))
    }
}

/// Kernel counters worth a person's attention.
pub(super) fn write_counters(counters: &Counters, out: &mut dyn Write) -> io::Result<()> {
    let is_ordinary = |counter: &str| ORDINARY.iter().any(|&ordinary| name(ordinary) == counter);
    let in_words = |counter: &str| IN_WORDS.iter().find(|(known, _)| name(*known) == counter);
    for (counter, number) in counters
        .0
        .iter()
        .filter(|(counter, number)| **number > 0 && !is_ordinary(counter))
    {
        match in_words(counter) {
            Some((_, words)) => writeln!(out, "{number} {words} ({counter})")?,
            None => writeln!(out, "{number} {counter}")?,
        }
    }
    Ok(())
}

/// The value of one counter.
pub(super) fn value(counters: &Counters, counter: Counter) -> u64 {
    counters.0.get(name(counter)).copied().unwrap_or(0)
}

fn name(counter: Counter) -> &'static str {
    COUNTER_NAMES[counter as usize]
}
