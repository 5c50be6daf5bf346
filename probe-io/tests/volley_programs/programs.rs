//! The rules of the programs, packet by packet (`BPF_PROG_TEST_RUN`).

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use aya::programs::{TestRun as _, TestRunOptions};
use probe_common::ntp::{ErrorEstimate, NtpTime};
use probe_common::stamp::{self, BASE_LEN, ReplyFields, SEQUENCE, TIMESTAMP};
use probe_common::volley::{Count, Epoch, ONE_WAY, RELAY, Settings, Template, VERSION, word};
use probe_host::clock::monotonic_ns;
use probe_io::volley::object::{Delay, INGRESS, Shared, VolleyObject};

use crate::packet::{
    Datagram, OWN_V4, OWN_V6, SENDER_V4, SENDER_V6, UDP_V4, UDP_V6, with_checksum, with_extensions, with_fragment,
    with_options, with_partial_checksum, with_tags,
};

const SLOTS: u32 = 4_096;
const SOURCE_PORT: u16 = 40_004;
const TEST_PORT: u16 = 862;
/// The interface that a test run comes from.
const LOOPBACK: u32 = 1;
const SEQUENCE_OF_PROBE: u32 = 0x4000_0123;
/// T2 − T1, and T3 − T2.
const FORWARD_NS: u64 = 4_000;
const RESIDENCE_NS: u64 = 300;

const PASS: u32 = 2;
const DROP: u32 = 1;
const TRANSMIT: u32 = 3;
const REDIRECT: u32 = 4;

/// The loaded object. Probes go from the "sender" of [`crate::packet`] to its "own" address.
struct Rig {
    object: VolleyObject,
    shared: Shared,
    settings: Settings,
    is_v4: bool,
}

