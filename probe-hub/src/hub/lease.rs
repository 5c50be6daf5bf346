//! Which hub coordinates: an entry that is renewed by compare-and-swap, and that another hub takes over when it no longer
//! changes.
//!
//! No clocks of two machines are compared. A hub holds the lease for [`HOLD_NS`] by its own monotonic clock, from before it
//! wrote. Others take it over when they have seen the same revision for [`EXPIRE_NS`] by theirs, so after the holder has
//! stopped. A hub that was suspended meanwhile may still believe that it holds the lease: see [`super::coordinator`] for what
//! it can write then.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::kv::{Operation, Store};

use super::handle::{Holder, Hub};
use crate::subjects;

/// How long a lease holds without being renewed.
const HOLD_NS: u64 = 8_000_000_000;
/// How long an entry must not have changed before another hub takes the lease.
const EXPIRE_NS: u64 = 10_000_000_000;
const RENEW: Duration = Duration::from_secs(3);
/// Pause of a hub that stands by.
const LOOK: Duration = Duration::from_secs(1);
/// Of each of the two requests of an attempt: one attempt may fail between [`RENEW`] and [`HOLD_NS`].
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    /// Write the entry if it still has this revision; `None` if there is none.
    Write(Option<u64>),
}

/// What a hub knows of the lease. Without I/O.
#[derive(Debug)]
struct Lease {
    me: Holder,
    /// Revision of another's entry, and since when it has not changed.
    seen: Option<(u64, u64)>,
}

impl Lease {
    fn step(&mut self, entry: Option<(&Holder, u64)>, now_ns: u64) -> Step {
        let Some((holder, revision)) = entry else {
            return Step::Write(None);
        };
        if *holder == self.me {
            // Also if the reply to the last renewal was lost.
            return Step::Write(Some(revision));
        }
        match self.seen {
            Some((seen, since_ns)) if seen == revision => {
                if now_ns.saturating_sub(since_ns) >= EXPIRE_NS {
                    Step::Write(Some(revision))
                } else {
                    Step::Wait
                }
            }
            _ => {
                self.seen = Some((revision, now_ns));
                Step::Wait
            }
        }
    }
}

/// Keeps the lease, or waits for it, until the hub stops.
pub(super) async fn run(hub: Hub) {
    let mut lease = Lease {
        me: hub.holder().clone(),
        seen: None,
    };
    loop {
        let renewed = round(&hub, &mut lease).await;
        if let Err(error) = &renewed {
            log::debug!("lease: {error:#}");
        }
        let pause = if renewed.is_ok() && hub.is_coordinator() {
            RENEW
        } else {
            LOOK
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = hub.stopped() => break,
        }
    }
}

/// Gives the lease up, if this hub has it, when nothing renews it any more.
pub(super) async fn give_up(hub: &Hub) {
    if hub.is_coordinator() {
        hub.set_lease(None, 0);
        if let Err(error) = delete(hub).await {
            log::warn!("the lease could not be given up ({error:#}); another hub takes over in some seconds");
        }
    }
}

async fn round(hub: &Hub, lease: &mut Lease) -> Result<()> {
    let (store, entry) = read(hub).await?;
    let now_ns = probe_host::clock::monotonic_ns();
    let holder = entry.as_ref().map(|(holder, _)| holder);
    if holder.is_some_and(|holder| *holder != lease.me) && hub.is_coordinator() {
        log::warn!(
            "another hub has taken the lease: {}",
            holder.map_or("", |holder| &holder.hub)
        );
        hub.set_lease(None, 0);
    }
    let had_lease = hub.is_coordinator();
    let step = lease.step(entry.as_ref().map(|(holder, revision)| (holder, *revision)), now_ns);
    let Step::Write(revision) = step else {
        hub.set_lease(entry.map(|(holder, _)| holder.hub), 0);
        return Ok(());
    };
    let content = serde_json::to_vec(&lease.me)?.into();
    let key = subjects::LEASE_KEY;
    let write = async {
        match revision {
            Some(revision) => store.update(key, content, revision).await.map_err(anyhow::Error::from),
            None => store.create(key, content).await.map_err(anyhow::Error::from),
        }
    };
    tokio::time::timeout(TIMEOUT, write).await.context("no reply")??;
    hub.set_lease(Some(lease.me.hub.clone()), now_ns + HOLD_NS);
    if !had_lease {
        log::info!("this hub coordinates");
    }
    Ok(())
}

async fn read(hub: &Hub) -> Result<(Store, Option<(Holder, u64)>)> {
    let read = async {
        let store = hub.jetstream().get_key_value(subjects::HUB).await?;
        let entry = store.entry(subjects::LEASE_KEY).await?;
        anyhow::Ok((store, entry))
    };
    let (store, entry) = tokio::time::timeout(TIMEOUT, read).await.context("no reply")??;
    let entry = entry.filter(|entry| entry.operation == Operation::Put);
    let holder = entry.map(|entry| {
        let holder = serde_json::from_slice(&entry.value).unwrap_or(Holder {
            hub: "?".to_owned(),
            id: 0,
        });
        (holder, entry.revision)
    });
    Ok((store, holder))
}

async fn delete(hub: &Hub) -> Result<()> {
    let (store, entry) = read(hub).await?;
    if let Some((holder, revision)) = entry
        && holder == *hub.holder()
    {
        let delete = store.delete_expect_revision(subjects::LEASE_KEY, Some(revision));
        tokio::time::timeout(TIMEOUT, delete).await.context("no reply")??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn holder(id: u64) -> Holder {
        Holder {
            hub: format!("hub{id}"),
            id,
        }
    }

    #[test]
    fn the_lease_is_taken_when_there_is_none_or_when_it_no_longer_changes() {
        let mut lease = Lease {
            me: holder(1),
            seen: None,
        };
        let (me, other) = (holder(1), holder(2));
        let table = [
            (0, None, Step::Write(None)),
            (1, Some((&me, 1)), Step::Write(Some(1))),
            (2, Some((&other, 2)), Step::Wait),
            (5, Some((&other, 3)), Step::Wait),
            (14, Some((&other, 3)), Step::Wait),
            // It was renewed in time.
            (15, Some((&other, 4)), Step::Wait),
            (24, Some((&other, 4)), Step::Wait),
            (25, Some((&other, 4)), Step::Write(Some(4))),
            // A third hub was quicker.
            (26, Some((&other, 5)), Step::Wait),
            (27, None, Step::Write(None)),
        ];
        for (seconds, entry, step) in table {
            assert_eq!(lease.step(entry, seconds * SECOND), step, "after {seconds} s");
        }
    }

    #[test]
    fn a_holder_stops_before_another_begins() {
        const { assert!(HOLD_NS < EXPIRE_NS) };
        let attempt = 2 * TIMEOUT;
        assert!(RENEW + attempt + LOOK + attempt <= Duration::from_nanos(HOLD_NS));
        // Killed right after a renewal, which is seen after a pause, as is the end.
        assert!(Duration::from_nanos(EXPIRE_NS) + 2 * LOOK + attempt < Duration::from_secs(15));
    }
}
