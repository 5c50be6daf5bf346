//! Feeds the alerts: takes events, asks reflectors, looks at heartbeats, and posts what changes if this hub coordinates.
//!
//! Raised alerts, and changes that were not posted yet, are kept in the hubs' bucket: a hub that takes over goes on with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_nats::client::Request;
use async_nats::connection::State as ConnectionState;
use async_nats::jetstream::kv::UpdateErrorKind;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::fleet::{Fleet, Now, Port, PortId};
use super::handle::Hub;
use crate::hub::alerts::loss::Verdict;
use crate::hub::alerts::share::Shares;
use crate::hub::alerts::{Alert, Change, DOWN_NS, HostLife, PairLife, Silent};
use crate::hub::follow::{Step, follow};
use crate::hub::problems::ProblemKind;
use crate::hub::webhook::Webhook;
use crate::message::event::{Answer, Event, Silence, What};
use crate::name::{HostName, PortName};
use crate::subjects::{self, EVENTS, HUB};

/// A hub that starts reads the events of this time.
const BACKLOG_NS: u64 = 600_000_000_000;
/// Time for a reflector to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Questions that are open at once. Further silent pairs count as not answered.
const MAX_QUESTIONS: usize = 1024;
/// Questions about silences that one host reports, which may be false: so many at once, and then one in each interval.
const QUESTIONS_OF_HOST: u64 = 256;
const QUESTION_INTERVAL_NS: u64 = 100_000_000;
/// Time for the last posts when the hub stops.
const LAST_POSTS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(1);
/// Results of before are on their way for this time after a connection was lost.
const SETTLE_NS: u64 = 60_000_000_000;
/// A silence may come from the start of the peer's process, unless it began this long after the process was first seen.
const RESTART_NS: u64 = 10_000_000_000;
/// Bytes of an entry; a server takes 1 MiB.
const MAX_STORED: usize = 900_000;
/// Key in [`HUB`].
const KEY: &str = "alerts";

/// What is kept for the next hub that coordinates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Stored {
    raised: Vec<Alert>,
    unsent: Vec<Change>,
}

impl Stored {
    /// Without the oldest unsent changes, if there are too many.
    fn write(&self) -> serde_json::Result<Vec<u8>> {
        let mut content = serde_json::to_vec(self)?;
        let mut rest = self.clone();
        while content.len() > MAX_STORED && !rest.unsent.is_empty() {
            rest.unsent.drain(..rest.unsent.len().div_ceil(2));
            content = serde_json::to_vec(&rest)?;
        }
        Ok(content)
    }
}

type Pair = (PortName, PortName);

#[derive(Debug)]
struct State {
    /// How many questions each host may still cause.
    questions: Shares,
    /// Silent pairs whose reflectors are asked.
    asked: HashMap<Pair, Silence>,
    /// The process of each port, and since when it is known (UTC); 0 for those that were there when this hub had loaded the
    /// fleet. `None` before that.
    boots: Option<HashMap<PortId, (u64, u64)>>,
    /// `CLOCK_MONOTONIC` since when this hub hears heartbeats; `None` without a connection.
    listens_ns: Option<u64>,
    /// While this hub coordinates, and has taken over the alerts of the one before: the entry in the bucket, and its revision.
    kept: Option<(Stored, u64)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            questions: Shares::new(QUESTIONS_OF_HOST, QUESTION_INTERVAL_NS),
            asked: HashMap::new(),
            boots: None,
            listens_ns: None,
            kept: None,
        }
    }
}

struct Alerting {
    hub: Hub,
    state: Mutex<State>,
    webhook: Option<Webhook>,
    changed: Arc<Notify>,
}

pub(super) async fn run(hub: Hub) {
    let changed = Arc::new(Notify::new());
    let start = |url: &String| {
        let changed = Arc::clone(&changed);
        Webhook::start(url.clone(), hub.config().name.clone(), move || changed.notify_one())
    };
    let webhook = match hub.config().webhook.as_ref().map(start).transpose() {
        Ok(webhook) => webhook,
        Err(error) => {
            log::error!("{error:#}; alerts are not posted");
            None
        }
    };
    let alerting = Alerting {
        hub: hub.clone(),
        state: Mutex::default(),
        webhook,
        changed: Arc::clone(&changed),
    };
    let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
    tokio::select! {
        () = alerting.take_events(questions) => {}
        () = alerting.ask(asked) => {}
        () = alerting.tick() => {}
    }
}