impl Rig {
    fn new(is_v4: bool, flags: u32) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: needs root for eBPF");
            return None;
        }
        let (own, peer): (IpAddr, IpAddr) = match is_v4 {
            true => (SENDER_V4.into(), OWN_V4.into()),
            false => (SENDER_V6.into(), OWN_V6.into()),
        };
        let mut object = VolleyObject::load(SLOTS).unwrap();
        let settings = Settings {
            version: VERSION,
            interface: LOOPBACK,
            epoch: Epoch {
                unix_s: 1_795_000_000,
                mono_ns: 0,
            },
            peer: peer.into(),
            own: own.into(),
            test_port: TEST_PORT,
            source_port: SOURCE_PORT,
            ip_version: if is_v4 { 4 } else { 6 },
            reserved: 0,
            flags,
            mask: SLOTS - 1,
            sample_every: 0,
            reserved_too: 0,
        };
        object.set_settings(&settings).unwrap();
        let shared = object.take_shared(SLOTS).unwrap();
        shared.reset();
        let mut rig = Self {
            object,
            shared,
            settings,
            is_v4,
        };
        rig.object.set_template(&rig.template()).unwrap();
        Some(rig)
    }

    fn probe(&self) -> Datagram {
        let (source, destination): (IpAddr, IpAddr) = match self.is_v4 {
            true => (SENDER_V4.into(), OWN_V4.into()),
            false => (SENDER_V6.into(), OWN_V6.into()),
        };
        Datagram::probe(destination)
            .from(source)
            .ports(SOURCE_PORT, TEST_PORT)
            .payload(stamp::probe(0, ErrorEstimate(0x8001), 7).to_vec())
    }

    /// The sum in it is taken from the checksum that etherparse has computed.
    fn template(&self) -> Template {
        let frame = self.probe().build();
        let mut template = Template {
            frame: [0; _],
            length: frame.len() as u16,
            reserved: 0,
            sum: 0,
        };
        template.frame[..frame.len()].copy_from_slice(&frame);
        let checksum = &frame[self.udp_at() + 6..][..2];
        template.sum = (!u16::from_ne_bytes(checksum.try_into().unwrap())).into();
        template
    }

    fn udp_at(&self) -> usize {
        if self.is_v4 { UDP_V4 } else { UDP_V6 }
    }

    /// Allows `probes` more probes.
    fn allow(&self, probes: u64) {
        let next = u64::from(SEQUENCE_OF_PROBE) + 1;
        self.shared.next().store(next, Ordering::Release);
        self.shared.limit().store(next + probes, Ordering::Release);
        self.shared.first().store(next, Ordering::Release);
        self.shared.burst().store(1 << 40, Ordering::Release);
        self.shared.balls().store(4, Ordering::Release);
        self.shared.deadline_ns().store(u64::MAX, Ordering::Release);
    }

    /// Enters a probe in this state, sent now. Returns T1 as on the wire.
    fn sent(&self, state: u64) -> NtpTime {
        let t1 = self.settings.epoch.wire(monotonic_ns() - 10 * FORWARD_NS);
        self.shared
            .set_slot(SEQUENCE_OF_PROBE, word::of(SEQUENCE_OF_PROBE, state), t1.0);
        t1
    }

    /// The reply with this number to the probe of T1.
    fn reply(&self, t1: NtpTime, number: u32) -> Datagram {
        let mut payload = stamp::probe(SEQUENCE_OF_PROBE, ErrorEstimate(0x8001), 7);
        payload[TIMESTAMP..][..8].copy_from_slice(&t1.to_be_bytes());
        let t1_ns = self.settings.epoch.mono(t1.0, false);
        let wire = |mono_ns| self.settings.epoch.wire(mono_ns);
        let fields = ReplyFields {
            sequence: number,
            transmit: wire(t1_ns + FORWARD_NS + RESIDENCE_NS),
            error: ErrorEstimate(0x8001),
            receive: wire(t1_ns + FORWARD_NS),
            ttl: 255,
        };
        assert!(stamp::into_reply(&mut payload, &fields));
        let probe = self.probe();
        probe.reply(probe.destination, payload.to_vec())
    }

    /// Verdict of the XDP program, and the frame afterwards.
    fn run(&mut self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self.object.xdp().unwrap().test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    fn count(&self, count: Count) -> u64 {
        self.shared.counted().of(count)
    }

    /// The newest number of the reflector, on any processor.
    fn newest_reflected(&self) -> u32 {
        let newest = self.shared.counted().newest.into_iter();
        newest.map(|(_, _, reflected)| reflected).max().unwrap()
    }

    /// Runs on `frame`, which must pass unchanged, change no slot, and be counted as `reason` alone.
    fn assert_refused(&mut self, frame: &[u8], reason: Option<Count>, what: &str) {
        let (slot, before) = (self.shared.slot(SEQUENCE_OF_PROBE), self.refusals());
        let (verdict, after) = self.run(frame);
        assert_eq!((verdict, &after[..]), (PASS, frame), "{what}");
        assert_eq!(self.shared.slot(SEQUENCE_OF_PROBE), slot, "{what}");
        let changed: Vec<_> = REASONS
            .into_iter()
            .zip(self.refusals().into_iter().zip(before))
            .filter(|(_, (after, before))| after != before)
            .map(|(reason, _)| reason)
            .collect();
        assert_eq!(changed, reason.into_iter().collect::<Vec<_>>(), "{what}");
    }

    fn refusals(&self) -> Vec<u64> {
        REASONS.into_iter().map(|reason| self.count(reason)).collect()
    }
}

/// All counts except those of sending.
const REASONS: [Count; 10] = [
    Count::Received,
    Count::Late,
    Count::CopiedBackward,
    Count::CopiedForward,
    Count::Landed,
    Count::NotFromPeer,
    Count::BadChecksum,
    Count::Malformed,
    Count::Unknown,
    Count::WrongT1,
];

fn rigs(flags: u32) -> impl Iterator<Item = Rig> {
    [true, false]
        .into_iter()
        .filter_map(move |is_v4| Rig::new(is_v4, flags))
}

