//! Requests for an identity: an answer is as long as its request and is never answered, and nothing reaches a terminal
//! that it would act on.

#![no_main]

use probe_common::ntp::ErrorEstimate;
use probe_common::stamp::BASE_LEN;
use probe_core::identity::clock_proof::ClockProof;
use probe_core::identity::{Identity, is_acceptable, wire};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    check(input);
    // As the text of a request, and of an answer.
    let mut packet = wire::request(&own(), ErrorEstimate(1), 5).expect("an identity that fits");
    let text = packet.iter().position(|&byte| byte == b'{').expect("the text is JSON");
    let length = input.len().min(packet.len() - text);
    packet[text..][..length].copy_from_slice(&input[..length]);
    check(&packet);
    packet[BASE_LEN] = 0;
    check(&packet);
});

fn own() -> Identity {
    Identity {
        name: "agent".to_owned(),
        version: "0.1.0".to_owned(),
        instance: Some(7),
        receive: "xdp-native".to_owned(),
        egress: "tc".to_owned(),
        synchronised: true,
        error_ns: 1_000,
        stateful: true,
        responder: None,
        volley_limit: None,
    }
}

fn check(packet: &[u8]) {
    if let Some(reported) = wire::from_answer(packet) {
        assert!(is_acceptable(&reported.identity.name));
        let request = wire::request(&reported.identity, ErrorEstimate(1), reported.nonce);
        if let Some(again) =
            request.and_then(|request| answer(&request, &reported.identity, reported.refused, reported.proof))
        {
            let reported = wire::IdentityAnswer {
                goodbye: false,
                ..reported
            };
            assert_eq!(wire::from_answer(&again), Some(reported));
        }
    }
    if let Some(answered) = answer(packet, &own(), Some(3), None) {
        assert_eq!(answered.len(), packet.len(), "no amplification");
        assert_eq!(
            wire::from_answer(&answered).map(|reported| reported.identity),
            Some(own())
        );
        assert_eq!(
            answer(&answered, &own(), Some(3), None),
            None,
            "an answer is never answered"
        );
    }
}

fn answer(request: &[u8], own: &Identity, refused: Option<u64>, proof: Option<ClockProof>) -> Option<Vec<u8>> {
    let stamps = wire::AnswerStamps {
        receive_ns: 1_795_000_000_000_000_000,
        transmit_ns: 1_795_000_000_000_000_900,
        error: ErrorEstimate(0x8101),
    };
    wire::answer(request, own, refused, |_| proof, stamps)
}
