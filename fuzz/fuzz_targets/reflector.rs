//! The userspace reflector: a reply is as long as its test packet or a base packet, it is not answered again, and each
//! packet is counted once.

#![no_main]

use probe_common::ntp::ErrorEstimate;
use probe_common::{authenticated, legacy, stamp};
use probe_core::auth::Key;
use probe_core::reflector::policy::{OwnAddress, Policy, Rates};
use probe_core::reflector::{Arrival, ClockQuality, Count, Reflected, Reflector, ReflectorConfig};

const OWN: [u8; 4] = [10, 1, 1, 6];
const GROUP: [u8; 4] = [239, 255, 255, 250];
const TEST_PORT: u16 = 862;
const T2_NS: u64 = 1_795_000_000_000_000_000;

/// What the first byte of the input chooses.
struct Options(u8);

impl Options {
    fn key(&self) -> Option<Key> {
        (self.0 & 1 != 0).then(|| Key::new(b"0123456789abcdef"))
    }

    fn reflector(&self) -> Reflector {
        let mut reflector = Reflector::new(ReflectorConfig {
            test_ports: vec![TEST_PORT],
            groups: vec![GROUP.into()],
            stateless: self.0 & 2 != 0,
            key: self.key(),
            tlv_key: None,
            rates: Rates::DEFAULT,
        });
        let own = OwnAddress {
            ip: OWN.into(),
            prefix: "10.1.0.0/16".parse().expect("a prefix"),
            deprecated: false,
        };
        reflector.set_policy(Policy::of_interface(&[own], []));
        reflector
    }

    /// Where the key is known, the packets are signed: nothing else comes further than the HMAC.
    fn signs(&self) -> bool {
        self.0 & 8 != 0
    }

    fn arrival(&self) -> Arrival {
        Arrival {
            from: ([10, 1, 1, 5], if self.0 & 16 != 0 { 7 } else { 40_001 }).into(),
            to: if self.0 & 32 != 0 { GROUP.into() } else { OWN.into() },
            ttl: if self.0 & 64 != 0 { 255 } else { 64 },
            tos: self.0,
            to_port: TEST_PORT,
            receive_ns: T2_NS,
        }
    }
}

// Packets stand one after the other, each behind one byte with its length.
libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&options, mut rest)) = input.split_first() else {
        return;
    };
    let options = Options(options);
    let mut reflector = options.reflector();
    while let Some((&length, behind)) = rest.split_first() {
        let (packet, behind) = behind.split_at(behind.len().min(length.into()));
        rest = behind;
        let mut packet = packet.to_vec();
        if let (Some(key), true) = (options.key(), options.signs()) {
            key.sign(&mut packet);
            key.sign_tlvs(&mut packet, authenticated::BASE_LEN);
        }
        check(&mut reflector, &packet, &options);
    }
});

fn check(reflector: &mut Reflector, packet: &[u8], options: &Options) {
    let before = counted(reflector);
    let Some((answer, reply)) = reflect(reflector, packet, options) else {
        assert_eq!(counted(reflector), before + 1);
        return;
    };
    assert_eq!(counted(reflector), before + 1);
    if legacy::is_probe(packet) && options.key().is_none() {
        assert_eq!(answer, packet, "a legacy probe goes back as it came");
        return;
    }
    let base_len = if options.key().is_some() {
        authenticated::BASE_LEN
    } else {
        stamp::BASE_LEN
    };
    assert_eq!(answer.len(), packet.len().max(base_len));
    assert_eq!(
        reply.id.is_none(),
        options.0 & 2 != 0,
        "a stateless reflector knows no sessions"
    );
    if let Some(key) = options.key() {
        assert!(key.is_signed(packet) && key.is_signed(&answer));
    }
    let again = reflect(&mut options.reflector(), &answer, options);
    assert!(again.is_none(), "two reflectors would never end");
}

fn reflect(reflector: &mut Reflector, packet: &[u8], options: &Options) -> Option<(Vec<u8>, Reflected)> {
    let clock = ClockQuality {
        error: ErrorEstimate(0x8a0b),
        synchronised: true,
    };
    let mut packet = packet.to_vec();
    let reply = reflector.reflect(&mut packet, &options.arrival(), clock, || T2_NS + 40_000)?;
    Some((packet, reply))
}

/// Packets that something became of; TLVs have counts of their own.
fn counted(reflector: &Reflector) -> u64 {
    let tlvs = [Count::TlvUnrecognised, Count::TlvMalformed, Count::TlvIntegrity];
    let packets = Count::ALL.iter().filter(|count| !tlvs.contains(count));
    packets.map(|&count| reflector.counts().of(count)).sum()
}