#[test]
fn a_reply_becomes_the_next_probe() {
    for mut rig in rigs(RELAY | ONE_WAY) {
        rig.allow(1);
        let t1 = rig.sent(word::FLYING);
        let before_ns = monotonic_ns();
        let (verdict, frame) = rig.run(&rig.reply(t1, 99).build());
        let after_ns = monotonic_ns();
        assert_eq!(verdict, TRANSMIT);

        let next = SEQUENCE_OF_PROBE + 1;
        assert_eq!(rig.shared.slot(SEQUENCE_OF_PROBE).0, word::done(SEQUENCE_OF_PROBE, 99));
        let (state, t1_next) = rig.shared.slot(next);
        assert_eq!(state, word::of(next, word::FLYING));
        let t1_next_ns = rig.settings.epoch.mono(t1_next, false);
        assert!((before_ns..=after_ns).contains(&t1_next_ns));
        // Etherparse builds the same probe, checksum included.
        let mut payload = stamp::probe(next, ErrorEstimate(0x8001), 7);
        payload[TIMESTAMP..][..8].copy_from_slice(&t1_next.to_be_bytes());
        assert_eq!(frame, rig.probe().payload(payload.to_vec()).build());

        assert_eq!((rig.count(Count::Received), rig.count(Count::Sent)), (1, 1));
        let t1_ns = rig.settings.epoch.mono(t1.0, false);
        let rtt = rig.shared.histogram(Delay::Rtt).summary().unwrap();
        let range = before_ns - t1_ns - RESIDENCE_NS..=after_ns - t1_ns - RESIDENCE_NS;
        assert!(range.contains(&(rtt.mean as u64)), "{rtt:?} {range:?}");
        let exact = |delay| rig.shared.histogram(delay).summary().unwrap().mean;
        assert_eq!(
            (exact(Delay::Residence), exact(Delay::Forward)),
            (RESIDENCE_NS as i64, FORWARD_NS as i64)
        );
        assert_eq!(rtt.mean, exact(Delay::Forward) + exact(Delay::Backward));
    }
}

#[test]
fn a_ball_lands_when_budget_rate_or_deadline_end() {
    for mut rig in rigs(RELAY) {
        type Forbid = fn(&Rig);
        let cases: [(&str, Forbid); 5] = [
            ("budget", |rig| rig.allow(0)),
            ("stopped", |rig| rig.shared.limit().store(0, Ordering::Release)),
            ("deadline", |rig| {
                rig.shared.deadline_ns().store(monotonic_ns(), Ordering::Release)
            }),
            ("rate", |rig| {
                rig.shared.burst().store(0, Ordering::Release);
                rig.shared.start_ns().store(monotonic_ns(), Ordering::Release);
                // One in 1,000 s.
                rig.shared.rate().store(4_398, Ordering::Release);
            }),
            ("loose", |rig| {
                rig.sent(word::LOOSE);
            }),
        ];
        for (what, forbid) in cases {
            rig.allow(10);
            rig.shared.balls_in_flight().store(3, Ordering::Release);
            let landed = rig.count(Count::Landed);
            rig.sent(word::FLYING);
            forbid(&rig);
            let t1 = NtpTime(rig.shared.slot(SEQUENCE_OF_PROBE).1);
            let received = rig.count(Count::Received);
            assert_eq!(rig.run(&rig.reply(t1, 1).build()).0, DROP, "{what}");
            assert_eq!(rig.count(Count::Received), received + 1, "{what}");
            assert_eq!(rig.count(Count::Sent), 0, "{what}");
            // A loose probe is not a ball.
            let balls = u64::from(what != "loose");
            assert_eq!(rig.count(Count::Landed), landed + balls, "{what}");
            assert_eq!(
                rig.shared.balls_in_flight().load(Ordering::Acquire),
                3 - balls,
                "{what}"
            );
        }
    }
}

