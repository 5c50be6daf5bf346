//! The hooks of a host: what each device is to probes, and a number for it that stamps carry.

use std::collections::BTreeMap;

use probe_common::hops::{EGRESS, GENEVE, HopRecord, REPLY, VXLAN};
use probe_core::direction::Direction;
use probe_core::hops::{Hook, HookId, HopStamp, MAX_HOOKS, Role};
use probe_core::text::plain;

use crate::hops::devices::{Device, Kind};

/// The number of a device that is gone is given to another one after this time: no stamp with it is of interest then.
const REUSE_NS: u64 = 60_000_000_000;

/// Longest name of a device, in bytes (`IFNAMSIZ` − 1).
const MAX_NAME: usize = 15;

/// The devices that have seen probes.
#[derive(Debug, Default)]
pub(super) struct HookTable {
    hooks: Vec<Hook>,
    /// In the order of `hooks`.
    places: Vec<Place>,
    /// By index: those that are observed, and those in `places`.
    devices: BTreeMap<u32, Device>,
}

#[derive(Debug)]
struct Place {
    index: u32,
    kind: Kind,
    has_seen_encapsulated: bool,
    /// Since when it is not observed any more.
    left_ns: Option<u64>,
}

impl HookTable {
    pub(super) fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// Takes the devices that are observed now.
    pub(super) fn follow(&mut self, observed: Vec<Device>, now_ns: u64) {
        for place in &mut self.places {
            let is_observed = observed.iter().any(|device| device.index == place.index);
            place.left_ns = (!is_observed).then(|| place.left_ns.unwrap_or(now_ns));
        }
        // Stamps of a device that has just left may still wait.
        let places = &self.places;
        self.devices
            .retain(|index, _| places.iter().any(|place| place.index == *index));
        self.devices
            .extend(observed.into_iter().map(|device| (device.index, device)));
        self.name();
    }

    /// The stamp of a record; `None` if it is of a device that is not observed, or if there are too many devices.
    pub(super) fn stamp(&mut self, record: &HopRecord) -> Option<HopStamp> {
        let is_encapsulated = record.flags & (VXLAN | GENEVE) != 0;
        let place = match self.places.iter().position(|place| place.index == record.interface) {
            Some(place) => place,
            None => self.enter(record.interface, record.stamp_ns)?,
        };
        if is_encapsulated && !self.places[place].has_seen_encapsulated {
            self.places[place].has_seen_encapsulated = true;
            self.name();
        }
        Some(HopStamp {
            hook: HookId(place as u8),
            egress: record.flags & EGRESS != 0,
            direction: match record.flags & REPLY {
                0 => Direction::Forward,
                _ => Direction::Backward,
            },
            prober: record.prober.into(),
            reflector: record.reflector.into(),
            ssid: record.ssid,
            seq: record.sequence,
            mono_ns: record.stamp_ns,
            softirq_ns: 0,
        })
    }

    /// Gives a device a place: its former one, a new one, or that of a device that is gone.
    fn enter(&mut self, index: u32, now_ns: u64) -> Option<usize> {
        let device = self.devices.get(&index)?;
        let place = Place {
            index,
            kind: device.kind,
            has_seen_encapsulated: false,
            left_ns: None,
        };
        let is_free = |at: &usize| self.places[*at].left_ns.is_some();
        let at = (0..self.places.len())
            .find(|at| is_free(at) && self.hooks[*at].device == shown(device))
            .or_else(|| (self.places.len() < MAX_HOOKS).then_some(self.places.len()))
            .or_else(|| {
                let (left_ns, at) = self
                    .places
                    .iter()
                    .zip(0..)
                    .filter_map(|(place, at)| Some((place.left_ns?, at)))
                    .min()?;
                (now_ns >= left_ns + REUSE_NS).then_some(at)
            })?;
        let hook = Hook {
            device: shown(device),
            role: Role::Leg,
        };
        if at == self.places.len() {
            self.places.push(place);
            self.hooks.push(hook);
        } else {
            self.devices.remove(&self.places[at].index);
            self.places[at] = place;
            self.hooks[at] = hook;
        }
        self.name();
        Some(at)
    }

    /// Sets names and roles.
    fn name(&mut self) {
        let is_there = |place: &&Place| place.left_ns.is_none();
        let has_tunnel = self
            .places
            .iter()
            .filter(is_there)
            .any(|place| place.kind == Kind::Tunnel || place.has_seen_encapsulated);
        for (hook, place) in self.hooks.iter_mut().zip(&self.places) {
            if let Some(device) = self.devices.get(&place.index) {
                hook.device = shown(device);
            }
            hook.role = match place.kind {
                Kind::Tunnel => Role::Tunnel,
                _ if place.has_seen_encapsulated => Role::Nic,
                Kind::Physical if !has_tunnel => Role::Nic,
                _ => Role::Leg,
            };
        }
    }
}

/// The name of a device, safe to print. Peers refuse others, and with them all stamps of an answer.
fn shown(device: &Device) -> String {
    plain(&device.name, MAX_NAME)
}

#[cfg(test)]
mod tests {
    use probe_common::abi::Address;
    use probe_core::identity::is_acceptable_name;

    use super::*;

    fn device(index: u32, name: &str, kind: Kind) -> Device {
        let name = name.to_owned();
        Device { index, name, kind }
    }

