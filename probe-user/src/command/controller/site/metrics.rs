//! The metrics of a controller: those of its last report, and its counts since the start.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use probe_controller::link_delay::LinkState;
use probe_host::process::Usage;

use crate::command::controller::output::model::{
    ControllerReport, End, LinkLine, Start, SummaryLine, SwitchLine, state_name,
};
use crate::output::metrics::format::Format;
use crate::output::metrics::instruments::{
    Export, Instrument, Labels, Unit, Value, Walk, counter, gauge, of_process, seconds,
};
use crate::output::metrics::prometheus::encode_walk;

/// Links and switches with series.
const MAX_SHOWN: usize = 2_000;

type Owned = Vec<(&'static str, String)>;
type Method = fn(&LinkLine) -> (Option<i64>, Option<u64>);

const METHODS: [(&str, Method); 3] = [
    ("lldp_echo", |link| (link.rtt_ns.lldp_echo, link.error_ns.lldp_echo)),
    ("bounce", |link| (link.rtt_ns.bounce, link.error_ns.bounce)),
    ("kernel", |link| (link.rtt_ns.kernel, link.error_ns.kernel)),
];

const LINK_RTT: Instrument = gauge(
    "kstamp_link_rtt",
    Some(Unit::Seconds),
    "Round-trip time of a link, by the method that measures it.",
);
const LINK_ERROR: Instrument = gauge(
    "kstamp_link_rtt_error_bound",
    Some(Unit::Seconds),
    "Bound on the error of the round-trip time.",
);
const LINK_WEIGHT: Instrument = gauge(
    "kstamp_link_weight",
    Some(Unit::Seconds),
    "One-way delay by which paths are chosen; absent if no path may use the link.",
);
const LINK_UP: Instrument = gauge("kstamp_link_up", None, "1 if LLDP arrives in both directions.");
const LINK_STATE: Instrument = gauge("kstamp_link_state", None, "Always 1; the state of the link.");
const LINK_SILENT: Instrument = gauge(
    "kstamp_link_silent",
    None,
    "1 if no LLDP arrives in the direction: forward is from src to dst.",
);
const LINK_NEGATIVES: Instrument = counter("kstamp_link_negative_estimates", "Round-trip times below zero.");
const SWITCH_ECHO: Instrument = gauge(
    "kstamp_switch_echo",
    Some(Unit::Seconds),
    "Smallest ECHO time of a switch in the window.",
);
const LINKS: Instrument = gauge("kstamp_links", None, "Links by state.");

pub(super) fn encode(
    start: Option<Start>,
    report: Option<Arc<ControllerReport>>,
    updates_lost: u64,
    format: Format,
) -> Result<Vec<u8>, fmt::Error> {
    let usage = Usage::now();
    encode_walk(format, move |out: &mut dyn Export| {
        let since_ns = start.as_ref().map_or(0, |start| start.time.unix_ns);
        let mut walk = Walk::new(out, since_ns);
        if let Some(start) = &start {
            let build = [("version", start.version.to_owned())];
            let info = gauge("kstamp_build_info", None, "Always 1; the version of kstamp.");
            walk.own(&info, [(Labels::new(&build), Value::Int(1))])?;
        }
        of_process(usage, &mut walk)?;
        let lost = counter(
            "kstamp_metrics_events_lost",
            "Events that are missing in these metrics, because the server was too slow.",
        );
        walk.alone(&lost, Value::Int(updates_lost))?;
        let Some(report) = &report else { return Ok(()) };
        let names = names(&report.switches, &report.links);
        of_links(report, &names, &mut walk)?;
        of_switches(report, &names, &mut walk)?;
        of_summary(&report.summary, report.links.len(), &mut walk)
    })
}

fn int(value: impl TryInto<u64>) -> Value<'static> {
    Value::Int(value.try_into().unwrap_or(u64::MAX))
}

fn signed_seconds(ns: i64) -> Value<'static> {
    Value::Float(ns as f64 / 1e9)
}

/// By datapath.
type Names = BTreeMap<String, String>;

/// The names of switches. Two of the same name have their datapaths too, because no two series may have the same labels.
fn names(switches: &[SwitchLine], links: &[LinkLine]) -> Names {
    let ends = links.iter().flat_map(|link| [&link.from, &link.to]);
    let ends = ends.map(|end| (&end.dpid, &end.switch));
    let all: BTreeMap<&String, &String> = switches
        .iter()
        .map(|switch| (&switch.dpid, &switch.name))
        .chain(ends)
        .collect();
    let mut count: BTreeMap<&String, usize> = BTreeMap::new();
    all.values().for_each(|name| *count.entry(name).or_default() += 1);
    let unique = |dpid: &String, name: &String| match count[name] {
        1 => name.clone(),
        _ => format!("{name} {dpid}"),
    };
    all.iter()
        .map(|(dpid, name)| ((*dpid).clone(), unique(dpid, name)))
        .collect()
}

