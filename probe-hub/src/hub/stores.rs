//! Buckets and streams of the fleet, with their bounds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{self, Compression, DiscardPolicy};

use super::fleet::MAX_PRESENCE;
use crate::subjects::{self, MINUTES, QUARTERS, Results, WINDOWS};

/// Markers of entries that were deleted are kept for so long.
const MARKERS: Duration = Duration::from_secs(3600);
/// A batch that is sent again within this time is recognised by the server.
const DUPLICATES: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(500);

/// How much is kept of each stream, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub windows: Limit,
    pub minutes: Limit,
    pub quarters: Limit,
    pub events: Limit,
}

/// The older is dropped when one of the two is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub age: Duration,
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        const GIB: u64 = 1 << 30;
        let limit = |hours: u64, bytes| Limit {
            age: Duration::from_secs(hours * HOUR),
            bytes,
        };
        Self {
            windows: limit(48, 2 * GIB),
            minutes: limit(14 * 24, GIB),
            quarters: limit(400 * 24, GIB),
            events: limit(30 * 24, GIB / 4),
        }
    }
}

impl Limits {
    /// The same shares of `bytes`, with a tenth left for buckets.
    pub fn within(bytes: u64) -> Self {
        let default = Self::default();
        let all = [default.windows, default.minutes, default.quarters, default.events];
        let sum: u64 = all.iter().map(|limit| limit.bytes).sum();
        let scaled = |limit: Limit| Limit {
            bytes: (u128::from(limit.bytes) * u128::from(bytes / 10 * 9) / u128::from(sum)) as u64,
            ..limit
        };
        Self {
            windows: scaled(default.windows),
            minutes: scaled(default.minutes),
            quarters: scaled(default.quarters),
            events: scaled(default.events),
        }
    }

    pub fn of(&self, results: Results) -> Limit {
        match results {
            WINDOWS => self.windows,
            MINUTES => self.minutes,
            QUARTERS => self.quarters,
            _ => self.events,
        }
    }
}

/// Makes what is missing, and sets the bounds of what is there. Tries again while the server does not answer.
pub async fn make(jetstream: &jetstream::Context, limits: &Limits, timeout: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        match try_to_make(jetstream, limits).await {
            Ok(()) => return Ok(()),
            Err(error) if is_final(&error) || tokio::time::Instant::now() > deadline => return Err(error),
            Err(error) => log::debug!("{error:#}"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_to_make(jetstream: &jetstream::Context, limits: &Limits) -> Result<()> {
    for (bucket, size, markers) in [
        (subjects::PRESENCE, MAX_PRESENCE as i32, Some(MARKERS)),
        (subjects::ASSIGNMENT, -1, Some(MARKERS)),
        (subjects::HUB, -1, None),
    ] {
        let config = kv::Config {
            bucket: bucket.to_owned(),
            max_value_size: size,
            compression: true,
            limit_markers: markers,
            ..kv::Config::default()
        };
        jetstream
            .create_or_update_key_value(config)
            .await
            .with_context(|| format!("cannot make the bucket {bucket}"))?;
    }
    for results in Results::ALL {
        let Limit { age, bytes } = limits.of(results);
        let config = stream::Config {
            name: results.stream.to_owned(),
            subjects: vec![results.all()],
            max_age: age,
            max_bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            discard: DiscardPolicy::Old,
            duplicate_window: DUPLICATES.min(age),
            compression: Some(Compression::S2),
            allow_direct: true,
            ..stream::Config::default()
        };
        jetstream
            .create_or_update_stream(config)
            .await
            .with_context(|| format!("cannot make the stream {}", results.stream))?;
    }
    Ok(())
}

/// Whether the server has refused it, and would again.
fn is_final(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<jetstream::Error>())
        .any(|error| error.code() != 503)
}
