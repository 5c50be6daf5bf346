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
    use std::os::fd::{FromRawFd as _, OwnedFd};
    use std::ptr::null;

    use super::*;

    fn terminal(columns: u16) -> [OwnedFd; 2] {
        let size = libc::winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let (mut master, mut slave) = (-1, -1);
        // SAFETY: the pointers are valid or null, as openpty(3) allows.
        let outcome = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), null(), &size) };
        assert_eq!(outcome, 0);
        // SAFETY: openpty has just opened both, and nothing else owns them.
        [master, slave].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    #[test]
    fn a_terminal_has_a_width_and_a_file_has_none() {
        let [_master, slave] = terminal(97);
        assert_eq!(columns_of(slave), Some(97));
        assert_eq!(columns_of(File::open("/dev/null").unwrap()), None);
    }
}
