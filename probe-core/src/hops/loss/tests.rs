use proptest::prelude::*;

use super::*;
use crate::hops::stamp::{Hook, HookId, Mark};
use crate::hops::stamps::Stamps;
use crate::hops::traversal::{Expected, Roles};

const FORWARD: Option<Direction> = Some(Direction::Forward);
const BACKWARD: Option<Direction> = Some(Direction::Backward);

/// In the order in which a probe passes them on its way out.
const DEVICES: [Role; 5] = [Role::Leg, Role::Leg, Role::Tunnel, Role::Nic, Role::Nic];

/// The marks of one host, in the order in which a probe and its reply get them: of those devices that are there.
fn marks(devices: &[usize], is_own: bool) -> Vec<Mark> {
    let pass = |direction, is_out| {
        let mut marks: Vec<Mark> = devices
            .iter()
            .map(|&hook| Mark {
                hook: HookId(hook as u8),
                egress: is_out,
                direction,
                at_ns: 0,
            })
            .collect();
        if !is_out {
            marks.reverse();
        }
        (1..).zip(&mut marks).for_each(|(at_ns, mark)| mark.at_ns = at_ns);
        marks
    };
    [pass(Direction::Forward, is_own), pass(Direction::Backward, !is_own)].concat()
}

fn knowledge(marks: &[Mark], expected: &[Mark], is_own: bool, is_complete: bool) -> Knowledge {
    let roles = Roles::of(&DEVICES.map(|role| Hook {
        device: "dev".to_owned(),
        role,
    }));
    let traversals = |marks: &[Mark]| {
        let mut stamps = Stamps::default();
        marks.iter().for_each(|&mark| stamps.note(mark));
        if is_own {
            Traversals::own(&stamps, roles)
        } else {
            Traversals::far(&stamps, roles)
        }
    };
    let mut expect = Expected::default();
    expect.note(traversals(expected));
    Knowledge {
        traversals: expect.of(traversals(marks)),
        is_complete,
    }
}

/// Where a probe was lost that got the first `own_seen` marks of its own host (before and after the far host), and the
/// first `far_seen` of the far one.
fn placed(devices: &[usize], own_seen: usize, far_seen: Option<usize>) -> Option<Part> {
    let (own, far) = (marks(devices, true), marks(devices, false));
    let near = knowledge(&own[..own_seen], &own, true, true);
    let far = far_seen.map(|far_seen| knowledge(&far[..far_seen], &far, false, true));
    place(&near, far.as_ref())
}

#[test]
fn a_loss_is_between_the_last_hook_that_saw_the_probe_and_the_next() {
    use Segment::{FarEncapsulation, FarSwitch, OwnEncapsulation, OwnSwitch, Reflector, Underlay};
    // Two legs, tunnel and NIC at both ends.
    let table = [
        (0, 0, OwnSwitch, FORWARD),
        (1, 0, OwnSwitch, FORWARD),
        (2, 0, OwnSwitch, FORWARD),
        (3, 0, OwnEncapsulation, FORWARD),
        (4, 0, Underlay, FORWARD),
        (4, 1, FarEncapsulation, FORWARD),
        (4, 2, FarSwitch, FORWARD),
        (4, 3, FarSwitch, FORWARD),
        (4, 4, Reflector, None),
        (4, 5, FarSwitch, BACKWARD),
        (4, 6, FarSwitch, BACKWARD),
        (4, 7, FarEncapsulation, BACKWARD),
        (4, 8, Underlay, BACKWARD),
        (5, 8, OwnEncapsulation, BACKWARD),
        (6, 8, OwnSwitch, BACKWARD),
        (7, 8, OwnSwitch, BACKWARD),
        (8, 8, OwnSwitch, BACKWARD),
    ];
    for (own_seen, far_seen, segment, direction) in table {
        let want = Some(Part { segment, direction });
        let got = placed(&[0, 1, 2, 3], own_seen, Some(far_seen));
        assert_eq!(got, want, "{own_seen} own, {far_seen} far");
        // Without the far half, what was lost beyond this host's devices is unknown.
        let is_own = own_seen != 4;
        let got = placed(&[0, 1, 2, 3], own_seen, None);
        assert_eq!(got, want.filter(|_| is_own), "{own_seen} own, far unknown");
    }
}

#[test]
fn of_several_devices_that_see_the_tunnel_the_outermost_is_the_nic() {
    use Segment::{FarEncapsulation, OwnEncapsulation, Underlay};
    // Tunnel, bridge and NIC; the last two have the role of a NIC.
    let table = [
        (1, 0, OwnEncapsulation, FORWARD),
        (2, 0, OwnEncapsulation, FORWARD),
        (3, 0, Underlay, FORWARD),
        (3, 1, FarEncapsulation, FORWARD),
        (3, 2, FarEncapsulation, FORWARD),
        (3, 4, FarEncapsulation, BACKWARD),
        (3, 5, FarEncapsulation, BACKWARD),
        (3, 6, Underlay, BACKWARD),
        (4, 6, OwnEncapsulation, BACKWARD),
        (5, 6, OwnEncapsulation, BACKWARD),
    ];
    for (own_seen, far_seen, segment, direction) in table {
        let got = placed(&[2, 3, 4], own_seen, Some(far_seen));
        assert_eq!(got, Some(Part { segment, direction }), "{own_seen} own, {far_seen} far");
    }
}