#[test]
fn a_rate_lets_probes_through_as_it_is_earned() {
    for mut rig in rigs(RELAY) {
        rig.allow(10);
        rig.shared.burst().store(0, Ordering::Release);
        // 1,000 a second since 2.5 ms ago.
        rig.shared
            .rate()
            .store(((1_000 * 1_024) << 32) / 1_000_000_000, Ordering::Release);
        rig.shared
            .start_ns()
            .store(monotonic_ns() - 2_500_000, Ordering::Release);
        let verdicts: Vec<_> = (0..2)
            .map(|_| {
                let t1 = rig.sent(word::FLYING);
                rig.run(&rig.reply(t1, 1).build()).0
            })
            .collect();
        assert_eq!(verdicts, [TRANSMIT, TRANSMIT]);
    }
}

#[test]
fn only_the_first_reply_counts() {
    for mut rig in rigs(RELAY) {
        rig.allow(10);
        let t1 = rig.sent(word::FLYING);
        assert_eq!(rig.run(&rig.reply(t1, 5).build()).0, TRANSMIT);
        // First a reply that was copied on the way back, then a second answer.
        for (number, count) in [(5, Count::CopiedBackward), (6, Count::CopiedForward)] {
            assert_eq!(rig.run(&rig.reply(t1, number).build()).0, DROP);
            assert_eq!(rig.count(count), 1);
            assert_eq!(rig.newest_reflected(), number);
        }
        assert_eq!((rig.count(Count::Received), rig.count(Count::Sent)), (1, 1));

        let t1 = rig.sent(word::LOST);
        assert_eq!(rig.run(&rig.reply(t1, 7).build()).0, DROP);
        assert_eq!((rig.count(Count::Late), rig.count(Count::Received)), (1, 1));
        assert_eq!(rig.newest_reflected(), 7);
    }
}

#[test]
fn nothing_but_an_intact_reply_of_the_peer_touches_a_probe() {
    for mut rig in rigs(RELAY) {
        rig.allow(10);
        let t1 = rig.sent(word::FLYING);
        let good = rig.reply(t1, 5);
        let elsewhere: IpAddr = if rig.is_v4 {
            "10.1.1.9".parse().unwrap()
        } else {
            "fd00:0:0:1::9".parse().unwrap()
        };
        let with = |change: fn(&mut Datagram)| {
            let mut datagram = good.clone();
            change(&mut datagram);
            datagram.build()
        };
        let mut to_elsewhere = good.clone();
        to_elsewhere.destination = elsewhere;
        let other_t1 = NtpTime(t1.0 + 1);
        let mut table = vec![
            (
                "of another host",
                good.clone().from(elsewhere).build(),
                Some(Count::NotFromPeer),
            ),
            ("to another host", to_elsewhere.build(), Some(Count::NotFromPeer)),
            (
                "a wrong checksum",
                with_checksum(&good, [0x12, 0x34]),
                Some(Count::BadChecksum),
            ),
            ("another T1", rig.reply(other_t1, 5).build(), Some(Count::WrongT1)),
            (
                "another sequence",
                with(|reply| reply.payload[stamp::SENDER_SEQUENCE + 3] ^= 1),
                Some(Count::Unknown),
            ),
            (
                "an old sequence",
                with(|reply| reply.payload[stamp::SENDER_SEQUENCE] ^= 0x80),
                Some(Count::Unknown),
            ),
            (
                "too short",
                with(|reply| reply.payload.truncate(BASE_LEN - 1)),
                Some(Count::Malformed),
            ),
            ("too long", with(|reply| reply.payload.push(0)), Some(Count::Malformed)),
            ("a tag", with_tags(&good.build(), &[0x8100]), Some(Count::Malformed)),
            ("another source port", with(|reply| reply.ports.0 += 1), None),
            ("another port of ours", with(|reply| reply.ports.1 += 1), None),
            ("a probe", rig.probe().build(), None),
            ("nothing", vec![0; 60], None),
        ];
        if rig.is_v4 {
            table.push(("options", with_options(&good.build()), Some(Count::Malformed)));
            table.push((
                "a fragment",
                with_fragment(&good.build(), 0x2000),
                Some(Count::Malformed),
            ));
            let mut wrong = good.build();
            wrong[24] ^= 1;
            table.push(("a wrong header checksum", wrong, Some(Count::BadChecksum)));
        } else {
            let destination_options: (u8, &[u8]) = (60, &[0, 1, 4, 0, 0, 0, 0]);
            let extended = with_extensions(&good.build(), &[destination_options]);
            table.push(("an extension", extended, Some(Count::Malformed)));
            table.push(("no checksum", with_checksum(&good, [0, 0]), Some(Count::BadChecksum)));
        }
        for (what, frame, reason) in table {
            rig.assert_refused(&frame, reason, what);
        }
        // What a local sender leaves to a device is not verified; IPv4 allows no checksum.
        assert_eq!(rig.run(&with_partial_checksum(&good)).0, TRANSMIT);
    }
}

