//! Which way of receiving to try, in which order, and why: decided from facts about the device, before anything is
//! attached.

use std::fmt;

/// Where the receive program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveMode {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the network core, after the driver has made a socket buffer.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl fmt::Display for ReceiveMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        })
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The fastest that works.
    Auto,
    /// This, or fail.
    Only(ReceiveMode),
}

/// What the choice depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Kind of the link (`IFLA_INFO_KIND`), such as `veth`.
    pub kind: Option<String>,
    /// Somebody else's XDP program, in words: there can be only one on an interface.
    pub foreign_xdp: Option<String>,
    /// For a veth: whether its other end is known to have a native XDP program, without which the driver drops what
    /// XDP transmits (`drivers/net/veth.c`, `veth_xdp_xmit`).
    pub peer_has_xdp: bool,
}

/// Modes to try in turn, and what to tell the user of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order of preference, never empty.
    pub modes: Vec<ReceiveMode>,
    /// Why not the usual order, if it is not.
    pub reason: Option<String>,
}

/// The plan for a device, or what stands in the way of what the user asked for.
pub fn plan(choice: Choice, device: &Device) -> Result<Plan, String> {
    use ReceiveMode::{Tc, XdpGeneric, XdpNative};
    let only = |modes: &[ReceiveMode], reason: Option<String>| {
        Ok(Plan {
            modes: modes.to_vec(),
            reason,
        })
    };
    match (choice, &device.foreign_xdp) {
        (Choice::Only(Tc), _) => only(&[Tc], None),
        (Choice::Only(mode), None) => only(&[mode], None),
        (Choice::Only(mode), Some(foreign)) => Err(format!(
            "{foreign} is attached and will not be replaced, so {mode} is not to be had; use --attach tc or auto"
        )),
        (Choice::Auto, Some(foreign)) => only(&[Tc], Some(format!("{foreign} is attached and will not be replaced"))),
        (Choice::Auto, None) if device.kind.as_deref() == Some("veth") && !device.peer_has_xdp => only(
            &[XdpGeneric, Tc],
            Some("a veth drops what native XDP transmits unless its other end has an XDP program too".to_owned()),
        ),
        (Choice::Auto, None) => only(&[XdpNative, XdpGeneric, Tc], None),
    }
}

#[cfg(test)]
mod tests {
    use ReceiveMode::{Tc, XdpGeneric, XdpNative};

    use super::*;

    fn device(kind: &str, foreign: bool, peer_has_xdp: bool) -> Device {
        Device {
            kind: Some(kind.to_owned()),
            foreign_xdp: foreign.then(|| "the XDP program lb (id 7)".to_owned()),
            peer_has_xdp,
        }
    }

    #[test]
    fn auto_prefers_speed_but_never_a_mode_that_swallows() {
        let table: [(Device, &[ReceiveMode], bool); 6] = [
            (device("tun", false, false), &[XdpNative, XdpGeneric, Tc], false),
            (device("openvswitch", false, false), &[XdpNative, XdpGeneric, Tc], false),
            (device("veth", false, false), &[XdpGeneric, Tc], true),
            (device("veth", false, true), &[XdpNative, XdpGeneric, Tc], false),
            (device("veth", true, true), &[Tc], true),
            (device("tun", true, false), &[Tc], true),
        ];
        for (device, modes, explained) in table {
            let plan = plan(Choice::Auto, &device).unwrap();
            assert_eq!(plan.modes, modes, "{device:?}");
            assert_eq!(plan.reason.is_some(), explained, "{device:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_done_or_refused() {
        for mode in [XdpNative, XdpGeneric, Tc] {
            assert_eq!(
                plan(Choice::Only(mode), &device("veth", false, false)).unwrap().modes,
                [mode]
            );
        }
        assert_eq!(
            plan(Choice::Only(Tc), &device("veth", true, false)).unwrap().modes,
            [Tc]
        );
        let refusal = plan(Choice::Only(XdpNative), &device("veth", true, false)).unwrap_err();
        assert!(refusal.contains("lb (id 7)"), "{refusal}");
    }
}
