//! Texts that others choose, made safe to print.

/// Combining marks in a row: Vietnamese and Hebrew need two.
const MAX_MARKS: usize = 2;

/// Whether a text takes one line and shows as itself. It has no control, format, private, unassigned or invisible characters,
/// no blank at either end, no two blanks in a row, and no more than two combining marks in a row.
pub fn is_plain(text: &str) -> bool {
    let mut line = Line::default();
    text.chars().all(|character| line.shows(character)) && !text.ends_with(' ')
}

/// The text with U+FFFD for each character that [`is_plain`] refuses, in at most `max_len` bytes.
pub fn plain(text: &str, max_len: usize) -> String {
    let mut line = Line::default();
    let mut plain = String::new();
    for character in text.chars() {
        match line.shows(character) {
            true => plain.push(character),
            false => plain.push(char::REPLACEMENT_CHARACTER),
        }
        if plain.len() > max_len {
            plain.pop();
            break;
        }
    }
    plain.truncate(plain.trim_end_matches(' ').len());
    plain
}

/// What decides whether the next character of a line shows as itself.
#[derive(Debug, Default)]
struct Line {
    /// There is a character that a mark can combine with.
    has_base: bool,
    /// The last character is no blank.
    takes_blank: bool,
    /// Combining marks at the end, which pile up over or under a character, into the lines around.
    marks: usize,
}

impl Line {
    /// Takes the next character. If it does not show, U+FFFD takes its place.
    fn shows(&mut self, character: char) -> bool {
        // `escape_debug` escapes characters that cannot be shown. It also escapes these three, which can.
        if matches!(character, '"' | '\'' | '\\') {
            self.takes_blank = true;
            return true;
        }
        // Alone, a combining mark is escaped as well (Grapheme_Extend of Unicode).
        let is_escaped = character.escape_debug().len() > 1;
        let is_mark = is_escaped && String::from_iter(['a', character]).escape_debug().count() == 2;
        let is_shown = match character {
            ' ' => self.takes_blank,
            _ if is_mark => self.has_base && self.marks < MAX_MARKS && !is_invisible(character),
            _ => !is_escaped && !is_invisible(character),
        };
        *self = Self {
            has_base: true,
            takes_blank: !(is_shown && character == ' '),
            marks: if is_shown && is_mark { self.marks + 1 } else { 0 },
        };
        is_shown
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_reorder_or_imitate_others_are_refused_or_made_plain() {
        let table = [
            ("", ""),
            ("web-1:eth0", "web-1:eth0"),
            ("Gi 1/1", "Gi 1/1"),
            ("Büro 3, \"Süd\"", "Büro 3, \"Süd\""),
            ("路由器", "路由器"),
            ("हिन्दी", "हिन्दी"),
            ("it's \\ here", "it's \\ here"),
            ("a\u{1b}[31m", "a\u{fffd}[31m"),
            ("a\nb\tc", "a\u{fffd}b\u{fffd}c"),
            ("a\u{9b}b", "a\u{fffd}b"),
            ("a\u{202e}b", "a\u{fffd}b"),
            ("a\u{2066}b", "a\u{fffd}b"),
            ("a\u{200b}b", "a\u{fffd}b"),
            ("a\u{200d}b", "a\u{fffd}b"),
            ("a\u{2028}b\u{2029}c", "a\u{fffd}b\u{fffd}c"),
            ("a\u{feff}b\u{ad}c", "a\u{fffd}b\u{fffd}c"),
            ("a\u{a0}b\u{3000}c\u{2003}d", "a\u{fffd}b\u{fffd}c\u{fffd}d"),
            ("a\u{3164}b\u{2800}c\u{fe0f}d", "a\u{fffd}b\u{fffd}c\u{fffd}d"),
            ("a\u{e000}b\u{e0041}c", "a\u{fffd}b\u{fffd}c"),
            ("\u{301}a", "\u{fffd}a"),
            ("Vie\u{323}\u{302}t", "Vie\u{323}\u{302}t"),
            ("e\u{301}\u{302}\u{336}x", "e\u{301}\u{302}\u{fffd}x"),
            ("a  b", "a \u{fffd}b"),
            (" a", "\u{fffd}a"),
            ("a ", "a"),
        ];
        for (text, wanted) in table {
            assert_eq!(plain(text, 64), wanted, "{text:?}");
            assert_eq!(is_plain(text), text == wanted, "{text:?}");
            assert!(is_plain(wanted), "{text:?}");
        }
        assert_eq!(plain(&"ü".repeat(99), 64), "ü".repeat(32));
        assert_eq!(plain("abc d", 4), "abc");
    }

    #[test]
    fn long_texts_take_time_in_proportion_to_their_length() {
        for part in ["x", "\u{1b}", "e\u{301}", " \u{336}"] {
            let length = plain(&part.repeat(1 << 19), 1 << 18).len();
            assert!((1 << 18) - 3 < length && length <= 1 << 18, "{part:?}: {length}");
        }
    }
}
