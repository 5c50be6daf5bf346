//! Names that others choose, made safe to print: one line, no invisible character, no imitated column.

/// Whether a character shows as itself: no control, format, bidi or line-breaking character, and no blank but a space.
pub fn is_printable(c: char) -> bool {
    let is_blank = c.is_whitespace() && c != ' ';
    // Unicode's category Cf, and the characters without a shape of their own (Default_Ignorable_Code_Point).
    let is_format = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}'
        | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    !c.is_control() && !is_blank && !is_format
}

/// Whether a name is printable, and has no blank at either end and no two in a row.
pub fn is_plain(name: &str) -> bool {
    name.chars().all(is_printable) && !name.starts_with(' ') && !name.ends_with(' ') && !name.contains("  ")
}

/// The name with each character that [`is_plain`] refuses replaced by U+FFFD.
pub fn plain(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    for (place, c) in name.char_indices() {
        let is_last = place + c.len_utf8() == name.len();
        let is_stray_blank = c == ' ' && (plain.is_empty() || plain.ends_with(' ') || is_last);
        plain.push(if is_printable(c) && !is_stray_blank {
            c
        } else {
            char::REPLACEMENT_CHARACTER
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_or_are_made_so() {
        let table = [
            ("", ""),
            ("eth0", "eth0"),
            ("Gi 1/1", "Gi 1/1"),
            ("Zürich-東京", "Zürich-東京"),
            ("a\u{202e}b", "a\u{fffd}b"),
            ("a\u{2028}b", "a\u{fffd}b"),
            ("a\nb\tc\x1b[0m", "a\u{fffd}b\u{fffd}c\u{fffd}[0m"),
            (
                "a\u{200b}\u{2066}\u{feff}\u{ad}\u{e0041}",
                "a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            ("a\u{a0}b\u{3000}c\u{2800}", "a\u{fffd}b\u{fffd}c\u{fffd}"),
            (" a", "\u{fffd}a"),
            ("a ", "a\u{fffd}"),
            ("a   b", "a \u{fffd} b"),
            (" ", "\u{fffd}"),
        ];
        for (name, wanted) in table {
            assert_eq!(plain(name), wanted, "{name:?}");
            assert_eq!(is_plain(name), name == wanted, "{name:?}");
            assert!(is_plain(&plain(name)), "{name:?}");
        }
    }
}
