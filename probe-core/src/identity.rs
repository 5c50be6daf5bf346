//! The identity that agents exchange, in a STAMP packet with a private TLV.
//!
//! Base probes carry no identity, so the exchange does not disturb measurements. An identity decides only whether two
//! agents read the same clock, and how reports name a peer.

pub mod clock_proof;
pub mod exchange;
pub mod wire;

use serde::{Deserialize, Serialize};

/// Longest text of an identity, in bytes. Any identity with a name of this length fits into a packet.
pub const MAX_TEXT_LEN: usize = 64;

/// Whether a text of a peer is shown: it takes one line, and it can neither reorder nor imitate what is beside it. It has no
/// control, format, private or unassigned characters, no invisible ones, and single blanks only between other characters.
pub fn is_printable(text: &str) -> bool {
    // The standard library escapes them all, and these three for its own purpose.
    let unquoted = text.replace(['"', '\'', '\\'], "");
    let is_plain = unquoted.escape_debug().eq(unquoted.chars()) && !text.chars().any(is_invisible);
    text.len() <= MAX_TEXT_LEN && is_plain && text.trim_ascii() == text && !text.contains("  ")
}

/// A name like `text` that is printable.
pub fn printable(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        let mut shown = [0; 4];
        let shown = character.encode_utf8(&mut shown);
        let shown = if is_printable(shown) { shown } else { "?" };
        if name.len() + shown.len() > MAX_TEXT_LEN {
            break;
        }
        name += shown;
    }
    name
}

/// Characters that fonts show as nothing or as a blank, although they are letters, marks or symbols by their category
/// (Default_Ignorable_Code_Point of Unicode, and the empty braille pattern).
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
    )
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    /// Of kstamp.
    pub version: String,
    /// Attach mode of the receive program (see [`AttachMode`](crate::attach::AttachMode)); a peer may write anything.
    pub receive: String,
    /// Attach mode of the egress program.
    pub egress: String,
    /// The kernel says that the clock is synchronised.
    pub synchronised: bool,
    /// Bound on the error of the clock.
    pub error_ns: u64,
    /// The reflector counts replies per session.
    pub stateful: bool,
    /// Absent if no process answers `kstamp compare`.
    #[serde(default, rename = "echo", skip_serializing_if = "Option::is_none")]
    pub responder: Option<ResponderPorts>,
}

/// UDP ports on which processes answer `kstamp compare`, for the IP version in which this identity is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponderPorts {
    pub userspace: u16,
    pub socket: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_reorder_or_imitate_others_are_not_printable() {
        let table = [
            ("", true),
            ("web-1:eth0", true),
            ("Büro 3, \"Süd\"", true),
            ("路由器", true),
            ("हिन्दी", true),
            ("it's \\ here", true),
            ("a\u{1b}[31m", false),
            ("a\nb", false),
            ("a\u{9b}b", false),
            ("a\u{202e}b", false),
            ("a\u{2066}b", false),
            ("a\u{200b}b", false),
            ("a\u{200d}b", false),
            ("a\u{2028}b", false),
            ("a\u{2029}b", false),
            ("a\u{feff}b", false),
            ("a\u{ad}b", false),
            ("a\u{a0}b", false),
            ("a\u{3000}b", false),
            ("a\u{2003}b", false),
            ("a\u{3164}b", false),
            ("a\u{2800}b", false),
            ("a\u{fe0f}b", false),
            ("a\u{e000}b", false),
            ("a\u{e0041}b", false),
            ("a  b", false),
            (" a", false),
            ("a ", false),
            ("a\tb", false),
        ];
        for (text, printable) in table {
            assert_eq!(is_printable(text), printable, "{text:?}");
        }
        assert_eq!(printable("a \u{202e}ü\\"), "a??ü\\");
        assert_eq!(printable(&"ü".repeat(99)), "ü".repeat(32));
        assert!(is_printable(&"n".repeat(MAX_TEXT_LEN)) && !is_printable(&"n".repeat(MAX_TEXT_LEN + 1)));
    }
}
