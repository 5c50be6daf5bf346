//! Properties of any stream of bytes from a switch: no panic, no byte is read twice or skipped, and an encoded message
//! decodes to the same message. Shared with the fuzz target `fuzz/fuzz_targets/openflow.rs`.

use probe_controller::openflow::frame::Framer;
use probe_controller::openflow::lldp::{Key, LldpProbe};
use probe_controller::openflow::message::Message;

/// Shorter than OpenFlow allows, so that the limit is met.
const MOST: usize = 4_096;

/// Checks these properties of a stream.
pub fn check(stream: &[u8]) {
    let mut whole = Framer::new(MOST);
    whole.push(stream);
    let mut pieces = Framer::new(MOST);
    let mut fed = 0;
    let key = Key::from_secret(&[1; 32]);
    loop {
        let next = whole
            .next_message()
            .map(|found| found.map(|(header, body)| (header, body.to_vec())));
        // The same stream a byte at a time.
        let same = loop {
            match pieces
                .next_message()
                .map(|found| found.map(|(header, body)| (header, body.to_vec())))
            {
                Ok(None) if fed < stream.len() => {
                    pieces.push(&stream[fed..=fed]);
                    fed += 1;
                }
                other => break other,
            }
        };
        assert_eq!(next, same);
        let Ok(Some((header, body))) = next else {
            break;
        };
        let Ok(message) = Message::decode(header, &body) else {
            continue;
        };
        if let Message::PacketIn(packet) = &message {
            assert!(LldpProbe::decode(&key, &packet.frame).is_err(), "the key is secret");
        }
        if !matches!(message, Message::Unused { .. }) {
            let Ok(bytes) = message.encode(header.xid) else {
                continue;
            };
            let mut again = Framer::new(usize::MAX);
            again.push(&bytes);
            let (header, body) = again.next_message().expect("encoded").expect("whole");
            // A name that is not UTF-8 becomes longer by replacement, and is cut.
            match (Message::decode(header, body).expect("encoded"), message) {
                (Message::PortStatus(..) | Message::PortDescReply { .. }, _) => {}
                (again, message) => assert_eq!(again, message),
            }
        }
    }
}
