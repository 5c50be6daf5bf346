//! Which attach modes to try, in which order, and why: decided from facts about the device.

use probe_core::attach::AttachMode;

/// The receive mode that the user chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// In the fastest mode that works.
    Auto,
    /// In this mode, or not at all.
    Only(AttachMode),
}

/// What the choice depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Device {
    /// Kind of the link (`IFLA_INFO_KIND`), such as `veth`.
    pub kind: Option<String>,
    /// A foreign XDP program, in words: an interface can have only one.
    pub foreign_xdp: Option<String>,
    /// For a veth: whether its other end is known to have a native XDP program, without which the driver drops what
    /// XDP transmits (`drivers/net/veth.c`, `veth_xdp_xmit`).
    pub peer_has_xdp: bool,
}

/// Modes to try in turn, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In order of preference, never empty.
    pub modes: Vec<AttachMode>,
    /// Reason for an unusual order.
    pub reason: Option<String>,
}

impl Plan {
    /// Starts with the mode in which the process before received, if it is in the plan.
    pub(crate) fn resume(&mut self, mode: AttachMode) {
        if let Some(place) = self.modes.iter().position(|planned| *planned == mode) {
            self.modes.drain(..place);
            self.reason = Some("taken over from the process before".to_owned());
        }
    }

    /// Why the first mode is in use, after `refusal` of those before it.
    pub(crate) fn explain(&self, choice: Choice, refusal: Option<String>) -> String {
        match (choice, &self.reason, refusal) {
            (Choice::Only(_), ..) => "as requested".to_owned(),
            (Choice::Auto, Some(reason), None) => reason.clone(),
            (Choice::Auto, None, Some(refusal)) => refusal,
            (Choice::Auto, Some(reason), Some(refusal)) => format!("{reason}; {refusal}"),
            (Choice::Auto, None, None) => "the fastest mode that this device supports".to_owned(),
        }
    }
}

/// The plan for a device, or the reason why the user's choice is impossible.
pub(crate) fn plan(choice: Choice, device: &Device) -> Result<Plan, String> {
    use AttachMode::{Socket, Tc, XdpGeneric, XdpNative};
    let only = |modes: &[AttachMode], reason: Option<String>| {
        Ok(Plan {
            modes: modes.to_vec(),
            reason,
        })
    };
    match (choice, &device.foreign_xdp) {
        (Choice::Only(mode @ (Tc | Socket)), _) => only(&[mode], None),
        (Choice::Only(mode), None) => only(&[mode], None),
        (Choice::Only(mode), Some(foreign)) => Err(format!(
            "{foreign} is attached and will not be replaced, so {mode} is not possible; use --attach tc or auto"
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
    use AttachMode::{Tc, XdpGeneric, XdpNative};

    use super::*;

    fn device(kind: &str, foreign: bool, peer_has_xdp: bool) -> Device {
        Device {
            kind: Some(kind.to_owned()),
            foreign_xdp: foreign.then(|| "the XDP program lb (id 7)".to_owned()),
            peer_has_xdp,
        }
    }

    #[test]
    fn auto_prefers_speed_but_never_a_mode_that_drops() {
        let table: [(Device, &[AttachMode], bool); 6] = [
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
    fn a_mode_that_was_left_is_not_tried_again_by_the_next_process() {
        let fresh = plan(Choice::Auto, &device("tun", false, false)).unwrap();
        let table: [(AttachMode, &[AttachMode]); 3] = [
            (XdpNative, &[XdpNative, XdpGeneric, Tc]),
            (XdpGeneric, &[XdpGeneric, Tc]),
            (Tc, &[Tc]),
        ];
        for (mode, modes) in table {
            let mut resumed = fresh.clone();
            resumed.resume(mode);
            assert_eq!(resumed.modes, modes);
        }
        let mut only = plan(Choice::Only(Tc), &device("tun", false, false)).unwrap();
        only.resume(XdpNative);
        assert_eq!((only.modes, only.reason), (vec![Tc], None));
    }

    #[test]
    fn an_explicit_mode_is_used_or_refused() {
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