impl Alerting {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take_events(&self, questions: mpsc::Sender<Pair>) {
        self.hub.loaded().await;
        // Events resolve what was raised before.
        match self.stored().await {
            Ok((stored, _)) => self.hub.alerts().adopt(stored.raised, Now::read().utc_ns),
            Err(error) => log::warn!("the alerts in the bucket {HUB} cannot be read: {error:#}"),
        }
        let since_ns = Now::read().utc_ns.saturating_sub(BACKLOG_NS);
        let mut backlog = Some(Vec::new());
        follow(&self.hub, EVENTS, since_ns, |step| match (step, &mut backlog) {
            (Step::Message { subject, payload }, Some(pairs)) => pairs.extend(self.take(subject, &payload, true)),
            (Step::Message { subject, payload }, None) => {
                if let Some(pair) = self.take(subject, &payload, false) {
                    self.question(&questions, pair);
                }
            }
            (Step::Current, _) => {
                for pair in backlog.take().unwrap_or_default() {
                    self.question(&questions, pair);
                }
            }
        })
        .await;
    }

    /// Returns a pair that has become silent.
    fn take(&self, subject: &str, content: &[u8], is_old: bool) -> Option<Pair> {
        let event: Event = serde_json::from_slice(content).ok()?;
        if subject != EVENTS.of(&event.port) {
            return None;
        }
        let now = Now::read();
        match event.what {
            What::Silent(silence) => {
                let is_of_now = {
                    let fleet = self.hub.fleet();
                    let (from, to) = (fleet.id(&event.port)?, fleet.id(&silence.peer)?);
                    // A host can say what it likes, but only about so many pairs.
                    if !fleet.targets(from).contains(&to) {
                        return None;
                    }
                    fleet.port(from)?.presence.boot == event.boot
                };
                // A process that has ended does not say that the peer answers again.
                if is_old && !is_of_now {
                    return None;
                }
                let pair = (event.port, silence.peer.clone());
                self.state().asked.insert(pair.clone(), silence);
                Some(pair)
            }
            What::Answering { peer, .. } => {
                self.state().asked.remove(&(event.port.clone(), peer.clone()));
                self.hub.alerts().answering(event.port, peer, event.time_ns, now.utc_ns);
                self.changed.notify_one();
                None
            }
            What::Refused { .. } => None,
        }
    }

    /// Asks the reflector, in the background. If there are too many questions, the pair counts as not answered.
    fn question(&self, questions: &mpsc::Sender<Pair>, pair: Pair) {
        let may_ask = self.state().questions.take(&pair.0.host, Now::read().monotonic_ns);
        let outcome = match may_ask {
            true => questions.try_send(pair).map_err(TrySendError::into_inner),
            false => Err(pair),
        };
        if let Err(pair) = outcome {
            self.answered(&pair, None);
        }
    }

    async fn ask(&self, mut pairs: mpsc::Receiver<Pair>) {
        let mut questions = FuturesUnordered::new();
        loop {
            tokio::select! {
                pair = pairs.recv(), if questions.len() < MAX_QUESTIONS => {
                    let Some(pair) = pair else { return };
                    let session = self.state().asked.get(&pair).map(|silence| silence.session);
                    let Some(session) = session else { continue };
                    let content = serde_json::to_vec(&session).unwrap_or_default();
                    let request = Request::new().payload(content.into()).timeout(Some(ANSWER_TIMEOUT));
                    let client = self.hub.client();
                    questions.push(async move {
                        let reply = client.send_request(subjects::question(&pair.1), request).await;
                        let answer = reply.ok().and_then(|reply| serde_json::from_slice(&reply.payload).ok());
                        (pair, answer)
                    });
                }
                Some((pair, answer)) = questions.next() => self.answered(&pair, answer),
            }
        }
    }

    /// The reflector has answered, or has not. Meanwhile the pair may have recovered.
    fn answered(&self, pair: &Pair, answer: Option<Answer>) {
        let Some(silence) = self.state().asked.remove(pair) else {
            return;
        };
        let now = Now::read();
        let (from, to) = pair.clone();
        let silent = Silent {
            direction: answer.map(|answer| answer.direction(silence.replies, silence.lost)),
            has_restarted: self.has_restarted(&to, silence.since_ns) || !self.expects(&to, &from),
            from,
            to,
            since_ns: silence.since_ns.min(now.utc_ns),
        };
        self.hub.alerts().silent(silent, now.utc_ns);
        self.changed.notify_one();
    }

