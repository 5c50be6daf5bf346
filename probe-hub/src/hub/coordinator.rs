//! Follows presence and heartbeats, and assigns neighbours while this hub holds the lease.
//!
//! An entry is replaced only if it still has the revision that this hub has seen. So a hub that was suspended, and does not yet
//! know that another has the lease, cannot overwrite what that has written. If it writes an entry that the other had no reason
//! to change, then the other sees it, and writes its own again with a higher generation.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::kv::{Entry, Operation, Watch};
use futures_util::StreamExt as _;
use prost::Message as _;
use tokio::time::MissedTickBehavior;

use super::fleet::assignments::Due;
use super::fleet::{Now, PortId};
use super::handle::Hub;
use super::neighbours;
use crate::message::assignment::SIGNATURE;
use crate::message::event::Notice;
use crate::message::heartbeat::Heartbeat;
use crate::name::PortName;
use crate::subjects;

/// Time between two looks at presence and liveness.
const TICK: Duration = Duration::from_secs(1);
/// Neighbours are chosen when presences have not changed for a tick, but not later than this after a change.
const MAX_DELAY_NS: u64 = 5_000_000_000;
/// Assignments that are made at once, and writes that are in flight.
const MAX_DUE: usize = 512;
const IN_FLIGHT: usize = 128;
/// Pause after a watch has failed.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two looks at enrolments and at ports that are gone.
const REVIEW: Duration = Duration::from_secs(10);
/// Everything in a bucket.
const ALL: &str = ">";

pub(super) async fn run(hub: Hub) {
    tokio::select! {
        () = follow(&hub) => {}
        () = coordinate(&hub) => {}
        () = hub.stopped() => {}
    }
}

/// Keeps the fleet's state current, on every hub.
async fn follow(hub: &Hub) {
    loop {
        if let Err(error) = watch(hub).await {
            log::warn!("the buckets of the fleet cannot be followed: {error:#}");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch(hub: &Hub) -> Result<()> {
    let mut heartbeats = hub.client().subscribe(subjects::HEARTBEATS).await?;
    let (mut presences, pending) = open(hub, subjects::PRESENCE).await?;
    let mut keys = HashSet::new();
    read(&mut presences, pending, |entry| {
        offer(hub, entry);
        keys.insert(entry.key.clone());
    })
    .await?;
    let now = Now::read();
    // Not in the head of the loop, which would hold the lock that its body takes.
    let known = hub.fleet().keys();
    for key in known {
        if !keys.contains(&key) {
            hub.fleet().offer(&key, None, 0, now);
        }
    }
    hub.fleet().begin(&*hub.config().allowed, now);
    let (mut assignments, pending) = open(hub, subjects::ASSIGNMENT).await?;
    read(&mut assignments, pending, |entry| take(hub, entry)).await?;
    hub.fleet().set_loaded();
    loop {
        tokio::select! {
            heartbeat = heartbeats.next() => {
                let message = heartbeat.context("the subscription to heartbeats has ended")?;
                hear(hub, &message);
            }
            entry = presences.next() => offer(hub, &entry.context("the watch of presences has ended")??),
            entry = assignments.next() => take(hub, &entry.context("the watch of assignments has ended")??),
        }
    }
}

/// Watches a bucket from the newest entry of each key on. The number says how many entries it has.
async fn open(hub: &Hub, bucket: &'static str) -> Result<(Watch, u64)> {
    let mut store = hub.jetstream().get_key_value(bucket).await?;
    let watch = store.watch_with_history(ALL).await?;
    let pending = store.stream.info().await?.state.messages;
    Ok((watch, pending))
}

/// Reads what the bucket has already.
async fn read(watch: &mut Watch, pending: u64, mut note: impl FnMut(&Entry)) -> Result<()> {
    let mut is_complete = pending == 0;
    while !is_complete {
        let entry = watch.next().await.context("the watch has ended")??;
        note(&entry);
        is_complete = entry.seen_current;
    }
    Ok(())
}

fn offer(hub: &Hub, entry: &Entry) {
    let content = (entry.operation == Operation::Put).then_some(&entry.value[..]);
    hub.fleet().offer(&entry.key, content, entry.revision, Now::read());
}

fn take(hub: &Hub, entry: &Entry) {
    hub.fleet()
        .take_assignment(&entry.key, &entry.value, entry.revision, Now::read());
}

fn hear(hub: &Hub, message: &async_nats::Message) {
    let Some((_, tokens)) = message
        .subject
        .match_indices('.')
        .nth(1)
        .map(|(at, _)| message.subject.split_at(at + 1))
    else {
        return;
    };
    if let Ok(heartbeat) = Heartbeat::decode(&message.payload[..]) {
        hub.fleet().hear(tokens, heartbeat, Now::read());
    }
}

/// What was decided last.
#[derive(Default)]
struct Coordination {
    /// `CLOCK_MONOTONIC` of the first change that was not taken into account yet.
    changed_ns: Option<u64>,
    turn: u64,
    had_lease: bool,
    says_failure: bool,
}

async fn coordinate(hub: &Hub) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reviews = tokio::time::interval(REVIEW);
    reviews.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = Coordination::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => tick(hub, &mut state).await,
            _ = reviews.tick() => {
                hub.fleet().review(&*hub.config().allowed, Now::read());
                clean(hub).await;
            }
        }
    }
}

