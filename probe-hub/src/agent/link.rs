//! The thread of a link: connects, delivers what waits, and takes assignments, questions and notices.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State as ClientState;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::{Client, HeaderMap, Message};
use futures_util::StreamExt as _;
use log::{error, info, warn};
use nkeys::KeyPair;
use probe_core::text::plain;
use probe_host::clock::{monotonic_ns, realtime_ns};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, Interval as Ticks, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::agent::config::LinkConfig;
use crate::agent::kept::Kept;
use crate::agent::limits::{RefusedTarget, limit};
use crate::agent::log_lines::{Allowance, Said};
use crate::agent::outbox::{Outbox, Outgoing, Ticket};
use crate::agent::recorder::Item;
use crate::agent::request::{Reply, Request};
use crate::agent::spool::Spool;
use crate::agent::status::{Shared, State};
use crate::connection::{self, Problem, REQUEST_TIMEOUT, Refusal, authorization_is_violated, publish};
use crate::message::assignment::{Assignment, SIGNATURE};
use crate::message::event::{Answer, Notice, Session};
use crate::message::heartbeat::{self, Heartbeat};
use crate::message::presence::Presence;
use crate::message::windows::MESSAGE_ID;
use crate::name::PortName;
use crate::subjects;

/// Time between two looks at the newest assignment.
const FETCH_INTERVAL: Duration = Duration::from_secs(60);
/// Before a message is sent again that the server refused.
const PAUSE: Duration = Duration::from_secs(2);
/// Before the reason of a failing connection is looked for again.
const DIAGNOSIS_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the measuring loop to answer a question, and questions at a time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_QUESTIONS: usize = 16;
/// Time between two looks whether the process before has ended.
const PREDECESSOR_INTERVAL: Duration = Duration::from_millis(50);
const MAX_NOTICE_LEN: usize = 300;

/// The thread's ends of what it shares with the loop.
pub struct Ends {
    pub items: mpsc::Receiver<Item>,
    pub requests: mpsc::Sender<Request>,
    pub presence: watch::Receiver<Presence>,
    pub shared: Arc<Shared>,
}

/// Runs until the loop ends the link.
pub fn run(config: LinkConfig, ends: Ends) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(work(config, ends)),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = outcome {
        error!("the fleet cannot be reached: {error:#}. Measuring goes on without it");
    }
}

