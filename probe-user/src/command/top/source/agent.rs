//! An agent as a child process.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::Sender;

use crate::command::top::model::Update;
use crate::command::top::source::lines::LineReader;
use crate::command::top::source::update;

pub struct AgentProcess(Child);

impl AgentProcess {
    /// Starts it. The updates end when it has ended.
    pub fn start(words: &[OsString], updates: Sender<Update>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the program of kstamp")?;
        let mut command = Command::new(program);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C of the terminal must not end it: `top` does, in order.
            .process_group(0)
            .kill_on_drop(true);
        let parent = getpid();
        // SAFETY: both are system calls that a child may make before it executes the program.
        unsafe { command.pre_exec(move || end_with(parent)) };
        let mut child = command.spawn().context("cannot start the agent")?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let diagnostics = updates.clone();
        tokio::spawn(async move {
            let mut lines = LineReader::new(stdout?);
            while let Some(line) = lines.next().await {
                if let Some(update) = update(&line) {
                    updates.send(update).await.ok()?;
                }
            }
            Some(())
        });
        tokio::spawn(async move {
            let mut lines = LineReader::new(stderr?);
            while let Some(line) = lines.next().await {
                let line = String::from_utf8_lossy(&line).into_owned();
                diagnostics.send(Update::Said(line)).await.ok()?;
            }
            Some(())
        });
        Ok(Self(child))
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0.id() {
            // It may have ended just now.
            kill(Pid::from_raw(pid.cast_signed()), signal).ok();
        }
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }
}

/// Has the agent end when `top` does, however that ends. The thread that starts it is the main one, which lives longest.
/// The kernel forgets this if the agent switches to another user; then the pipe that nobody reads ends it.
fn end_with(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGTERM)?;
    match getppid() == parent {
        true => Ok(()),
        false => Err(io::ErrorKind::BrokenPipe.into()),
    }
}