#[test]
fn programs_without_settings_of_their_version_touch_nothing() {
    for mut rig in rigs(RELAY) {
        rig.allow(10);
        let t1 = rig.sent(word::FLYING);
        let other = Settings {
            version: VERSION + 1,
            ..rig.settings
        };
        rig.object.set_settings(&other).unwrap();
        rig.assert_refused(&rig.reply(t1, 5).build(), None, "another version");
    }
}

#[test]
fn at_tc_replies_are_claimed_and_land() {
    for mut rig in rigs(0) {
        let t1 = rig.sent(word::LOOSE);
        let frame = rig.reply(t1, 5).build();
        for (number, count) in [(5, Count::Received), (5, Count::CopiedBackward)] {
            let _ = number;
            let options = TestRunOptions {
                data_in: Some(&frame),
                ..TestRunOptions::new()
            };
            let classifier = rig.object.classifier(INGRESS).unwrap();
            assert_eq!(classifier.test_run(options).unwrap().return_value, 2);
            assert_eq!(rig.count(count), 1);
        }
    }
}

#[test]
fn a_test_run_launches_balls_up_to_their_limit() {
    for mut rig in rigs(RELAY) {
        // Frames of a test run do not come from the interface then.
        rig.settings.interface = LOOPBACK + 1;
        rig.object.set_settings(&rig.settings).unwrap();
        rig.allow(10);
        let length = rig.probe().build().len();
        // The content of the frame does not matter.
        let page = vec![0xaa; length];
        for ball in 1..=4 {
            let (verdict, frame) = rig.run(&page);
            assert_eq!(verdict, REDIRECT, "ball {ball}");
            let sequence = &frame[rig.udp_at() + 8 + SEQUENCE..][..4];
            assert_eq!(sequence, (SEQUENCE_OF_PROBE + ball).to_be_bytes());
            assert_eq!(frame[..14], rig.probe().build()[..14]);
        }
        assert_eq!(rig.run(&page).0, DROP, "all balls are in the air");
        assert_eq!(
            (
                rig.count(Count::Sent),
                rig.shared.balls_in_flight().load(Ordering::Acquire)
            ),
            (4, 4)
        );
        rig.shared.balls_in_flight().store(0, Ordering::Release);
        rig.shared.limit().store(0, Ordering::Release);
        assert_eq!(rig.run(&page).0, DROP, "stopped");
        assert_eq!(rig.shared.balls_in_flight().load(Ordering::Acquire), 0);
    }
}

#[test]
fn a_probe_that_is_overwritten_while_it_waits_is_lost() {
    for mut rig in rigs(0) {
        rig.settings.interface = LOOPBACK + 1;
        rig.object.set_settings(&rig.settings).unwrap();
        rig.allow(10);
        let older = SEQUENCE_OF_PROBE + 1 - SLOTS;
        rig.shared.set_slot(older, word::of(older, word::LOOSE), 1);
        let length = rig.probe().build().len();
        assert_eq!(rig.run(&vec![0; length]).0, REDIRECT);
        assert_eq!((rig.count(Count::Overrun), rig.count(Count::Sent)), (1, 1));
        assert_eq!(word::sequence(rig.shared.slot(older).0), SEQUENCE_OF_PROBE + 1);
    }
}
