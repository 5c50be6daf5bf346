//! Takes updates, keys and signals, and draws.

use std::io;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crossterm::event::{self, Event, KeyEventKind};
use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc::{self, Receiver};
use tokio::time::{Instant, sleep_until, timeout};

use crate::command::top::config::{Look, SourceConfig, TopConfig};
use crate::command::top::keys::Ui;
use crate::command::top::model::{Model, Update};
use crate::command::top::screen::Screen;
use crate::command::top::source::agent::AgentProcess;
use crate::command::top::source::{MAX_WAITING, server};
use crate::command::top::summary;
use crate::command::top::view::{self, Scene};
use crate::output::diagnostics;
use crate::output::file::print;
use crate::output::terminal;
use crate::output::time::Utc;

/// Between two drawings of new data.
const DATA: Duration = Duration::from_millis(250);
/// Between two drawings after keys.
const KEYS: Duration = Duration::from_millis(30);
/// The header has a clock.
const CLOCK: Duration = Duration::from_secs(1);
/// How long an agent may take for its end. It gives its reader five seconds.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// Measuring goes first.
const NICE: i32 = 10;
/// Keys that may wait.
const MAX_KEYS: usize = 64;

/// The agent that `top` had started has failed.
#[derive(Debug, thiserror::Error)]
#[error("{line}")]
pub struct AgentFailed {
    /// Its last line of diagnostics.
    line: String,
    pub code: u8,
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

enum Wake {
    /// `None`: the agent has ended.
    Update(Option<Update>),
    /// `None`: the terminal is gone.
    Key(Option<Event>),
    Signal,
    Timer,
}

pub async fn run(config: TopConfig) -> Result<()> {
    let signals = Signals::new().context("cannot catch signals")?;
    let (sender, updates) = mpsc::channel(MAX_WAITING);
    // The agent is started before this process becomes nice.
    let (agent, url) = match config.source {
        SourceConfig::Agent { words } => (Some(AgentProcess::start(&words, sender.clone())?), None),
        SourceConfig::Server(config) => {
            let url = config.url.clone();
            tokio::spawn(server::follow(config, sender.clone()));
            (None, Some(url))
        }
    };
    // SAFETY: the call has no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    let said = sender.downgrade();
    drop(sender);
    diagnostics::divert(Some(Box::new(move |line| {
        if let Some(updates) = said.upgrade() {
            // Of more lines than fit, some are left out.
            updates.try_send(Update::Said(line.to_owned())).ok();
        }
    })));
    let mut top = Top {
        signals,
        updates,
        agent,
        url,
        look: config.look,
        model: Model::default(),
        ui: Ui::default(),
        last_line: String::new(),
        end: None,
        killed: false,
    };
    let outcome = top.until_done().await;
    diagnostics::divert(None);
    let ended = top.end().await;
    outcome.and(ended)
}

struct Top {
    signals: Signals,
    updates: Receiver<Update>,
    agent: Option<AgentProcess>,
    url: Option<String>,
    look: Look,
    model: Model,
    ui: Ui,
    /// Of diagnostics: the reason, if the agent fails.
    last_line: String,
    /// The agent has been told to end, and is waited for until then.
    end: Option<Instant>,
    /// It did not end in time, or was not waited for.
    killed: bool,
}

impl Top {
    async fn until_done(&mut self) -> Result<()> {
        if !self.until_first_record().await? {
            return Ok(());
        }
        let mut screen = Screen::open().context("cannot use the terminal")?;
        let (sender, mut keys) = mpsc::channel(MAX_KEYS);
        thread::spawn(move || {
            while let Ok(event) = event::read() {
                if sender.blocking_send(event).is_err() {
                    return;
                }
            }
        });
        let mut drawn = Instant::now();
        let mut due = drawn;
        let mut has_keys = true;
        loop {
            let timer = self.end.map_or(due, |end| end.min(due));
            let wake = tokio::select! {
                () = self.signals.recv() => Wake::Signal,
                key = keys.recv(), if has_keys => Wake::Key(key),
                update = self.updates.recv() => Wake::Update(update),
                () = sleep_until(timer) => Wake::Timer,
            };
            let wants_end = match wake {
                Wake::Update(None) => return Ok(()),
                Wake::Update(Some(update)) => {
                    self.update(update);
                    due = due.min(drawn + DATA);
                    false
                }
                Wake::Key(Some(Event::Key(key))) if key.kind == KeyEventKind::Release => false,
                Wake::Key(Some(Event::Key(key))) => {
                    due = due.min(drawn + KEYS);
                    self.ui.press(key, &self.model)
                }
                Wake::Key(Some(_)) => {
                    due = due.min(drawn + KEYS);
                    false
                }
                Wake::Key(None) => {
                    has_keys = false;
                    true
                }
                Wake::Signal => true,
                Wake::Timer => false,
            };
            if wants_end {
                let Some(agent) = self.agent.as_ref().filter(|_| self.end.is_none()) else {
                    self.killed = self.end.is_some();
                    return Ok(());
                };
                agent.signal(Signal::SIGTERM);
                self.end = Some(Instant::now() + END_TIMEOUT);
                due = drawn + KEYS;
            }
            let now = Instant::now();
            if self.end.is_some_and(|end| now >= end) {
                self.killed = true;
                return Ok(());
            }
            if now >= due {
                self.draw(&mut screen)?;
                drawn = Instant::now();
                due = drawn + CLOCK;
            }
        }
    }

