//! The width of the terminal.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use terminal_size::{Width, terminal_size_of};

/// The width in columns; `None` for no limit. Asked again for each event: a terminal may be resized.
pub type Columns = fn() -> Option<usize>;

/// Where results go to standard output, its width; a file has no limit.
pub fn columns_for(path: Option<&Path>) -> Columns {
    if path.is_some() { || None } else { columns }
}

/// The width of standard output; `None` unless it is a terminal that knows.
pub fn columns() -> Option<usize> {
    columns_of(io::stdout())
}

fn columns_of(output: impl AsFd) -> Option<usize> {
    terminal_size_of(output).map(|(Width(columns), _)| columns.into())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::pty::{OpenptyResult, Winsize, openpty};

    use super::*;

    fn terminal(columns: u16) -> OpenptyResult {
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        openpty(&size, None).unwrap()
    }

    #[test]
    fn a_terminal_has_a_width_and_a_file_has_none() {
        assert_eq!(columns_of(terminal(97).slave), Some(97));
        assert_eq!(columns_of(File::open("/dev/null").unwrap()), None);
    }
}
