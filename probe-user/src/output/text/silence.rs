//! What to look at when nothing was heard.

use std::io::{self, Write};

use probe_common::abi::Counter;

use crate::output::model::{Counters, Start};
use crate::output::quantity::count;
use crate::output::text::{counters, list, wrap};

/// Writes what to check, beginning with this host if nothing left it.
pub(super) fn write(counters: &Counters, start: &Start, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    let named = |name: &str| counters.values.get(name).copied().unwrap_or(0);
    let by_programs =
        counters::value(counters, Counter::EgressStamped) + counters::value(counters, Counter::EgressFailed);
    let left = by_programs + named("socket_stamped");
    let advice = if left > 0 {
        let left = count(left, "probe");
        writeln!(out, "no peer answered ({left} left this host): check that")?;
        out_there(start)
    } else {
        // A device may leave what it sends without a stamp.
        let known = if named("socket_sent") > 0 {
            "is known to have left"
        } else {
            "left"
        };
        writeln!(out, "no probe {known} this host: check that")?;
        at_home(start)
    };
    for advice in advice {
        wrap::write("  - ", &advice, 4, columns, out)?;
    }
    writeln!(out)
}

fn at_home(start: &Start) -> Vec<String> {
    let Start { interface, peers, .. } = start;
    let mut advice = vec![
        format!("{interface} is up and has a carrier: ip link show dev {interface}"),
        format!("its addresses are not tentative, nor duplicates (dadfailed): ip address show dev {interface}"),
    ];
    if !peers.is_empty() {
        let peers = list(peers);
        advice.push(format!(
            "there is a route over {interface} to {peers}: ip route get ADDR oif {interface}"
        ));
        advice.push(format!(
            "{peers} can be resolved by ARP or ND (no FAILED or INCOMPLETE): ip neigh show dev {interface}"
        ));
    }
    advice.push(doctor(start));
    advice
}

fn out_there(start: &Start) -> Vec<String> {
    let Start { port, peers, .. } = start;
    let groups = list(&start.groups);
    let mut advice = Vec::new();
    if start.group_probes {
        advice.push(format!(
            "kstamp runs on the other port too, with --port {port} and the same groups"
        ));
    } else {
        advice.push(format!("kstamp runs at {} with --port {port}", list(peers)));
    }
    let key = if start.authenticated {
        "has the same --key-file"
    } else {
        "has no --key-file"
    };
    advice.push(format!(
        "it {key}, and this host's address is in its interface's prefixes or --allow"
    ));
    advice.push(format!("UDP port {port} is not filtered on the way"));
    if start.group_probes {
        let other_way = if peers.is_empty() {
            ", or name a peer: --peer ADDR"
        } else {
            ""
        };
        advice.push(format!(
            "the switch forwards {groups} (IGMP and MLD snooping){other_way}"
        ));
    }
    advice.push(doctor(start));
    advice
}

fn doctor(start: &Start) -> String {
    format!("kstamp doctor --iface {} finds nothing to complain of", start.interface)
}
