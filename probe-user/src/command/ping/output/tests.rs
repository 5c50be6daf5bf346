use probe_core::observation::Reply;
use probe_core::stats::report::Path;

use super::*;

fn reply() -> Reply {
    Reply {
        peer: "10.1.1.6".parse().unwrap(),
        ssid: 9,
        seq: 7,
        reflector_seq: 7,
        sent_mono_ns: 1_000,
        received_mono_ns: 161_000,
        t1_ns: 1_000_000,
        t2_ns: 1_070_000,
        t3_ns: 1_070_250,
        t4_ns: 1_160_000,
        reflector_error_ns: None,
        own_error_ns: None,
        wrong_z: false,
        clock_set: false,
    }
}

fn of(reply: Option<Reply>, state: Outcome) -> PingSample {
    let peer = "10.1.1.6".parse().unwrap();
    PingSample {
        sample: Sample::new(peer, Path::Unicast, 7, None, reply.as_ref(), state),
        forward_ns: None,
        backward_ns: None,
        clock: None,
        reply: None,
    }
}

fn written(one: &PingSample) -> String {
    let mut out = Vec::new();
    write_sample(one, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_for_each_outcome() {
    let base = "reply from 10.1.1.6: seq=7 rtt=160 µs residence=250 ns";
    assert_eq!(written(&of(Some(reply()), Outcome::Ok)), format!("{base}\n"));
    assert_eq!(
        written(&of(Some(reply()), Outcome::Duplicate)),
        format!("{base} (DUP!)\n")
    );
    assert_eq!(
        written(&of(Some(reply()), Outcome::Late)),
        format!("{base} (late: counted as lost)\n")
    );
    assert_eq!(written(&of(None, Outcome::Lost)), "no reply to seq=7\n");
    let stepped = Reply { t3_ns: 5, ..reply() };
    assert!(written(&of(Some(stepped), Outcome::Ok)).contains("contradict"));
    let unstamped = Reply { t3_ns: 0, ..reply() };
    assert_eq!(
        written(&of(Some(unstamped), Outcome::Ok)),
        "reply from 10.1.1.6: seq=7 rtt=160 µs (with the residence: the reflector wrote no timestamps)\n"
    );
}

#[test]
fn packet_tlvs_and_one_way_delays_are_shown() {
    let one = PingSample {
        forward_ns: Some(70_000),
        backward_ns: Some(-89_750),
        clock: Some(OneWayClock::Synced { bound_ns: 2_000_000 }),
        reply: Some(ReplyPacket {
            length: 56,
            ttl: Some(63),
            dscp: Some(0),
            probe_ttl: Some(254),
            tlvs: vec![ReturnedTlv {
                flags: 0x80,
                kind: 200,
                value: vec![1],
                unused: false,
            }],
            is_cut: true,
            tlvs_forged: true,
        }),
        ..of(Some(reply()), Outcome::Ok)
    };
    let expected = "56 bytes from 10.1.1.6: seq=7 ttl=63 rtt=160 µs residence=250 ns forward=70.00 µs \
                    backward=-89.75 µs (synchronised, ± 2.00 ms)\n    unknown (200), 1 bytes, flags U\n    a truncated TLV\n    \
                    the HMAC of the TLVs is missing or wrong: do not trust them\n";
    assert_eq!(written(&one), expected);
    let json = serde_json::to_value(&one).unwrap();
    assert_eq!(
        (
            &json["clock"],
            &json["reply"]["tlvs"][0]["flags"],
            &json["reply"]["tlvs"][0]["value"]
        ),
        (&"synced".into(), &"U".into(), &"01".into())
    );
}

#[test]
fn each_byte_has_two_digits() {
    assert_eq!(digits(&[0, 0x0f, 0xa5, 0xff]), "000fa5ff");
}