async fn work(config: LinkConfig, ends: Ends) -> anyhow::Result<()> {
    let Ends {
        mut items,
        requests,
        mut presence,
        shared,
    } = ends;
    let (event_sender, mut events) = mpsc::channel(64);
    let client = connection::connect(&config.credentials, move |event| {
        let sender = event_sender.clone();
        async move {
            let _ = sender.send(event).await;
        }
    })
    .await?;
    let Presence { port, boot, .. } = presence.borrow_and_update().clone();
    let assignment = subjects::entry(subjects::ASSIGNMENT, &port.tokens());
    let mut assignments = client.subscribe(assignment.clone()).await?;
    let mut questions = client.subscribe(subjects::question(&port)).await?;
    let mut notices = client.subscribe(subjects::notice(&port)).await?;
    let directory = config.buffer.join(port.tokens());
    // The process before may still be at its end.
    let until = Instant::now() + REQUEST_TIMEOUT;
    while Spool::is_taken(&directory) && Instant::now() < until {
        sleep(PREDECESSOR_INTERVAL).await;
    }
    let hub = KeyPair::from_public_key(&config.credentials.hub)?;
    let mut worker = Worker {
        outbox: Outbox::open(&directory, config.buffer_size, port.clone(), boot),
        kept: Kept::new(&directory, hub, port.clone()),
        newest: subjects::newest(&format!("KV_{}", subjects::ASSIGNMENT), &assignment),
        directory,
        config,
        client,
        port,
        boot,
        presence: presence.clone(),
        requests,
        shared,
        refused_targets: Vec::new(),
        waiting_assignment: None,
        state: State::Connecting,
        tasks: JoinSet::new(),
        sending: None,
        sent: HashMap::new(),
        stored: HashMap::new(),
        send_after: Instant::now(),
        announcement: 0,
        is_announced: false,
        is_ending: false,
        questions: 0,
        diagnosed: None,
        counted_dropped: 0,
        said: Lines::default(),
    };
    let assignment = worker.kept.load();
    worker.assign(assignment);
    let mut heartbeats = ticks(Duration::from_nanos(heartbeat::INTERVAL_NS));
    let mut fetches = ticks(FETCH_INTERVAL);
    let mut end: Option<(Instant, oneshot::Sender<()>)> = None;
    while !end.as_ref().is_some_and(|(until, _)| worker.is_done(*until)) {
        worker.hand_over();
        worker.send_next();
        worker.share();
        let wake_up = worker.wake_up(end.as_ref().map(|(until, _)| *until));
        tokio::select! {
            Some(event) = events.recv() => {
                if worker.connection_event(event) {
                    heartbeats.reset_immediately();
                    fetches.reset_immediately();
                }
            }
            item = items.recv(), if end.is_none() => match item {
                Some(Item::Interval(interval)) => worker.outbox.interval(&interval),
                Some(Item::Event(what)) => worker.outbox.event(what),
                Some(Item::Finish { timeout, done }) => {
                    worker.outbox.finish_rollups();
                    worker.is_ending = true;
                    worker.announce();
                    end = Some((Instant::now() + timeout, done));
                }
                // The loop has not ended as it should.
                None => {
                    worker.outbox.finish_rollups();
                    break;
                }
            },
            Ok(()) = presence.changed() => worker.announce(),
            Some(done) = worker.tasks.join_next() => {
                // One that was aborted has done nothing.
                if let Ok(done) = done {
                    worker.done(done);
                }
            }
            Some(message) = assignments.next() => worker.take_assignment(&message),
            Some(message) = questions.next() => worker.question(message),
            Some(message) = notices.next() => worker.notice(&message),
            _ = heartbeats.tick() => worker.heartbeat().await,
            _ = fetches.tick() => worker.fetch(),
            () = sleep_until(wake_up) => {}
        }
    }
    worker.share();
    // The next process may have the directory now.
    drop(worker);
    if let Some((_, done)) = end {
        let _ = done.send(());
    }
    Ok(())
}

