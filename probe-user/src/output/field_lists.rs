//! The fields of results and samples, one line each (so without rustfmt): for the reference pages, CSV and Parquet.

/// Name, type and meaning. Types: `ns`, `s`, `ppb` and `1/s` are integers in this unit, `time` is a string; `?` is nullable.
pub type Field = (&'static str, &'static str, &'static str);

pub const DISTRIBUTION: &[Field] = &[
    ("min", "integer", "Smallest sample, exact."),
    ("mean", "integer", "Arithmetic mean."),
    ("p50", "integer", "Median, within 1 %."),
    ("p90", "integer", "90th percentile, within 1 %."),
    ("p99", "integer", "99th percentile, within 1 %."),
    ("p999", "integer", "99.9th percentile, within 1 %."),
    ("max", "integer", "Largest sample, exact."),
    ("stddev", "integer", "Standard deviation."),
    ("count", "integer", "Number of samples."),
];

/// Fields of the record `window` that a window in a history has.
const OF_HISTORY: [&str; 19] = [
    "start",
    "end",
    "sent",
    "received",
    "lost",
    "pending",
    "lost_forward",
    "lost_backward",
    "lost_unknown",
    "late",
    "duplicates",
    "reordered",
    "collector_lost",
    "send_failed",
    "unanswered",
    "not_sent",
    "rtt_ns",
    "forward_ns",
    "backward_ns",
];

/// The fields of the record `window` that a window in a history has, with these others.
pub fn of_history(others: &[&str]) -> impl Iterator<Item = &'static Field> {
    let all = RESULTS.iter().flat_map(|fields| fields.iter());
    all.filter(|(name, ..)| OF_HISTORY.contains(name) || others.contains(name))
}

#[rustfmt::skip]
pub const RESULTS: &[&[Field]] = &[
    &[
        ("peer", "string", "Address of the peer."),
        ("peer_name", "string?", "Name of the peer."),
        ("moved_from", "string?", "Address of the peer before, if it has moved."),
        ("family", "string", "`v4` or `v6`."),
        ("path", "string", "`unicast`, `group` (multicast) or `cold` (unicast from ports that change)."),
        ("method", "string", "`stamp`, or `echo` for a legacy agent."),
        ("engine", "string", "Where timestamps are taken: `ebpf` or `socket`."),
        ("attach.egress", "string?", "Hook of the program that stamps probes."),
        ("attach.receive", "string", "Hook of the receive program."),
        ("peer_attach", "string?", "Hook of the peer's receive program."),
        ("start", "time", "Start of the interval."),
        ("end", "time", "End of the interval."),
        ("sent", "integer", "Probes that left this host: `received` + `lost` + `pending`."),
        ("received", "integer", "Probes answered within the timeout."),
        ("lost", "integer", "Probes not answered within the timeout."),
        ("pending", "integer", "Probes still in flight."),
        ("lost_forward", "integer", "Of `lost`: the probe did not reach the reflector."),
        ("lost_backward", "integer", "Of `lost`: the reply did not come back."),
        ("lost_unknown", "integer", "Of `lost`: the direction is not known."),
        ("late", "integer", "Replies after the timeout; their probes stay lost."),
        ("duplicates", "integer", "Replies beyond the first to the same probe (RFC 5560)."),
        ("reordered", "integer", "Replies with a sequence number below an earlier one (RFC 4737)."),
        ("collector_lost", "integer", "Of `received`: without timestamps, because the ring buffer was full."),
        ("send_failed", "integer", "Probes that never left this host; not in `sent`."),
        ("unanswered", "integer", "Probes without an answer in time, for whatever reason: `lost` + `send_failed`. The share is `unanswered` / (`received` + `unanswered`)."),
        ("not_sent", "integer", "Probes that were due while this process did not run; in no other count."),
        ("send_failed_by", "object", "Of `send_failed`: the number for each reason (see `reason` of a sample)."),
        ("rtt_ns", "distribution?", "Round-trip time less the residence time (RFC 2681); residence included if the reflector writes no timestamps."),
        ("residence_ns", "distribution?", "Residence time in the reflector, T3 − T2; null if it writes no timestamps."),
        ("forward_ns", "distribution?", "One-way delay to the peer, T2 − T1 (RFC 7679), if `clock` is known."),
        ("backward_ns", "distribution?", "One-way delay from the peer, T4 − T3 (RFC 7679), if `clock` is known."),
    ],
    ONE_WAY_CLOCK,
    &[
        ("pdv_ns", "distribution?", "Round-trip delay variation against the minimum (RFC 5481 §4.2)."),
        ("ipdv_ns", "distribution?", "Round-trip delay variation against the previous probe (RFC 5481 §4.1)."),
        ("forward_pdv_ns", "distribution?", "Variation of the one-way delay to the peer against its minimum."),
        ("backward_pdv_ns", "distribution?", "Variation of the one-way delay from the peer against its minimum."),
        ("own_clock_steps", "integer", "Steps of this host's wall clock."),
        ("peer_clock_steps", "integer", "Steps of the peer's wall clock."),
        ("lost_late", "integer", "Of `lost_unknown`: answered after the timeout."),
        ("lost_refused", "integer?", "Of `lost_forward` and `lost_unknown`: refused by the peer's rate limits."),
        ("duplicated", "integer", "Probes answered more than once (RFC 5560)."),
        ("loss_period", "distribution?", "Lengths of runs of lost probes, in probes (RFC 3357 §4)."),
        ("loss_distance", "distribution?", "Sequence numbers from one lost probe to the next (RFC 3357 §4)."),
        ("reordering_extent", "distribution?", "By how many replies a reordered one was overtaken (RFC 4737 §4.2)."),
        ("downs", "integer", "How often the peer went down."),
        ("down_ns", "ns", "How long the peer was down."),
        ("interface_down_ns", "ns", "How long this host's interface was gone, down or without carrier; probes that were in flight then may be lost."),
    ],
];