#[test]
fn without_tunnel_device_the_switch_reaches_to_the_nic_and_without_leg_it_hides_the_port() {
    use Segment::{FarSwitch, OwnSwitch, Reflector, Underlay};
    let table = [
        (&[0, 3][..], 1, 0, OwnSwitch, FORWARD),
        (&[0, 3], 2, 0, Underlay, FORWARD),
        (&[0, 3], 2, 1, FarSwitch, FORWARD),
        (&[0, 3], 2, 2, Reflector, None),
        (&[0, 3], 2, 3, FarSwitch, BACKWARD),
        (&[0, 3], 3, 4, OwnSwitch, BACKWARD),
        (&[0], 0, 0, OwnSwitch, FORWARD),
        (&[0], 1, 0, Underlay, FORWARD),
        (&[0], 1, 1, Reflector, None),
        (&[0], 1, 2, Underlay, BACKWARD),
        (&[0], 2, 2, OwnSwitch, BACKWARD),
        (&[2, 3], 2, 2, FarSwitch, FORWARD),
        (&[2, 3], 4, 4, OwnSwitch, BACKWARD),
    ];
    for (devices, own_seen, far_seen, segment, direction) in table {
        let got = placed(devices, own_seen, Some(far_seen));
        let want = Some(Part { segment, direction });
        assert_eq!(got, want, "{devices:?}: {own_seen} own, {far_seen} far");
    }
}

#[test]
fn a_far_host_whose_hooks_are_not_known_yet_places_nothing_beyond_the_own_nic() {
    let own = marks(&[0, 1, 2, 3], true);
    let near = knowledge(&own[..4], &own, true, true);
    let far = knowledge(&[], &[], false, true);
    assert_eq!(place(&near, Some(&far)), None);
    let nothing = knowledge(&[], &[], true, true);
    assert_eq!(place(&nothing, Some(&far)), None, "no hook sees its probes");
}

#[test]
fn a_loss_between_two_ports_of_one_switch_is_its_own() {
    let pass = |egress, hook, direction| Mark {
        hook: HookId(hook),
        egress,
        direction,
        at_ns: 1,
    };
    let all = [
        pass(false, 0, Direction::Forward),
        pass(true, 1, Direction::Forward),
        pass(false, 1, Direction::Backward),
        pass(true, 0, Direction::Backward),
    ];
    let table = [
        (1, Segment::OwnSwitch, FORWARD),
        (2, Segment::Reflector, None),
        (3, Segment::OwnSwitch, BACKWARD),
        (4, Segment::OwnSwitch, BACKWARD),
    ];
    for (seen, segment, direction) in table {
        let near = knowledge(&all[..seen], &all, true, true);
        let far = knowledge(&all[..seen], &all, false, true);
        assert_eq!(
            place(&near, Some(&far)),
            Some(Part { segment, direction }),
            "{seen} seen"
        );
    }
}

proptest! {
    /// A host that has lost stamps, and says so, places no loss wrongly.
    #[test]
    fn lost_stamps_make_a_loss_unknown_but_never_wrong(
        gap in 0usize..=16, bits: [u8; 2], is_whole: [bool; 2], has_far: bool,
    ) {
        let devices = [0, 1, 2, 3];
        let (own_seen, far_seen) = match gap {
            0..=4 => (gap, 0),
            5..=12 => (4, gap - 4),
            _ => (gap - 8, 8),
        };
        let truth = placed(&devices, own_seen, Some(far_seen));
        let (own, far) = (marks(&devices, true), marks(&devices, false));
        let kept = |marks: &[Mark], bits: u8, is_whole: bool| -> Vec<Mark> {
            let is_kept = |(place, _): &(usize, &Mark)| is_whole || bits >> place & 1 != 0;
            marks.iter().enumerate().filter(is_kept).map(|(_, mark)| *mark).collect()
        };
        let own_kept = kept(&own[..own_seen], bits[0], is_whole[0]);
        let far_kept = kept(&far[..far_seen], bits[1], is_whole[1]);
        let near = knowledge(&own_kept, &own, true, is_whole[0]);
        let far = knowledge(&far_kept, &far, false, is_whole[1]);
        let got = place(&near, has_far.then_some(&far));
        prop_assert!(got.is_none() || got == truth, "{:?} in place of {:?}", got, truth);
        if is_whole == [true; 2] && has_far {
            prop_assert_eq!(got, truth);
        }
    }
}