fn ticks(period: Duration) -> Ticks {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

struct Worker {
    config: LinkConfig,
    directory: PathBuf,
    client: Client,
    port: PortName,
    boot: u64,
    presence: watch::Receiver<Presence>,
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    outbox: Outbox,
    kept: Kept,
    /// Subject of the request for the newest assignment.
    newest: String,
    /// Of the last assignment: each is reported once.
    refused_targets: Vec<RefusedTarget>,
    /// The loop has no room for it yet.
    waiting_assignment: Option<Assignment>,
    state: State,
    tasks: JoinSet<Done>,
    /// The message that was sent and is not acknowledged yet. There is one at a time: with several, a lost connection could
    /// change their order, and a hub takes numbers that fall for repetitions.
    sending: Option<AbortHandle>,
    /// The last message of each subject that was sent.
    sent: HashMap<String, Ticket>,
    /// Where the last message of each subject is in its stream.
    stored: HashMap<String, u64>,
    send_after: Instant,
    /// The number of the last announcement, and whether the server has it.
    announcement: u64,
    is_announced: bool,
    is_ending: bool,
    /// Questions that the loop has not answered yet.
    questions: usize,
    /// When the reason of a failing connection was last looked for.
    diagnosed: Option<Instant>,
    counted_dropped: u64,
    said: Lines,
}

/// Which log lines were written, so that none is repeated.
#[derive(Default)]
struct Lines {
    is_full: Said,
    refusal: Said,
    presence_refusal: Said,
    violation: Said,
    notices: Allowance,
}

/// What a task has done.
enum Done {
    Sent {
        ticket: Ticket,
        /// It was sent before, and no answer came.
        is_repeated: bool,
        subject: String,
        outcome: Result<u64, Refusal>,
    },
    Announced {
        announcement: u64,
        outcome: Result<u64, Refusal>,
    },
    Fetched(Option<Message>),
    Diagnosed(Result<(), Problem>),
    Answered,
}

impl Worker {
    fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    fn is_done(&self, until: Instant) -> bool {
        let is_all_said = self.outbox.waiting() == 0 && self.is_announced;
        is_all_said || !self.is_connected() || Instant::now() >= until
    }

    fn wake_up(&self, end: Option<Instant>) -> Instant {
        let now = Instant::now();
        let is_paused = self.send_after > now && self.outbox.waiting() > 0 && self.sending.is_none();
        let send = is_paused.then_some(self.send_after);
        // The loop makes room at once.
        let hand_over = self.waiting_assignment.as_ref().map(|_| now + ANSWER_TIMEOUT);
        let times = [send, hand_over, end].into_iter().flatten();
        times.min().unwrap_or(now + FETCH_INTERVAL)
    }

    /// Returns whether it is a new connection.
    fn connection_event(&mut self, event: async_nats::Event) -> bool {
        match event {
            async_nats::Event::Connected => {
                self.connected();
                return true;
            }
            async_nats::Event::Disconnected => self.set_state(State::Lost, "it broke off"),
            async_nats::Event::ClientError(error) if authorization_is_violated(&error) => {
                let name = &self.config.credentials.name;
                let reason = format!(
                    "it does not know the key of {name}, or no longer; run `kstamp hub enroll {name} --prefix PREFIX --replace` and use the new file"
                );
                self.set_state(State::Refused, &reason);
            }
            async_nats::Event::ClientError(_) => self.diagnose(),
            async_nats::Event::ServerError(error) => {
                let text = plain(&error.to_string(), MAX_NOTICE_LEN);
                if self.said.violation.is_new(&text) {
                    warn!("the hub's server says: {text}");
                }
            }
            _ => {}
        }
        false
    }

    fn connected(&mut self) {
        let server = self.client.server_info();
        let too_old = connection::too_old_of(&self.config.credentials, &server);
        if let Some(why) = too_old.filter(|_| !server.version.is_empty()) {
            self.set_state(State::Refused, &why);
            return;
        }
        self.set_state(State::Connected, "");
        // The message in flight is sent again, with the same identifier, unless its outcome is known.
        if let Some(sending) = self.sending.take_if(|sending| !sending.is_finished()) {
            sending.abort();
        }
        self.send_after = Instant::now();
        self.announce();
    }

    /// Says each change once.
    fn set_state(&mut self, state: State, reason: &str) {
        let before = self.shared.status();
        let is_new = match state {
            _ if before.state != state => true,
            State::Refused => before.reason != reason,
            // Whether a server refuses connections or does not answer makes no difference.
            State::Connecting => before.reason.is_empty(),
            State::Connected | State::Lost => false,
        };
        self.state = state;
        self.shared.set_state(state, reason);
        if !is_new {
            return;
        }
        let goes_on = format!("Measuring goes on, and results wait in {}", self.directory.display());
        match state {
            State::Connecting => warn!("cannot reach the hub's server: {reason}. {goes_on}"),
            State::Connected => info!("{} is connected to the hub's server", self.port),
            State::Lost => warn!("the connection to the hub's server is lost. {goes_on}"),
            State::Refused => error!("the hub's server cannot be used: {reason}. {goes_on}"),
        }
    }

    /// Looks for the reason why there is no connection.
    fn diagnose(&mut self) {
        if self.diagnosed.is_some_and(|last| last.elapsed() < DIAGNOSIS_INTERVAL) || self.is_connected() {
            return;
        }
        self.diagnosed = Some(Instant::now());
        let credentials = self.config.credentials.clone();
        self.tasks
            .spawn(async move { Done::Diagnosed(connection::diagnose(&credentials).await) });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Sent {
                ticket,
                is_repeated,
                subject,
                outcome,
            } => self.sent(ticket, is_repeated, subject, outcome),
            Done::Announced { announcement, outcome } => {
                if announcement == self.announcement {
                    self.is_announced = outcome.is_ok();
                }
                if let Err(Refusal::Refused(why)) = outcome
                    && self.said.presence_refusal.is_new(&why)
                {
                    error!(
                        "the hub's server does not take the presence of {}: {}",
                        self.port,
                        plain(&why, MAX_NOTICE_LEN)
                    );
                }
            }
            Done::Fetched(message) => message.iter().for_each(|message| self.take_assignment(message)),
            Done::Diagnosed(_) if self.is_connected() => {}
            Done::Diagnosed(Ok(())) => {}
            Done::Diagnosed(Err(Problem::Unreachable(why))) => {
                let state = match self.state {
                    State::Lost => State::Lost,
                    _ => State::Connecting,
                };
                self.set_state(state, &why);
            }
            Done::Diagnosed(Err(Problem::Refused(why))) => self.set_state(State::Refused, &why),
            Done::Answered => self.questions -= 1,
        }
    }

    fn share(&mut self) {
        let dropped = self.outbox.dropped();
        if dropped > self.counted_dropped {
            self.shared.add_dropped(dropped - self.counted_dropped);
            self.counted_dropped = dropped;
            if self.said.is_full.is_new("full") {
                warn!(
                    "there is no room for more results in {} ({} MiB), or files there were damaged: the oldest are dropped",
                    self.directory.display(),
                    self.config.buffer_size >> 20
                );
            }
        }
        if self.outbox.waiting() == 0 {
            self.said.is_full.clear();
        }
        self.shared.set_waiting(self.outbox.waiting(), self.outbox.bytes());
    }

    /// Sends the next message, unless one is on its way.
    fn send_next(&mut self) {
        if !self.is_connected() || self.sending.is_some() || Instant::now() < self.send_after {
            return;
        }
        let Some(Outgoing {
            ticket,
            subject,
            id,
            payload,
        }) = self.outbox.first()
        else {
            return;
        };
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, id);
        // A server recognises identifiers for some minutes only.
        if let Some(sequence) = self.stored.get(&subject) {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, sequence.to_string());
        }
        let is_repeated = self.sent.insert(subject.clone(), ticket) == Some(ticket);
        let client = self.client.clone();
        let send = async move {
            let outcome = publish(&client, subject.clone(), headers, payload).await;
            Done::Sent {
                ticket,
                is_repeated,
                subject,
                outcome,
            }
        };
        self.sending = Some(self.tasks.spawn(send));
    }

    fn sent(&mut self, ticket: Ticket, is_repeated: bool, subject: String, outcome: Result<u64, Refusal>) {
        self.sending = None;
        match outcome {
            Ok(sequence) => self.delivered(ticket, subject, sequence),
            Err(Refusal::OtherSequence(found)) => match (self.stored.remove(&subject), found) {
                // Nobody else writes there: it was stored, and the acknowledgement was lost.
                (Some(before), Some(found)) if is_repeated && found > before => self.delivered(ticket, subject, found),
                _ => {}
            },
            Err(Refusal::TooLarge(why)) => {
                self.outbox.give_up(ticket);
                self.refused(&why);
            }
            Err(refusal) => {
                self.send_after = Instant::now() + PAUSE;
                match refusal {
                    Refusal::Refused(why) => self.refused(&why),
                    // Also an answer does not come when the connection is lost.
                    _ if self.is_connected() => {
                        self.refused("it does not acknowledge them; check the hub and its log, such as for a full disk")
                    }
                    _ => {}
                }
            }
        }
    }

    fn delivered(&mut self, ticket: Ticket, subject: String, sequence: u64) {
        self.stored.insert(subject, sequence);
        self.outbox.delivered(ticket);
        self.shared.add_delivered();
        if self.said.refusal.clear() {
            info!("the hub's server takes results of {} again", self.port);
        }
    }

    fn refused(&mut self, why: &str) {
        let why = plain(why, MAX_NOTICE_LEN);
        if self.said.refusal.is_new(&why) {
            error!(
                "the hub's server does not take results: {why}. Measuring goes on, and they wait in {}",
                self.directory.display()
            );
        }
    }

    // What the port is.

    fn announce(&mut self) {
        self.is_announced = false;
        if !self.is_connected() {
            return;
        }
        let mut presence = self.presence.borrow().clone();
        presence.ended = self.is_ending;
        let subject = subjects::entry(subjects::PRESENCE, &self.port.tokens());
        let client = self.client.clone();
        self.announcement += 1;
        let announcement = self.announcement;
        self.tasks.spawn(async move {
            let content = serde_json::to_vec(&presence).unwrap_or_default();
            let outcome = publish(&client, subject, HeaderMap::new(), content).await;
            Done::Announced { announcement, outcome }
        });
    }

    async fn heartbeat(&mut self) {
        // The client loses events when it has too many.
        if self.client.connection_state() == ClientState::Connected && !self.is_connected() {
            self.connected();
        }
        if !self.is_connected() {
            return;
        }
        if !self.is_announced {
            self.announce();
        }
        let status = self.shared.status();
        let heartbeat = Heartbeat {
            boot: self.boot,
            sent_ns: realtime_ns(),
            generation: status.generation,
            peers: status.peers,
            up: status.up,
            waiting: status.waiting,
            dropped: status.dropped,
        };
        let subject = subjects::heartbeat(&self.port);
        let publish = pin!(self.client.publish(subject, heartbeat.encode_to_vec().into()));
        // Without room for it, the next one will do.
        let _ = timeout(ANSWER_TIMEOUT, publish).await;
    }

    // Requests of the hub.

    fn fetch(&mut self) {
        if !self.is_connected() {
            return;
        }
        let (client, subject) = (self.client.clone(), self.newest.clone());
        self.tasks.spawn(async move {
            let reply = timeout(REQUEST_TIMEOUT, client.request(subject, Vec::new().into())).await;
            // There may be none: then the reply is an error.
            let found = reply
                .ok()
                .and_then(Result::ok)
                .filter(|message| message.status.is_none());
            Done::Fetched(found)
        });
    }

    fn take_assignment(&mut self, message: &Message) {
        let header = |name: &str| {
            message
                .headers
                .as_ref()
                .and_then(|headers: &HeaderMap| headers.get(name))
        };
        if let Some(signature) = header(SIGNATURE) {
            let assignment = self.kept.take(&message.payload, signature.as_str());
            self.assign(assignment);
        } else if header("KV-Operation").is_none() {
            self.kept.take(&message.payload, "");
        }
    }

    fn assign(&mut self, assignment: Option<Assignment>) {
        let Some(mut assignment) = assignment else { return };
        let max_peers = self.presence.borrow().max_peers;
        let refused = limit(&mut assignment, &self.config.allow, max_peers);
        let before = std::mem::replace(&mut self.refused_targets, refused.clone());
        for target in refused.into_iter().filter(|target| !before.contains(target)) {
            self.outbox.event(target.into());
        }
        self.waiting_assignment = Some(assignment);
    }

    fn hand_over(&mut self) {
        if let Some(assignment) = self.waiting_assignment.take()
            && let Err(error) = self.requests.try_send(Request::Assign(assignment))
            && let Request::Assign(assignment) = error.into_inner()
        {
            self.waiting_assignment = Some(assignment);
        }
    }

    fn question(&mut self, message: Message) {
        let Some(reply_to) = message.reply else { return };
        let Ok(session) = serde_json::from_slice::<Session>(&message.payload) else {
            return;
        };
        if self.questions == MAX_QUESTIONS {
            return;
        }
        let (sender, answer) = oneshot::channel();
        if self
            .requests
            .try_send(Request::Replies(session, Reply(sender)))
            .is_err()
        {
            return;
        }
        self.questions += 1;
        let client = self.client.clone();
        self.tasks.spawn(async move {
            if let Ok(Ok(replies)) = timeout(ANSWER_TIMEOUT, answer).await {
                let content = serde_json::to_vec(&Answer { replies }).unwrap_or_default();
                let _ = timeout(ANSWER_TIMEOUT, client.publish(reply_to, content.into())).await;
            }
            Done::Answered
        });
    }

    fn notice(&mut self, message: &Message) {
        if let Ok(Notice { line }) = serde_json::from_slice(&message.payload)
            && self.said.notices.take(monotonic_ns())
        {
            warn!("the hub says about {}: {}", self.port, plain(&line, MAX_NOTICE_LEN));
        }
    }
}