#[rustfmt::skip]
pub const ONE_WAY_CLOCK: &[Field] = &[
    ("clock", "string?", "Clock that one-way delays rest on: `same-clock`, `synced` (both ends to UTC) or `estimated`."),
    ("clock_bound_ns", "ns?", "Bound on the error of one-way delays; null with `same-clock`."),
    ("clock_offset_ns", "ns?", "The peer's wall clock less this host's; only if estimated."),
    ("clock_skew_ppb", "ppb?", "Rate of the peer's clock against this host's; only if estimated."),
];

#[rustfmt::skip]
pub const SAMPLE: &[Field] = &[
    ("peer", "string", "Address of the peer."),
    ("path", "string", "`unicast`, `group` (multicast) or `cold` (unicast from ports that change)."),
    ("seq", "integer", "Sequence number of the probe."),
    ("sent_ns", "ns?", "When a lost or failed probe was handed to the kernel, UTC since 1970."),
    ("t1_ns", "ns?", "T1: the probe left this host, UTC since 1970."),
    ("t2_ns", "ns?", "T2: the probe reached the reflector, UTC since 1970."),
    ("t3_ns", "ns?", "T3: the reply left the reflector, UTC since 1970."),
    ("t4_ns", "ns?", "T4: the reply reached this host, UTC since 1970."),
    ("rtt_ns", "ns?", "Round-trip time less the residence time, by monotonic timestamps; residence included if the reflector wrote none."),
    ("residence_ns", "ns?", "Residence time in the reflector; null if it wrote no timestamps, or ones that contradict each other."),
    ("state", "string", "`ok`, `lost`, `late`, `duplicate`, or `failed`: the probe did not leave."),
    ("reason", "string?", "Why a failed probe did not leave: `gone`, `down` or `no-carrier` (the interface), `no-address`, `no-route`, `no-neighbour` (ARP or ND), `no-buffer` (a full buffer or queue), `forbidden` (a firewall), `program` (a TC program before kstamp's), `detached` (others had detached kstamp's programs), `errno-N` or `unknown`."),
];
