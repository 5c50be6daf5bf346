//! Recorded messages of Open vSwitch, changed at random: the check of the fuzz target, in each run of the tests.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::stream::check;

/// Recorded messages of Open vSwitch.
fn corpus() -> Vec<Vec<u8>> {
    let lines = include_str!("vectors/open-vswitch-3.1.txt").lines();
    let byte = |line: &str, at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("hex");
    let bytes = |line: &str| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect();
    lines.filter(|line| !line.starts_with('#')).map(bytes).collect()
}

#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    /// In a length, a number of ports, a type.
    Interesting(Index, u16),
    Cut(Index),
    Repeat(Index, Index),
    Insert(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let interesting = select(vec![0, 1, 4, 7, 8, 9, 16, 0x7fff, 0x8000, 0xffff]);
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        4 => (any::<Index>(), interesting).prop_map(|(at, value)| Change::Interesting(at, value)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
        1 => (any::<Index>(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
    ]
}

fn apply(stream: &mut Vec<u8>, change: Change) {
    if stream.is_empty() {
        return;
    }
    let length = stream.len();
    match change {
        Change::Set(at, value) => stream[at.index(length)] = value,
        Change::Interesting(at, value) => {
            // Fields of two bytes are even in OpenFlow.
            let at = at.index(length) & !1;
            for (byte, value) in stream[at..].iter_mut().zip(value.to_be_bytes()) {
                *byte = value;
            }
        }
        Change::Cut(at) => stream.truncate(at.index(length)),
        Change::Repeat(from, to) => {
            let (from, to) = (from.index(length), to.index(length));
            stream.extend_from_within(from.min(to)..from.max(to));
        }
        Change::Insert(at, bytes) => {
            let at = at.index(length);
            stream.splice(at..at, bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn changed_messages_of_open_vswitch_are_handled(
        messages in vec(select(corpus()), 1..4),
        changes in vec(change(), 0..6),
    ) {
        let mut stream = messages.concat();
        changes.into_iter().for_each(|change| apply(&mut stream, change));
        check(&stream);
    }
}
