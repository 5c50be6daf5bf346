//! The thread that keeps a copy of the database.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use serde_json::{Value, json};

use crate::ovs::database::{Database, Updates, monitor_params};
use crate::ovs::facts::{PortFacts, Wanted};
use crate::ovs::jsonrpc::{self, Connection, Envelope, RpcError, request};
use crate::privileges::drop_all_of_thread;

/// To connect, and until the first answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A database that sends nothing for so long is asked for an echo, and is away if it sends nothing for as long again.
const SILENCE: Duration = Duration::from_secs(30);
/// A connection has lasted if the database is still read after this time. Until then, it counts as away if it was away before.
const LASTING: Duration = Duration::from_secs(5);
/// Time between two attempts. It doubles after each, until a connection has lasted.
const MIN_WAIT: Duration = Duration::from_millis(500);
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Identifiers of requests, and of the monitor.
const MONITOR: &str = "kstamp";
const ECHO: &str = "echo";

#[derive(Debug, Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    database: Option<Database>,
    generation: u64,
    /// The first attempt has ended, well or not.
    was_tried: bool,
    has_stopped: bool,
    /// To end a read.
    stream: Option<UnixStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait(&self, timeout: Duration) {
        let state = self.lock();
        // Whichever comes first.
        let _ = self
            .changed
            .wait_timeout_while(state, timeout, |state| !state.was_tried);
    }

    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    pub fn facts_of(&self, wanted: &Wanted) -> Option<PortFacts> {
        self.lock().database.as_ref()?.facts_of(wanted)
    }

    pub fn stop(&self) {
        let mut state = self.lock();
        state.has_stopped = true;
        if let Some(stream) = state.stream.take() {
            // It fails if the other end has closed it.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// Returns whether to go on.
    fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.has_stopped);
        waited.is_ok_and(|(state, _)| !state.has_stopped)
    }

    /// Returns whether to go on.
    fn set_stream(&self, stream: &UnixStream) -> Result<bool, RpcError> {
        let stream = stream.try_clone()?;
        let mut state = self.lock();
        state.stream = Some(stream);
        Ok(!state.has_stopped)
    }

    fn replace(&self, database: Database) {
        let mut state = self.lock();
        state.database = Some(database);
        state.generation += 1;
        state.was_tried = true;
        self.changed.notify_all();
    }

    fn apply(&self, updates: Updates) {
        let mut state = self.lock();
        if let Some(database) = &mut state.database {
            database.apply(updates);
            state.generation += 1;
        }
    }

    /// Returns whether to go on.
    fn failed(&self) -> bool {
        let mut state = self.lock();
        state.was_tried = true;
        state.stream = None;
        self.changed.notify_all();
        !state.has_stopped
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    jsonrpc::connect(socket, ANSWER_TIMEOUT)
}

/// A first connection to a database, made before privileges are dropped.
#[derive(Debug)]
pub struct Source {
    socket: PathBuf,
    first: io::Result<UnixStream>,
}

impl Source {
    pub fn connect(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            first: connect(socket),
        }
    }
}

/// Starts the thread, which goes on with whatever came of the first connection.
pub fn start(Source { socket, first }: Source) -> io::Result<Arc<Shared>> {
    let shared = Arc::new(Shared::default());
    let follower = Follower {
        shared: Arc::clone(&shared),
        socket,
        lasting: LASTING,
        wait: MIN_WAIT,
        is_away: false,
    };
    thread::Builder::new()
        .name("kstamp-ovsdb".to_owned())
        .spawn(move || follower.run(first))?;
    Ok(shared)
}

struct Follower {
    shared: Arc<Shared>,
    socket: PathBuf,
    /// [`LASTING`]; shorter in tests.
    lasting: Duration,
    /// Until the next attempt.
    wait: Duration,
    /// That the database is away has been said.
    is_away: bool,
}

impl Follower {
    fn run(mut self, first: io::Result<UnixStream>) {
        drop_all_of_thread();
        let mut stream = first;
        loop {
            let outcome = stream.map_err(RpcError::from).and_then(|stream| self.follow(stream));
            let Err(error) = outcome else { return };
            if !self.shared.failed() {
                return;
            }
            self.away(&error);
            if !self.shared.pause(self.wait) {
                return;
            }
            self.wait = (self.wait * 2).min(MAX_WAIT);
            stream = connect(&self.socket);
        }
    }

    /// Returns when it is to stop.
    fn follow(&mut self, stream: UnixStream) -> Result<(), RpcError> {
        if !self.shared.set_stream(&stream)? {
            return Ok(());
        }
        let mut connection = Connection::new(stream);
        connection.send(&request(MONITOR, "monitor", &monitor_params(MONITOR)))?;
        let mut read_at: Option<Instant> = None;
        let mut has_lasted = false;
        let mut is_asked = false;
        loop {
            let message = connection.receive()?;
            if !has_lasted && read_at.is_some_and(|read_at| read_at.elapsed() >= self.lasting) {
                has_lasted = true;
                connection.set_limit(SILENCE)?;
                self.lasted();
            }
            let Some(message) = message else {
                if read_at.is_none() {
                    return Err(RpcError::Silent(ANSWER_TIMEOUT));
                } else if is_asked {
                    return Err(RpcError::Silent(SILENCE));
                }
                is_asked = true;
                connection.send(&request(ECHO, "echo", &json!([])))?;
                continue;
            };
            is_asked = false;
            let envelope = Envelope::of(&message)?;
            match envelope.method.as_deref() {
                Some("echo") => connection.send(&echo_reply(&message)?)?,
                Some("update") if read_at.is_some() => self.shared.apply(Updates::of_update(&message)?),
                None if read_at.is_none() && envelope.answers(MONITOR, "monitor")? => {
                    let mut database = Database::default();
                    database.apply(Updates::of_reply(&message)?);
                    self.shared.replace(database);
                    connection.set_limit(self.lasting)?;
                    read_at = Some(Instant::now());
                }
                _ => {}
            }
        }
    }

    fn away(&mut self, error: &RpcError) {
        let socket = self.socket.display();
        if std::mem::replace(&mut self.is_away, true) {
            debug!("Open vSwitch's database at {socket}: {error}");
            return;
        }
        let advice = match error {
            RpcError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "give this user access to the socket, or use --ovsdb none"
            }
            _ => "trying again",
        };
        warn!("cannot read Open vSwitch's database at {socket}: {error}; {advice}. Measuring goes on");
    }

    fn lasted(&mut self) {
        self.wait = MIN_WAIT;
        if std::mem::take(&mut self.is_away) {
            info!("Open vSwitch's database at {} is read again", self.socket.display());
        }
    }
}

fn echo_reply(request: &[u8]) -> Result<Vec<u8>, RpcError> {
    let request: Value = serde_json::from_slice(request)?;
    let reply = json!({ "id": request["id"], "result": request["params"], "error": null });
    Ok(reply.to_string().into_bytes())
}

#[cfg(test)]
mod tests;
