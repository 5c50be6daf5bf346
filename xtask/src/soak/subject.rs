//! One agent of a soak: its process, its metrics and its files.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::lab::{AgentNs, Lab, within};
use crate::process::{descriptors, status_kib};
use crate::run::agent::Agent;
use crate::soak::records::Records;
use crate::{exec, signals};

/// How long kstamp may take to start, to open its files again, and to answer.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const REOPEN_TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

const LISTEN: &str = "127.0.0.1:9862";

/// A running agent.
pub(super) struct Subject {
    agent: Agent,
    place: AgentNs,
    results: PathBuf,
    samples: PathBuf,
    errors: PathBuf,
    records: Records,
}

/// Memory and descriptors at one time. Memory is what it has allocated: the kernel loads pages of the program when they run
/// first, and takes them back as it likes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) kib: u64,
    pub(super) descriptors: usize,
}

impl Subject {
    /// Starts an agent at `place` that probes `peer`, and waits until it measures.
    pub(super) fn start(lab: &Lab, kstamp: &Path, place: &AgentNs, peer: &AgentNs, flags: &str) -> Result<Self> {
        let file = |what: &str| Ok::<_, anyhow::Error>(lab.scratch()?.join(format!("{}.{what}", place.namespace)));
        let (results, samples, errors) = (file("results")?, file("samples")?, file("errors")?);
        let mut command = lab.command(&place.namespace, kstamp, ["agent", "--iface", &place.interface]);
        command.args(
            format!(
                "--family v4 --no-group --peer {} --format jsonl --listen {LISTEN}",
                peer.v4
            )
            .split(' '),
        );
        command.args(flags.split_whitespace());
        command.arg("--output").arg(&results).arg("--samples").arg(&samples);
        command.stderr(File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?);
        let mut subject = Self {
            agent: Agent::start(command)?,
            place: place.clone(),
            results,
            samples,
            errors,
            records: Records::default(),
        };
        let started = exec::wait_until(START_TIMEOUT, || {
            let text = fs::read_to_string(&subject.results).unwrap_or_default();
            text.contains(r#""type":"start""#) || subject.agent.status().is_ok_and(|status| status.is_some())
        });
        if subject.has_ended()? || !started {
            bail!("{} did not start: {}", place.namespace, subject.last_error());
        }
        Ok(subject)
    }

    pub(super) fn place(&self) -> &AgentNs {
        &self.place
    }

    /// The samples in the files that were rotated.
    pub(super) fn samples(&self) -> u64 {
        self.records.samples()
    }

    /// Fails if it has failed.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        match self.agent.status()? {
            Some(status) if !status.success() => {
                bail!("{} failed ({status}): {}", self.place.namespace, self.last_error());
            }
            status => Ok(status.is_some()),
        }
    }

    fn last_error(&self) -> String {
        let text = fs::read_to_string(&self.errors).unwrap_or_default();
        text.lines().last().unwrap_or("it printed nothing").to_owned()
    }

    /// Reads its memory and descriptors, then scrapes it: until the next look that connection is closed.
    pub(super) fn look(&self) -> Result<Look> {
        let pid = self.agent.id();
        let look = Look {
            kib: status_kib(pid, "RssAnon:")?,
            descriptors: descriptors(pid)?,
        };
        within(&self.place.namespace, scrape).context("cannot scrape")?;
        Ok(look)
    }

    /// Renames its files as logrotate does, and counts and removes what was in them.
    pub(super) fn rotate(&mut self) -> Result<()> {
        let files = [self.results.clone(), self.samples.clone()];
        for path in &files {
            fs::rename(path, rotated(path)).with_context(|| format!("cannot rename {}", path.display()))?;
        }
        self.agent.signal(Signal::SIGHUP);
        let reopened = exec::wait_until(REOPEN_TIMEOUT, || files.iter().all(|path| path.exists()));
        // An agent that has just ended has written to the renamed files.
        if self.has_ended()? {
            return Ok(());
        }
        if !reopened {
            signals::check()?;
            bail!("{} does not open its files again", self.place.namespace);
        }
        files.iter().try_for_each(|path| self.take(&rotated(path)))
    }

    /// Counts the records of a file that is complete, and removes it.
    fn take(&mut self, path: &Path) -> Result<()> {
        self.records.add(path)?;
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Ends it if it runs, and returns what is wrong with its records.
    pub(super) fn finish(mut self) -> Result<Vec<String>> {
        self.agent.finish()?;
        self.has_ended()?;
        let files = [self.results.clone(), self.samples.clone()];
        let all = files.iter().flat_map(|path| [rotated(path), path.clone()]);
        for path in all.filter(|path| path.exists()) {
            self.take(&path)?;
        }
        println!("{}: {}", self.place.namespace, self.records);
        Ok(self.records.wrong())
    }
}

fn rotated(path: &Path) -> PathBuf {
    path.with_added_extension("1")
}

/// Reads the metrics, as Prometheus does.
fn scrape() -> Result<()> {
    let mut stream = TcpStream::connect(LISTEN)?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {LISTEN}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    match reply.split_once("\r\n") {
        Some((status, text)) if status.contains(" 200 ") && text.contains("kstamp_build_info") => Ok(()),
        _ => bail!("the reply is {:?}", reply.lines().next()),
    }
}