    fn record(interface: u32, flags: u8, stamp_ns: u64) -> HopRecord {
        HopRecord {
            stamp_ns,
            prober: Address::from_v4([10, 1, 1, 5]),
            reflector: Address::from_v4([10, 1, 1, 6]),
            interface,
            sequence: 7,
            network: 42,
            ssid: 9,
            flags,
            reserved: 0,
        }
    }

    fn roles(table: &HookTable) -> Vec<(&str, Role)> {
        table
            .hooks()
            .iter()
            .map(|hook| (hook.device.as_str(), hook.role))
            .collect()
    }

    #[test]
    fn a_record_becomes_a_stamp() {
        let mut table = HookTable::default();
        table.follow(vec![device(3, "leg1", Kind::Other), device(4, "leg2", Kind::Other)], 0);
        assert_eq!(table.stamp(&record(9, 0, 1)), None, "a device that is not observed");
        let stamp = HopStamp {
            hook: HookId(0),
            egress: true,
            direction: Direction::Backward,
            prober: "10.1.1.5".parse().unwrap(),
            reflector: "10.1.1.6".parse().unwrap(),
            ssid: 9,
            seq: 7,
            mono_ns: 5,
            softirq_ns: 0,
        };
        assert_eq!(table.stamp(&record(4, EGRESS | REPLY, 5)), Some(stamp));
        let other = HopStamp {
            hook: HookId(1),
            egress: false,
            direction: Direction::Forward,
            mono_ns: 6,
            ..stamp
        };
        assert_eq!(table.stamp(&record(3, 0, 6)), Some(other));
        assert_eq!(roles(&table), [("leg2", Role::Leg), ("leg1", Role::Leg)]);
    }

    #[test]
    fn a_strange_name_is_shown_as_one_that_peers_accept() {
        for name in [
            "\u{1b}[31mveth\u{7}",
            "\u{202e}veth",
            "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}",
            "<b>&\"'",
        ] {
            let mut table = HookTable::default();
            table.follow(vec![device(1, name, Kind::Other)], 0);
            table.stamp(&record(1, 0, 1));
            table.follow(vec![device(2, name, Kind::Other)], 2);
            let hook = table.stamp(&record(2, 0, 3)).map(|stamp| stamp.hook);
            assert_eq!(hook, Some(HookId(0)), "{name:?} comes back");
            let shown = &table.hooks()[0].device;
            assert!(
                is_acceptable_name(shown) && shown.len() <= MAX_NAME,
                "{name:?}: {shown:?}"
            );
        }
    }

    #[test]
    fn roles_follow_what_is_seen() {
        let mut table = HookTable::default();
        let devices = vec![
            device(1, "vxlan_sys_4789", Kind::Tunnel),
            device(2, "eth0", Kind::Physical),
            device(3, "leg1", Kind::Other),
            device(4, "vm-representor", Kind::Physical),
        ];
        table.follow(devices, 0);
        table.stamp(&record(2, 0, 1));
        table.stamp(&record(4, 0, 1));
        assert_eq!(
            roles(&table),
            [("eth0", Role::Nic), ("vm-representor", Role::Nic)],
            "bare"
        );
        table.stamp(&record(2, VXLAN, 2));
        assert_eq!(roles(&table), [("eth0", Role::Nic), ("vm-representor", Role::Leg)]);
        table.stamp(&record(1, EGRESS, 3));
        table.stamp(&record(3, GENEVE, 4));
        let all = [
            ("eth0", Role::Nic),
            ("vm-representor", Role::Leg),
            ("vxlan_sys_4789", Role::Tunnel),
            ("leg1", Role::Nic),
        ];
        assert_eq!(roles(&table), all);
    }

    #[test]
    fn a_device_that_comes_back_has_its_number_again() {
        let mut table = HookTable::default();
        let (first, second) = (device(1, "vxlan0", Kind::Tunnel), device(2, "eth0", Kind::Physical));
        table.follow(vec![first, second.clone()], 0);
        let hook = |table: &mut HookTable, index, ns| table.stamp(&record(index, 0, ns)).map(|stamp| stamp.hook.0);
        assert_eq!((hook(&mut table, 1, 1), hook(&mut table, 2, 1)), (Some(0), Some(1)));
        table.follow(vec![second.clone()], 2);
        assert_eq!(hook(&mut table, 1, 3), Some(0), "stamps that had waited");
        table.follow(vec![second, device(7, "vxlan0", Kind::Tunnel)], 4);
        assert_eq!(hook(&mut table, 7, 5), Some(0));
        assert_eq!(roles(&table), [("vxlan0", Role::Tunnel), ("eth0", Role::Leg)]);
    }

    #[test]
    fn no_number_means_two_devices_at_a_time() {
        let mut table = HookTable::default();
        let devices: Vec<Device> = (0..17)
            .map(|index| device(index, &format!("tap{index}"), Kind::Other))
            .collect();
        table.follow(devices.clone(), 0);
        for index in 0..16 {
            assert!(table.stamp(&record(index, 0, 1)).is_some());
        }
        assert_eq!(table.stamp(&record(16, 0, 1)), None);
        table.follow(devices[1..].to_vec(), 10);
        assert_eq!(table.stamp(&record(16, 0, REUSE_NS)), None, "too early");
        let stamp = table.stamp(&record(16, 0, 10 + REUSE_NS)).unwrap();
        assert_eq!((stamp.hook, roles(&table)[0].0), (HookId(0), "tap16"));
        assert_eq!(
            table.stamp(&record(0, 0, 11 + REUSE_NS)),
            None,
            "it has lost its number"
        );
    }
}