async fn tick(hub: &Hub, state: &mut Coordination) {
    let now = Now::read();
    if hub.client().connection_state() != State::Connected {
        hub.fleet().set_deaf(now);
    }
    let has_changed = hub.fleet().settle(&*hub.config().allowed, now);
    if has_changed {
        state.changed_ns.get_or_insert(now.monotonic_ns);
    }
    let notices = hub.fleet().problems_mut().take_notices();
    let has_lease = hub.is_coordinator();
    let is_new = has_lease && !std::mem::replace(&mut state.had_lease, has_lease);
    if !has_lease || !hub.fleet().is_loaded() {
        state.had_lease = false;
        return;
    }
    notify(hub, notices).await;
    let turn = now.utc_ns / hub.config().rotation_ns.max(1);
    let is_over = |since_ns: u64| !has_changed || now.monotonic_ns - since_ns >= MAX_DELAY_NS;
    if is_new || turn != state.turn || state.changed_ns.is_some_and(is_over) {
        (state.changed_ns, state.turn) = (None, turn);
        choose(hub, turn).await;
    }
    match write_all(hub).await {
        Ok(()) => state.says_failure = false,
        Err(error) => {
            if !std::mem::replace(&mut state.says_failure, true) {
                log::warn!("assignments cannot be written, and are tried again: {error:#}");
            }
        }
    }
}

async fn notify(hub: &Hub, notices: Vec<(PortName, String)>) {
    for (port, line) in notices {
        let content = serde_json::to_vec(&Notice { line }).unwrap_or_default();
        // Not kept anyway.
        let _ = hub.client().publish(subjects::notice(&port), content.into()).await;
    }
}

async fn choose(hub: &Hub, turn: u64) {
    let candidates = hub.fleet().candidates();
    let targets = hub.config().targets;
    let chosen = tokio::task::spawn_blocking(move || {
        let (ids, ports): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
        let neighbours = neighbours::choose(&ports, targets, turn);
        ids.into_iter().zip(neighbours).collect::<Vec<_>>()
    });
    if let Ok(chosen) = chosen.await {
        hub.fleet().plan(&chosen);
    }
}

/// Writes what is due, of each port once.
async fn write_all(hub: &Hub) -> Result<()> {
    let mut first = PortId(0);
    loop {
        let due = hub.fleet().due(first, MAX_DUE, Now::read());
        let Some(last) = due.last().map(|due| due.id) else {
            return Ok(());
        };
        first = PortId(last.0 + 1);
        let mut written = futures_util::stream::iter(due)
            .map(|due| write(hub, due))
            .buffer_unordered(IN_FLIGHT);
        while let Some(result) = written.next().await {
            result?;
        }
    }
}

async fn write(hub: &Hub, due: Due) -> Result<()> {
    let Due {
        revision, assignment, ..
    } = due;
    let key = assignment.port.tokens();
    let (content, signature) = assignment.sign(&hub.config().key)?;
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE, signature.as_str());
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
    if !hub.is_coordinator() {
        return Ok(());
    }
    let subject = subjects::entry(subjects::ASSIGNMENT, &key);
    let sent = hub
        .jetstream()
        .publish_with_headers(subject, headers, content.clone().into())
        .await?;
    match sent.await {
        Ok(written) => {
            hub.fleet()
                .take_assignment(&key, &content, written.sequence, Now::read());
            Ok(())
        }
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
            refresh(hub, &key).await?;
            bail!("another hub has written the assignment of {key}")
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads an entry that is not what this hub believed.
async fn refresh(hub: &Hub, key: &str) -> Result<()> {
    let store = hub.jetstream().get_key_value(subjects::ASSIGNMENT).await?;
    let entry = store.entry(key).await?;
    let (content, revision) = entry.map_or_else(Default::default, |entry| (entry.value, entry.revision));
    hub.fleet().correct_assignment(key, &content, revision, Now::read());
    Ok(())
}

/// Deletes the entries of ports that were silent for long, and those that are of no port. Other hubs forget a port when its presence is deleted.
async fn clean(hub: &Hub) {
    let gone = hub.fleet().gone(hub.config().gone_ns, Now::read().monotonic_ns);
    for (id, key, revision) in gone {
        if hub.is_coordinator() {
            if let Err(error) = delete(hub, &key, revision).await {
                log::warn!("the port {key} is gone, but its entries cannot be deleted: {error:#}");
                continue;
            }
            log::info!("{key} was silent for long, and was deleted");
        } else if revision.is_some() {
            continue;
        }
        hub.fleet().forget(id);
    }
    let surplus = hub.fleet().take_surplus();
    if hub.is_coordinator()
        && let Err(error) = remove(hub, surplus).await
    {
        log::warn!(
            "entries of no port cannot be removed from the bucket {}: {error:#}",
            subjects::PRESENCE
        );
    }
}

/// Removes entries of the presence bucket, unless they have changed. Nothing is left of them, as it would be of deleted ones.
async fn remove(hub: &Hub, entries: BTreeMap<String, u64>) -> Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let stream = format!("KV_{}", subjects::PRESENCE);
    let stream = hub.jetstream().get_stream_no_info(stream).await?;
    for (key, revision) in entries {
        let subject = subjects::entry(subjects::PRESENCE, &key);
        stream.purge().filter(subject).sequence(revision + 1).await?;
    }
    Ok(())
}

/// `revision` is that of the presence, if there is one: it may just have come back.
async fn delete(hub: &Hub, key: &str, revision: Option<u64>) -> Result<()> {
    let store = |bucket| hub.jetstream().get_key_value(bucket);
    if revision.is_some() {
        // This bucket has no purging, which hosts could do, too.
        store(subjects::PRESENCE)
            .await?
            .delete_expect_revision(key, revision)
            .await?;
    }
    store(subjects::ASSIGNMENT).await?.purge(key).await?;
    Ok(())
}