    /// Leaves the terminal as it is until there is something to show, so that errors of the start are lines as ever.
    /// Returns false if it has ended.
    async fn until_first_record(&mut self) -> Result<bool> {
        loop {
            let update = tokio::select! {
                () = self.signals.recv() => {
                    if let Some(agent) = &self.agent {
                        agent.signal(Signal::SIGTERM);
                    }
                    return Ok(false);
                }
                update = self.updates.recv() => update,
            };
            match update {
                None => return Ok(false),
                Some(Update::Lost(why)) => bail!("{why}"),
                Some(update) => {
                    let is_first = matches!(update, Update::Record(..) | Update::Found);
                    self.update(update);
                    if is_first {
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn update(&mut self, update: Update) {
        if let Update::Said(line) = &update {
            self.last_line.clone_from(line);
        }
        self.model.update(update, Utc::now());
    }

    fn draw(&mut self, screen: &mut Screen) -> Result<()> {
        let Self {
            model, ui, url, look, ..
        } = self;
        let scene = Scene {
            url: url.as_deref(),
            is_ending: self.end.is_some(),
            now: Utc::now(),
        };
        let drawn = screen.draw(|frame| view::draw(frame, model, ui, &scene, *look));
        // A terminal that is gone sends SIGHUP.
        drawn.or_else(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(()),
            _ if error.raw_os_error() == Some(libc::EIO) => Ok(()),
            _ => Err(error).context("cannot draw"),
        })
    }

    /// Waits for the agent, and prints its summary or returns its error.
    async fn end(&mut self) -> Result<()> {
        let Some(mut agent) = self.agent.take() else {
            return Ok(());
        };
        if self.killed {
            agent.signal(Signal::SIGKILL);
        }
        let rest = async {
            while let Some(update) = self.updates.recv().await {
                self.update(update);
            }
            agent.wait().await
        };
        let Ok(status) = timeout(END_TIMEOUT, rest).await else {
            agent.signal(Signal::SIGKILL);
            bail!("the agent did not end, and was killed");
        };
        let status = status.context("cannot wait for the agent")?;
        if self.killed {
            bail!("the agent was not waited for, and killed: there is no summary");
        }
        if !status.success() {
            let line = match self.last_line.strip_prefix("kstamp: ") {
                Some(line) => line.to_owned(),
                None => format!("the agent failed: {status}"),
            };
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Err(AgentFailed { line, code }.into());
        }
        let mut text = Vec::new();
        summary::write(&self.model, terminal::columns(), &mut text)?;
        // The terminal may be gone.
        let _ = print(&String::from_utf8_lossy(&text));
        Ok(())
    }
}
