//! Warnings of probes that did not leave.

use std::collections::BTreeSet;
use std::net::IpAddr;

use log::warn;
use probe_core::observation::SendFailure;

/// Warnings in a run. Further failures are in the results only.
const MAX_WARNINGS: usize = 64;

/// One line for each destination and reason. States of the interface are events of their own.
#[derive(Debug, Default)]
pub struct UnsentWarnings(BTreeSet<(IpAddr, SendFailure)>);

impl UnsentWarnings {
    /// A probe to `to` did not leave by `interface`; `programs` names those that may have taken it.
    pub fn note(&mut self, to: IpAddr, why: SendFailure, interface: &str, programs: impl FnOnce() -> Vec<String>) {
        if let Some(line) = self.line(to, why, interface, programs) {
            warn!("{line}");
        }
    }

    fn line(
        &mut self,
        to: IpAddr,
        why: SendFailure,
        interface: &str,
        programs: impl FnOnce() -> Vec<String>,
    ) -> Option<String> {
        let is_new = !why.is_of_interface() && self.0.len() < MAX_WARNINGS && self.0.insert((to, why));
        is_new.then(|| {
            let advice = match why {
                SendFailure::NoRoute => format!("; see `ip route get {to} oif {interface}`"),
                SendFailure::NoNeighbour => format!("; see `ip neigh show dev {interface}`"),
                SendFailure::NoAddress => format!("; see `ip address show dev {interface}`"),
                SendFailure::Forbidden => "; see `nft list ruleset` and `ip route`".to_owned(),
                SendFailure::Program => format!(": {}", programs().join(", ")),
                _ => String::new(),
            };
            format!("probes to {to} do not leave {interface}: {why}{advice}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_reported_once_for_each_peer_and_memory_is_bounded() {
        let mut warnings = UnsentWarnings::default();
        let [peer, other]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()];
        let table = [
            (
                peer,
                SendFailure::NoRoute,
                Some("no route; see `ip route get 192.0.2.1 oif p1`"),
            ),
            (peer, SendFailure::NoRoute, None),
            (peer, SendFailure::Program, Some("took it: lb (id 7)")),
            (other, SendFailure::NoRoute, Some("192.0.2.2")),
            (peer, SendFailure::NoCarrier, None),
        ];
        for (to, why, part) in table {
            let line = warnings.line(to, why, "p1", || vec!["lb (id 7)".to_owned()]);
            assert_eq!(line.is_some(), part.is_some(), "{why:?}: {line:?}");
            assert!(line.unwrap_or_default().contains(part.unwrap_or_default()), "{why:?}");
        }
        for number in 0..2 * MAX_WARNINGS as u32 {
            let to = std::net::Ipv4Addr::from_bits(number).into();
            warnings.line(to, SendFailure::NoRoute, "p1", Vec::new);
        }
        assert_eq!(warnings.0.len(), MAX_WARNINGS);
    }
}
