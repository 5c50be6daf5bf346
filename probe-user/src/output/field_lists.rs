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

#[rustfmt::skip]
pub const HOPS: &[Field] = &[
    ("peer", "string", "Address of the peer."),
    ("peer_name", "string?", "Name of the peer."),
    ("path", "string", "As in `window`."),
    ("start", "time", "Start of the window."),
    ("end", "time", "End of the window."),
    ("own_devices", "list of objects", "Devices of this host that saw the probes."),
    ("own_devices[].device", "string", "Name."),
    ("own_devices[].role", "string", "`leg` between port and tunnel or NIC, `tunnel` or `nic`."),
    ("far_devices", "list of objects?", "Those of the peer's host; null if the peer sends no hop stamps."),
    ("far_devices[].device", "string", "Name."),
    ("far_devices[].role", "string", "As in `own_devices`."),
    ("both_halves", "integer", "Answered probes with stamps of both hosts."),
    ("own_half", "integer", "Answered probes with stamps of this host only."),
    ("no_half", "integer", "Answered probes without any stamp of a device."),
    ("contradictory", "integer", "Of these: with stamps that contradict each other, and are not used."),
    ("parts", "list of objects", "Each segment in each direction, in the order of the path."),
    ("parts[].segment", "string", "`own_switch`: between the port and the tunnel device, or the NIC without a tunnel device; `own_encapsulation`: between the tunnel device and the NIC; `underlay`: between both hosts' NICs; `far_encapsulation`; `far_switch`; or `reflector`: the residence time."),
    ("parts[].direction", "string", "`forward`, `backward`, or `both`: of the reflector, and of the round trip over the underlay."),
    ("parts[].delay_ns", "distribution?", "Time in this segment; null if only losses are known. All but `underlay` by direction and `reflector` add up to the round-trip time. `underlay` by direction rests on `clock`."),
    ("parts[].lost", "integer", "Probes lost there: seen by the last device before, and not by the next one."),
    ("rest_ns", "distribution?", "Of probes without the far half: the time beyond the devices of this host, less the residence time."),
    ("clock", "string?", "Clock that `underlay` by direction rests on, as in `window`."),
    ("clock_bound_ns", "ns?", "Bound on the error of `underlay` by direction; null with `same-clock`."),
    ("lost", "integer", "Lost probes: those of `parts`, `lost_late` and `lost_unknown`."),
    ("lost_late", "integer", "Of `lost`: answered after the timeout, so lost nowhere."),
    ("lost_unknown", "integer", "Of `lost`: in a place that is not known."),
    ("outliers", "integer", "Probes whose round trip took longer than `threshold_ns`."),
    ("outliers_left_out", "integer", "Of `outliers`: without a record, because there were too many."),
    ("threshold_ns", "ns?", "Round trips (T4 − T1) from which on a probe is an outlier; null while too few probes are known."),
];

#[rustfmt::skip]
pub const OUTLIER: &[Field] = &[
    ("peer", "string", "Address of the peer."),
    ("peer_name", "string?", "Name of the peer."),
    ("path", "string", "As in `window`."),
    ("seq", "integer", "Sequence number of the probe."),
    ("time", "time", "When it was sent."),
    ("elapsed_ns", "ns", "T4 − T1: the round trip with the residence time."),
    ("threshold_ns", "ns", "The threshold."),
    ("parts", "list of objects", "Its time in each segment that is known. With `rest_ns` they add up to `elapsed_ns`."),
    ("parts[].segment", "string", "As in `hops`."),
    ("parts[].direction", "string", "As in `hops`."),
    ("parts[].delay_ns", "ns", "Time in this segment."),
    ("rest_ns", "ns", "The time that is in no segment."),
    ("largest_segment", "string?", "The segment that exceeds its ordinary time by most; null if that is not known."),
    ("largest_direction", "string?", "Its direction; `both` for the underlay if the clocks do not back one."),
    ("largest_ns", "ns?", "The time of the probe there."),
    ("ordinary_ns", "ns?", "The median there in the last windows."),
    ("cause", "string?", "`upcall`: it waited for ovs-vswitchd; `cpu`: until a processor received it; `queue`: in this host; `far_switch`: in the peer's host; `underlay` or `reflector`; null if not known."),
    ("upcall_wait_ns", "ns?", "How long it waited for ovs-vswitchd."),
    ("upcall_host", "string?", "Where: `own` or `far`."),
    ("cpu_wait_ns", "ns?", "How late the processor received it: from the raise of its softirq until it ran, at most the time in that segment."),
    ("cpu_host", "string?", "Where: `own` or `far`."),
];

#[rustfmt::skip]
pub const HOP_SAMPLE: &[Field] = &[
    ("peer", "string", "Address of the peer."),
    ("path", "string", "As in `sample`."),
    ("seq", "integer", "Sequence number of the probe."),
    ("sent_ns", "ns", "T1, or when a lost probe was handed to the kernel, UTC since 1970."),
    ("state", "string", "`ok`, `lost` or `late`."),
    ("far_half", "boolean", "Whether the peer has told its stamps."),
    ("stamps", "list of objects", "In the order of the path, those of this host first."),
    ("stamps[].host", "string", "`own` or `far`."),
    ("stamps[].device", "string", "Name."),
    ("stamps[].direction", "string", "`forward`: the probe, or `backward`: its reply."),
    ("stamps[].egress", "boolean", "Whether it left by the device; else it came in by it."),
    ("stamps[].at_ns", "ns", "When, UTC since 1970 by the clock of that host."),
    ("elapsed_ns", "ns?", "T4 − T1; null if it was not answered in time."),
    ("parts", "list of objects", "Its time in each segment that is known. With `rest_ns` they add up to `elapsed_ns`."),
    ("parts[].segment", "string", "As in `hops`."),
    ("parts[].direction", "string", "As in `hops`."),
    ("parts[].delay_ns", "ns", "Time in this segment."),
    ("rest_ns", "ns?", "The time that is in no segment."),
    ("lost_segment", "string?", "Of a lost probe: where; null if not known."),
    ("lost_direction", "string?", "Its direction."),
];
