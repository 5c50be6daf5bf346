//! Whether each mode works on a device.

use std::net::IpAddr;

use probe_core::volley::Capabilities;
use probe_host::link::{Link, NameError, Netlink, XdpFeatures, check_name, xdp_features};

use crate::backend::ebpf::attach::describe_program;
use crate::volley::error::VolleyError;

/// Whether each mode works on the interface; `peer` is the address to be probed. Some devices report only while a program is
/// attached whether they take frames, so [`Volley::start`](crate::volley::Volley::start) tries it.
pub async fn capabilities(interface: &str, peer: IpAddr) -> Result<Capabilities, VolleyError> {
    let netlink = Netlink::open()?;
    let link = find(&netlink, interface).await?;
    let features = xdp_features(link.index).unwrap_or_default();
    Ok(able(&link, features, peer))
}

pub(crate) async fn find(netlink: &Netlink, interface: &str) -> Result<Link, VolleyError> {
    check_name(interface).map_err(|error: NameError| VolleyError::Refused(error.to_string()))?;
    let link = netlink.link_by_name(interface).await?;
    link.ok_or_else(|| {
        VolleyError::Refused(format!(
            "there is no interface {interface} in this network namespace; `ip link` lists them"
        ))
    })
}

pub(crate) fn able(link: &Link, features: Option<XdpFeatures>, peer: IpAddr) -> Capabilities {
    if let Some(reason) = unusable(link, peer) {
        return Capabilities {
            volley: Err(reason.clone()),
            train: Err(reason.clone()),
            sendmmsg: Err(reason),
        };
    }
    let native = native(link, features);
    Capabilities {
        volley: native.clone(),
        train: native,
        sendmmsg: Ok(()),
    }
}

/// Why no mode works.
fn unusable(link: &Link, peer: IpAddr) -> Option<String> {
    if link.loopback {
        Some("it leads to this host only, where there is nothing to measure".to_owned())
    } else if peer.is_multicast() {
        Some("a group cannot be the peer; give the address of one host".to_owned())
    } else if !link.ethernet {
        Some("its packets have no Ethernet header, which the programs need".to_owned())
    } else if !link.up {
        Some(format!("it is down; `ip link set {} up`", link.name))
    } else {
        None
    }
}

/// Whether the driver runs XDP programs and takes their frames, according to its features.
fn native(link: &Link, features: Option<XdpFeatures>) -> Result<(), String> {
    if let Some(xdp) = link.xdp {
        return Err(format!(
            "{} is attached there, and an interface has room for one; detach it for the time of the run",
            describe_program(xdp.program_id)
        ));
    }
    match (link.kind.as_deref(), features) {
        (Some("bridge"), _) => {
            Err("a bridge takes no frames of XDP programs: they would vanish; use one of its ports".to_owned())
        }
        (_, Some(XdpFeatures { native: false, .. })) => {
            Err("the driver runs no XDP programs, so only a socket can send there".to_owned())
        }
        (Some("veth"), Some(XdpFeatures { transmit: false, .. })) => Err(NO_NAPI.to_owned()),
        _ => Ok(()),
    }
}

/// A veth takes frames of XDP programs only if its other end uses NAPI (`veth_xdp_xmit` in `drivers/net/veth.c`).
const NO_NAPI: &str = "the other end of this veth takes no frames of XDP programs: they would vanish; start its \
    `kstamp reflect` with `--attach xdp-native`, or switch on GRO there (`ethtool -K IFACE gro on`)";

/// Why a frame of an XDP program was not answered, although that of a socket was.
pub(crate) fn why_unanswered(link: &Link, features: Option<XdpFeatures>) -> String {
    match features {
        Some(XdpFeatures { transmit: false, .. }) if link.kind.as_deref() == Some("veth") => NO_NAPI.to_owned(),
        Some(XdpFeatures { transmit: false, .. }) => {
            "the driver takes no frames of XDP programs (it has no ndo_xdp_xmit): they would vanish".to_owned()
        }
        _ => {
            "the device took a frame of an XDP program, but it was not answered, unlike that of a socket; it may drop \
            such frames, as a veth does whose other end has neither an XDP program in native mode nor GRO"
                .to_owned()
        }
    }
}