fn of_links(report: &ControllerReport, names: &Names, walk: &mut Walk<'_>) -> fmt::Result {
    let switch = |end: &End| names.get(&end.dpid).cloned().unwrap_or_default();
    let labels = |link: &LinkLine| -> Owned {
        vec![
            ("src_switch", switch(&link.from)),
            ("src_port", link.from.port.to_string()),
            ("dst_switch", switch(&link.to)),
            ("dst_port", link.to.port.to_string()),
        ]
    };
    let links: Vec<(Owned, &LinkLine)> = report
        .links
        .iter()
        .take(MAX_SHOWN)
        .map(|link| (labels(link), link))
        .collect();
    let each = || links.iter().map(|(labels, link)| (Labels::new(labels), *link));
    let by_method =
        || each().flat_map(|(labels, link)| METHODS.map(|(name, of)| (labels.with("method", name), of(link))));
    walk.own(
        &LINK_RTT,
        by_method().filter_map(|(labels, (rtt_ns, _))| Some((labels, signed_seconds(rtt_ns?)))),
    )?;
    walk.own(
        &LINK_ERROR,
        by_method().filter_map(|(labels, (_, error_ns))| Some((labels, seconds(error_ns?)))),
    )?;
    walk.own(
        &LINK_WEIGHT,
        each().filter_map(|(labels, link)| Some((labels, seconds(link.weight_ns?)))),
    )?;
    let is_up = |link: &LinkLine| !matches!(link.state, LinkState::Stale | LinkState::Missing);
    walk.own(
        &LINK_UP,
        each().map(|(labels, link)| (labels, int(u64::from(is_up(link))))),
    )?;
    walk.own(
        &LINK_STATE,
        each().map(|(labels, link)| (labels.with("state", state_name(link.state)), Value::Int(1))),
    )?;
    let silent = each().flat_map(|(labels, link)| {
        [("forward", link.silent.forward), ("backward", link.silent.backward)]
            .map(|(direction, is_silent)| (labels.with("direction", direction), int(u64::from(is_silent))))
    });
    walk.own(&LINK_SILENT, silent)?;
    walk.own(
        &LINK_NEGATIVES,
        each().map(|(labels, link)| (labels, Value::Int(link.negatives))),
    )
}

fn of_switches(report: &ControllerReport, names: &Names, walk: &mut Walk<'_>) -> fmt::Result {
    let labels = |switch: &SwitchLine| -> Owned { vec![("switch", names[&switch.dpid].clone())] };
    let switches: Vec<(Owned, &SwitchLine)> = report
        .switches
        .iter()
        .take(MAX_SHOWN)
        .map(|switch| (labels(switch), switch))
        .collect();
    let echo = switches
        .iter()
        .filter_map(|(labels, switch)| Some((Labels::new(labels), signed_seconds(switch.echo_ns?))));
    walk.own(&SWITCH_ECHO, echo)
}

fn of_summary(summary: &SummaryLine, links: usize, walk: &mut Walk<'_>) -> fmt::Result {
    let counts = &summary.links;
    let by_state = [
        (LinkState::Valid, counts.valid),
        (LinkState::BelowResolution, counts.below_resolution),
        (LinkState::Negative, counts.negative),
        (LinkState::Stale, counts.stale),
        (LinkState::Missing, counts.missing),
    ];
    let by_state = by_state.map(|(state, count)| (Labels::default().with("state", state_name(state)), int(count)));
    walk.own(&LINKS, by_state)?;
    for (name, help, value) in [
        ("kstamp_switches", "Switches that are connected.", summary.switches),
        (
            "kstamp_segments",
            "Segments that several switches share.",
            summary.segments,
        ),
        ("kstamp_hosts", "Hosts that are known.", summary.hosts),
        (
            "kstamp_links_not_shown",
            "Links without series of their own, because there are too many.",
            links.saturating_sub(MAX_SHOWN),
        ),
    ] {
        walk.alone(&gauge(name, None, help), int(value))?;
    }
    for (name, help, value) in [
        (
            "kstamp_reroutes",
            "Changes of a path between switches.",
            summary.reroutes,
        ),
        ("kstamp_storms", "Broadcast storms.", summary.storms),
        ("kstamp_broadcasts", "Group frames of hosts.", summary.broadcasts),
        (
            "kstamp_lldp_forged",
            "LLDP in the name of this run with a wrong signature.",
            summary.forged,
        ),
        (
            "kstamp_controller_probes_sent",
            "Probes of links and switches: LLDP, ECHO, bounces.",
            summary.sent,
        ),
        (
            "kstamp_controller_probes_answered",
            "Probes answered in time.",
            summary.answered,
        ),
        (
            "kstamp_controller_probes_lost",
            "Probes not answered in time.",
            summary.lost,
        ),
        (
            "kstamp_controller_probes_unheard",
            "LLDP out of ports that lead to no switch.",
            summary.unheard,
        ),
        (
            "kstamp_controller_probes_late",
            "Answers that came late or twice.",
            summary.late,
        ),
        (
            "kstamp_controller_probes_mismatched",
            "Answers that match no probe.",
            summary.mismatched,
        ),
        (
            "kstamp_hosts_displaced",
            "Hosts forgotten because there was no room for all.",
            summary.hosts_displaced,
        ),
        (
            "kstamp_host_pairs_displaced",
            "Pairs of hosts that lost their rules because there was no room for all.",
            summary.pairs_displaced,
        ),
        (
            "kstamp_rules_restored",
            "Rules that somebody deleted, and that were put back.",
            summary.rules_restored,
        ),
        (
            "kstamp_packet_ins_over_limit",
            "Packet-ins dropped above the limit.",
            summary.packet_ins_over_limit,
        ),
        (
            "kstamp_controller_events_dropped",
            "Events dropped because the controller could not keep up.",
            summary.events_dropped,
        ),
    ] {
        walk.alone(&counter(name, help), Value::Int(value))?;
    }
    Ok(())
}
