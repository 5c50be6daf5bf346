//! Notes on packets that answer no probe, and on timestamps in the wrong format.

use std::net::IpAddr;

use log::warn;
use probe_core::mismatch::{Mismatch, Mismatches};

use crate::output::quantity::count;

/// The warning for a peer whose timestamps are not in the format of its flag Z.
pub fn wrong_timestamp_format(peer: IpAddr) -> String {
    format!(
        "{peer} writes timestamps in the other format than flag Z of its Error Estimate says (RFC 8762, section 4.2.1: 0 is \
         NTP, 1 is PTP); they are read in the format that they have"
    )
}

/// The packets of one reason in words; `None` without one.
pub fn hint(why: Mismatch, seen: &Mismatches, port: u16) -> Option<String> {
    let seen = seen.of(why);
    let first = seen.first?;
    let others = if seen.by_others { " and others" } else { "" };
    let from = format!("{}{others}", first.ip().to_canonical());
    let replies = count(seen.number, "reply");
    let packets = count(seen.number, "packet");
    Some(match why {
        Mismatch::Echo => {
            let probes = count(seen.number, "probe");
            format!("{probes} came back unchanged from {from}: an echo service answers there, not a STAMP reflector")
        }
        Mismatch::Length => format!("{packets} from {from} were too short for a reply"),
        Mismatch::Unsigned => format!("{packets} from {from} had no valid HMAC; is the key the same?"),
        Mismatch::Address => format!("{replies} came from {from}, which was not probed"),
        Mismatch::Port => format!(
            "{replies} came from port {} of {from}, not from port {port}",
            first.port()
        ),
        Mismatch::Session => format!("{replies} from {from} had another session identifier (SSID) than the probe"),
        Mismatch::Timestamp => format!("{replies} from {from} returned another timestamp (T1) than the probe had"),
        Mismatch::Unknown => format!("{packets} from {from} answered no probe of this run"),
    })
}

/// All of them in words.
pub fn hints(seen: &Mismatches, port: u16) -> Vec<String> {
    let hint = |&why: &Mismatch| hint(why, seen, port);
    Mismatch::ALL.iter().filter_map(hint).collect()
}

/// Warns of each reason once.
#[derive(Debug, Default)]
pub struct MismatchWarnings {
    warned: [bool; Mismatch::ALL.len()],
}

impl MismatchWarnings {
    /// [`Mismatch::Unknown`] is only counted: the user can do nothing about packets of others.
    pub fn follow(&mut self, seen: &Mismatches, port: u16) {
        for (why, warned) in Mismatch::ALL.iter().zip(&mut self.warned) {
            if *why != Mismatch::Unknown
                && !*warned
                && let Some(hint) = hint(*why, seen, port)
            {
                *warned = true;
                warn!("{hint}; more of this kind are only counted ({})", why.name());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_names_the_sender_and_what_is_wrong() {
        let mut seen = Mismatches::default();
        let [one, other] = ["10.77.0.3:5000", "[::ffff:10.77.0.4]:5000"].map(|from| from.parse().unwrap());
        for why in Mismatch::ALL {
            seen.add(*why, one);
        }
        for _ in 0..2 {
            seen.add(Mismatch::Address, one);
            seen.add(Mismatch::Port, other);
        }
        let said = hints(&seen, 862);
        assert_eq!(said.len(), Mismatch::ALL.len());
        for expected in [
            "1 probe came back unchanged from 10.77.0.3: an echo service answers there, not a STAMP reflector",
            "3 replies came from 10.77.0.3, which was not probed",
            "3 replies came from port 5000 of 10.77.0.3 and others, not from port 862",
        ] {
            assert!(said.iter().any(|hint| hint == expected), "{said:#?}");
        }
        assert!(hints(&Mismatches::default(), 862).is_empty());
    }
}
