//! Questions for hop stamps: an answer is as long as its question and is never answered, what was read can be written
//! again, and no device has a name that a terminal would act on.

#![no_main]

use probe_common::ntp::ErrorEstimate;
use probe_common::stamp::BASE_LEN;
use probe_core::hops::{Answer, Question, wire};
use probe_core::identity::is_acceptable;
use probe_core::identity::wire::AnswerStamps;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    check(input);
    // Behind the mark of a question, and of an answer.
    let mut packet = wire::question(&question(), ErrorEstimate(1));
    let body = packet.iter().rposition(|&byte| byte != 0).map_or(0, |last| last - 2);
    let length = input.len().min(packet.len() - body);
    packet[body..][..length].copy_from_slice(&input[..length]);
    check(&packet);
    packet[BASE_LEN] = 0;
    check(&packet);
});

fn question() -> Question {
    Question {
        nonce: 5,
        ssid: 0x0101,
        probes: vec![],
    }
}

fn check(packet: &[u8]) {
    if let Some(read) = wire::from_question(packet) {
        let again = wire::question(&read, ErrorEstimate(1));
        assert_eq!(wire::from_question(&again), Some(read));
    }
    if let Some(read) = wire::from_answer(packet) {
        assert!(read.hooks.iter().all(|hook| is_acceptable(&hook.device)));
        let question = Question {
            nonce: read.nonce,
            ..question()
        };
        let request = wire::question(&question, ErrorEstimate(1));
        let again = answer(&request, &read).expect("an answer to a question");
        assert_eq!(again.len(), request.len(), "no amplification");
        let again = wire::from_answer(&again).expect("what was read can be read again");
        assert!(read.probes.starts_with(&again.probes));
        assert_eq!(again.hooks, read.hooks);
    }
    if let Some(answered) = answer(packet, &none()) {
        assert_eq!(answered.len(), packet.len(), "no amplification");
        assert_eq!(answer(&answered, &none()), None, "an answer is never answered");
    }
}

fn none() -> Answer {
    Answer {
        nonce: 0,
        hooks: vec![],
        complete_ns: 0,
        probes: vec![],
    }
}

fn answer(request: &[u8], answer: &Answer) -> Option<Vec<u8>> {
    let stamps = AnswerStamps {
        receive_ns: 1_795_000_000_000_000_000,
        transmit_ns: 1_795_000_000_000_000_900,
        error: ErrorEstimate(0x8101),
    };
    wire::answer(request, answer, stamps)
}
