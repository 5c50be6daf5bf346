//! What of an Ethernet frame the controller reads itself.

use std::net::Ipv4Addr;

use crate::openflow::id::MacAddress;

const ARP: [u8; 2] = [0x08, 0x06];
/// Ethernet and IPv4, the only addresses that ARP is used with (RFC 826).
const ARP_ETHERNET_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// Destination and source.
pub(super) fn addresses(frame: &[u8]) -> Option<(MacAddress, MacAddress)> {
    let destination = frame.first_chunk::<6>()?;
    let source = frame.get(6..12)?.first_chunk::<6>()?;
    Some((MacAddress(*destination), MacAddress(*source)))
}

/// The sender's IPv4 address, in ARP that names one.
pub(super) fn arp_sender(frame: &[u8]) -> Option<Ipv4Addr> {
    if frame.get(12..14)? != ARP || frame.get(14..20)? != ARP_ETHERNET_IPV4 {
        return None;
    }
    let address = Ipv4Addr::from(*frame.get(28..32)?.first_chunk::<4>()?);
    (!address.is_unspecified()).then_some(address)
}
