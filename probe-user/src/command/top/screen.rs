//! The terminal: its alternate screen in raw mode, and the way back.

use std::io::{self, BufWriter, Stdout, Write};
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use crate::output::file::is_writable;

/// As for any other program of Rust that panics.
const PANICKED: i32 = 101;
/// A terminal that takes nothing for this time, as over a stalled network, is not waited for: signals are.
const PATIENCE: Duration = Duration::from_millis(500);
/// A terminal that reports room takes so many bytes at once.
const CHUNK: usize = 256;
const BUFFER: usize = 64 << 10;

/// Whether the screen is there, and is to be given back.
static IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Writes while the screen is open and the terminal takes it.
struct Patient(Stdout);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !IS_OPEN.load(Ordering::Relaxed) {
            return Ok(bytes.len());
        }
        if !is_writable(&self.0, Some(PATIENCE)) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Not through its own buffer, which would keep what the terminal does not take.
        let number = nix::unistd::write(&self.0, &bytes[..bytes.len().min(CHUNK)])?;
        Ok(number)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Screen(Terminal<CrosstermBackend<BufWriter<Patient>>>);

impl Screen {
    /// Takes the screen. It is given back when this is dropped, and when any thread panics, which ends the process.
    pub fn open() -> io::Result<Self> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let had_screen = restore();
            report(info);
            if had_screen {
                process::exit(PANICKED);
            }
        }));
        IS_OPEN.store(true, Ordering::Relaxed);
        let opened = || {
            enable_raw_mode()?;
            execute!(io::stdout(), EnterAlternateScreen, Hide)?;
            let out = BufWriter::with_capacity(BUFFER, Patient(io::stdout()));
            Terminal::new(CrosstermBackend::new(out))
        };
        opened().map(Self).inspect_err(|_| {
            restore();
        })
    }

    /// Draws what has changed. A terminal that takes nothing gets it next time.
    pub fn draw(&mut self, body: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        match self.0.draw(body) {
            Err(error) if error.kind() != io::ErrorKind::TimedOut => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the screen back. Returns false if it is not there.
fn restore() -> bool {
    let had_screen = IS_OPEN.swap(false, Ordering::Relaxed);
    if had_screen {
        // The terminal may be gone.
        if is_writable(&io::stdout(), Some(PATIENCE)) {
            execute!(io::stdout(), Show, LeaveAlternateScreen).ok();
        }
        disable_raw_mode().ok();
    }
    had_screen
}