    /// Whether the port knows that the other probes it.
    fn expects(&self, port: &PortName, prober: &PortName) -> bool {
        let fleet = self.hub.fleet();
        let ids = fleet.id(port).zip(fleet.id(prober));
        ids.is_some_and(|(port, prober)| fleet.expects(port, prober))
    }

    /// Whether the port has left, or has another process since about this time.
    fn has_restarted(&self, port: &PortName, since_ns: u64) -> bool {
        let (id, is_there, boot) = {
            let fleet = self.hub.fleet();
            let Some(id) = fleet.id(port) else { return true };
            let Some(port) = fleet.port(id) else { return true };
            (id, is_there(port), port.presence.boot)
        };
        let known = self.state().boots.as_ref().and_then(|boots| boots.get(&id).copied());
        let is_new = known.is_none_or(|(known, at_ns)| known != boot || at_ns.saturating_add(RESTART_NS) > since_ns);
        !is_there || is_new
    }

    /// Until the hub is stopped.
    async fn tick(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look(Now::read()),
                () = self.changed.notified() => {}
                () = self.hub.stopped() => break,
            }
            if let Err(error) = self.publish().await {
                log::warn!("the alerts cannot be kept in the bucket {HUB}: {error:#}");
            }
        }
        self.finish_posts().await;
        if let Err(error) = self.keep().await {
            log::warn!("the last alerts are not kept in the bucket {HUB}: {error:#}");
        }
    }

    /// Looks at everything that no event tells.
    fn look(&self, now: Now) {
        let is_connected = self.hub.client().connection_state() == ConnectionState::Connected;
        let listens_ns = {
            let is_loaded = self.hub.fleet().is_loaded();
            let mut state = self.state();
            state.questions.trim(now.monotonic_ns);
            let before = state.listens_ns.take();
            if !is_connected || !is_loaded {
                return;
            }
            // Agents connect again later than this hub.
            *state.listens_ns.insert(before.unwrap_or(now.monotonic_ns + DOWN_NS))
        };
        let is_settled = now.monotonic_ns > listens_ns.saturating_add(SETTLE_NS);
        let is_current = self.hub.figures().is_current;
        let fleet = self.hub.fleet();
        let matrix = self.hub.matrix();
        let mut alerts = self.hub.alerts();
        for port in self.restarts(&fleet, now) {
            alerts.losses.restarted(port, now.utc_ns);
        }
        let verdicts = if is_current {
            alerts.losses.verdicts()
        } else {
            BTreeMap::new()
        };
        for ((from, to), verdict) in verdicts {
            // A host cannot raise alerts about ports that it was not told to probe.
            let is_target = fleet.targets(from).contains(&to);
            let there = |id| fleet.port(id).filter(|port| is_there(port));
            let (Some(from), Some(to)) = (there(from), there(to)) else {
                continue;
            };
            let (from, to) = (from.name.clone(), to.name.clone());
            match verdict {
                Verdict::Above(_) if !is_target => {}
                Verdict::Above(lossy) => alerts.loss(from, to, Some(lossy), now.utc_ns),
                Verdict::Below => alerts.loss(from, to, None, now.utc_ns),
                Verdict::Answers { start_ns } => alerts.answering(from, to, start_ns, now.utc_ns),
            }
        }
        // A hub that has just begun to listen does not know yet what the one before it knew.
        let are_complete = now.monotonic_ns > listens_ns.saturating_add(DOWN_NS);
        alerts.problems(fleet.problems().iter(), are_complete, now.utc_ns);
        let pair = |from: &PortName, to: &PortName| {
            let present = |name| fleet.id(name).filter(|id| fleet.port(*id).is_some_and(is_there));
            let (Some(from), Some(to)) = (present(from), present(to)) else {
                return PairLife::default();
            };
            let has_windows = || matrix.cell(from, to).is_some_and(|cell| !cell.is_stale(now.utc_ns));
            PairLife {
                is_present: true,
                is_measured: !is_settled || fleet.targets(from).contains(&to) || has_windows(),
            }
        };
        alerts.tick(&hosts(&fleet, listens_ns, now), pair, now.utc_ns);
        let ids = |(from, to): (&PortName, &PortName)| Some((fleet.id(from)?, fleet.id(to)?));
        let silent: HashSet<_> = alerts.silent_pairs().filter_map(ids).collect();
        alerts.losses.set_silent(&silent, now.utc_ns);
    }

    /// Ports of which a process has begun or ended since the last call.
    fn restarts(&self, fleet: &Fleet, now: Now) -> Vec<PortId> {
        let mut state = self.state();
        let since_ns = if state.boots.is_some() { now.utc_ns } else { 0 };
        let boots = state.boots.get_or_insert_default();
        let mut restarts = Vec::new();
        boots.retain(|id, _| fleet.port(*id).is_some());
        for (id, port) in fleet.ports() {
            let boot = if is_there(port) { port.presence.boot } else { 0 };
            let known = boots.entry(id).or_insert((boot, since_ns));
            if known.0 != boot {
                *known = (boot, now.utc_ns);
                restarts.push(id);
            }
        }
        restarts
    }

    /// Posts and keeps what has changed, if this hub coordinates.
    async fn publish(&self) -> Result<()> {
        if !self.hub.is_coordinator() {
            self.state().kept = None;
            self.hub.alerts().changes();
            if let Some(webhook) = &self.webhook {
                webhook.clear();
            }
            return Ok(());
        }
        if self.state().kept.is_none() {
            if !self.hub.figures().is_current || !self.hub.fleet().is_loaded() {
                return Ok(());
            }
            self.take_over().await?;
        }
        let changes = self.hub.alerts().changes();
        for change in &changes {
            match change {
                Change::Raised(alert) => log::warn!("{}", alert.text),
                Change::Resolved(alert) => log::info!("this is over: {}", alert.text),
            }
        }
        if let Some(webhook) = &self.webhook {
            webhook.post(changes);
        }
        self.keep().await
    }

    async fn take_over(&self) -> Result<()> {
        let (stored, revision) = self.stored().await?;
        self.hub.alerts().adopt(stored.raised.clone(), Now::read().utc_ns);
        if let Some(webhook) = &self.webhook {
            let waiting = webhook.unsent();
            let unsent = stored.unsent.iter().filter(|change| !waiting.contains(change));
            webhook.post(unsent.cloned());
        }
        self.state().kept = Some((stored, revision));
        Ok(())
    }

    /// The entry in the bucket, and its revision.
    async fn stored(&self) -> Result<(Stored, u64)> {
        let bucket = self.hub.jetstream().get_key_value(HUB).await?;
        let entry = bucket.entry(KEY).await?;
        let revision = entry.as_ref().map_or(0, |entry| entry.revision);
        let stored = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        Ok((stored.unwrap_or_default(), revision))
    }

    /// Gives what waits a short time: another hub would post it again.
    async fn finish_posts(&self) {
        let Some(webhook) = &self.webhook else { return };
        let sent = async {
            while !webhook.unsent().is_empty() {
                self.changed.notified().await;
            }
        };
        let _ = timeout(LAST_POSTS, sent).await;
    }

    /// Keeps what another hub needs to take over. If that has happened already, its entry stays.
    async fn keep(&self) -> Result<()> {
        let Some((before, revision)) = self.state().kept.clone() else {
            return Ok(());
        };
        let stored = Stored {
            raised: self.hub.alerts().raised().cloned().collect(),
            unsent: self.webhook.as_ref().map(Webhook::unsent).unwrap_or_default(),
        };
        if stored == before {
            return Ok(());
        }
        let bucket = self.hub.jetstream().get_key_value(HUB).await?;
        match bucket.update(KEY, stored.write()?.into(), revision).await {
            Ok(revision) => self.state().kept = Some((stored, revision)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => self.state().kept = None,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Whether its agent should be running.
fn is_there(port: &Port) -> bool {
    port.is_present && !port.presence.ended
}

/// The enrolled hosts with a port in the fleet. Nothing is expected of them before `listens_ns`.
fn hosts(fleet: &Fleet, listens_ns: u64, now: Now) -> BTreeMap<HostName, HostLife> {
    let since_listening_ns = now.monotonic_ns.saturating_sub(listens_ns);
    let life = |(host, ports): (&HostName, &std::collections::BTreeSet<PortId>)| {
        let ports = ports.iter().filter_map(|id| fleet.port(*id));
        let is_enrolled = |port: &&Port| !fleet.problems().has(&port.name, ProblemKind::NotEnrolled);
        let present = ports.filter(|port| is_there(port)).filter(is_enrolled);
        let silent_ns = present.map(|port| port.silent_ns(now.monotonic_ns)).min()?;
        let silent_ns = silent_ns.min(since_listening_ns);
        Some((host.clone(), HostLife { silent_ns }))
    };
    fleet.hosts().filter_map(life).collect()
}
