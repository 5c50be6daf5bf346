//! The terminal that standard output may be.

use std::io;
use std::os::fd::AsFd;

use terminal_size::{Width, terminal_size_of};

/// How wide it is now; `None` if standard output is a file or a pipe, or a terminal that does not know.
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

    /// Both ends of a terminal of that width.
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
