//! Wraps lines at spaces.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr as _;

/// Writes `text` after `label`, wrapped at `columns`; all lines but the first are indented. A word is never broken.
pub fn write(label: &str, text: &str, indent: usize, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{label}")?;
    let mut used = label.width();
    let mut begins = true;
    for word in text.split(' ') {
        let blank = usize::from(!begins);
        if !begins && columns.is_some_and(|columns| used + blank + word.width() > columns) {
            write!(out, "\n{:indent$}{word}", "")?;
            used = indent + word.width();
        } else {
            write!(out, "{:blank$}{word}", "")?;
            used += blank + word.width();
        }
        begins = false;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(columns: Option<usize>) -> String {
        let mut out = Vec::new();
        write("  of: ", "one two three fifteen", 4, columns, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrapped(None), "  of: one two three fifteen\n");
        assert_eq!(wrapped(Some(27)), "  of: one two three fifteen\n");
        assert_eq!(wrapped(Some(26)), "  of: one two three\n    fifteen\n");
        assert_eq!(wrapped(Some(13)), "  of: one two\n    three\n    fifteen\n");
        assert_eq!(wrapped(Some(1)), "  of: one\n    two\n    three\n    fifteen\n");
    }
}
