//! Buckets and streams of the fleet, with their bounds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::stream::{self, Compression, DiscardPolicy};
use async_nats::jetstream::{self, ErrorCode};

use super::fleet::MAX_PRESENCE;
use crate::subjects::{self, MINUTES, QUARTERS, Results, WINDOWS};

/// How long markers of deleted entries are kept.
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
    /// Bytes of each bucket: entries of ports that do not exist must not take the room of results.
    pub bucket: u64,
}

/// The oldest messages are dropped when one of the two is exceeded.
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
            bucket: GIB / 8,
        }
    }
}

impl Limits {
    /// The same shares of `bytes`.
    pub fn within(bytes: u64) -> Self {
        let default = Self::default();
        let sum: u64 = Results::ALL
            .iter()
            .map(|results| default.of(*results).bytes)
            .sum::<u64>()
            + 3 * default.bucket;
        let scaled =
            |part: u64| u64::try_from(u128::from(part) * u128::from(bytes) / u128::from(sum)).unwrap_or(u64::MAX);
        let limit = |limit: Limit| Limit {
            bytes: scaled(limit.bytes),
            ..limit
        };
        Self {
            windows: limit(default.windows),
            minutes: limit(default.minutes),
            quarters: limit(default.quarters),
            events: limit(default.events),
            bucket: scaled(default.bucket),
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
        // Hosts write it, and must not erase what others have written: markers would bring the header that does so.
        (subjects::PRESENCE, MAX_PRESENCE as i32, None),
        (subjects::ASSIGNMENT, -1, Some(MARKERS)),
        (subjects::HUB, -1, None),
    ] {
        let config = stream::Config {
            name: format!("KV_{bucket}"),
            subjects: vec![subjects::entry(bucket, ">")],
            max_messages_per_subject: 1,
            max_message_size: size,
            max_bytes: i64::try_from(limits.bucket).unwrap_or(i64::MAX),
            discard: DiscardPolicy::New,
            allow_rollup: bucket != subjects::PRESENCE,
            deny_delete: true,
            allow_direct: true,
            allow_message_ttl: markers.is_some(),
            subject_delete_marker_ttl: markers,
            compression: Some(Compression::S2),
            ..stream::Config::default()
        };
        jetstream
            .create_or_update_stream(config)
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

/// Whether the account has no JetStream.
pub fn lacks_jetstream(error: &anyhow::Error) -> bool {
    let codes = [
        ErrorCode::JETSTREAM_NOT_ENABLED,
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
    ];
    replies(error).any(|error| codes.contains(&error.error_code()))
}

/// What the server has said.
fn replies(error: &anyhow::Error) -> impl Iterator<Item = &jetstream::Error> {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<jetstream::Error>())
}

/// Whether the server has refused it, and would again.
fn is_final(error: &anyhow::Error) -> bool {
    replies(error).any(|error| error.code() != 503 || error.to_string().contains("no space left"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_full_or_refuses_is_not_asked_again() {
        let error = |code: u64, description: &str| {
            let error = format!(r#"{{"code":{code},"err_code":10000,"description":"{description}"}}"#);
            let error: jetstream::Error = serde_json::from_str(&error).unwrap();
            is_final(&anyhow::Error::new(error).context("cannot make the stream"))
        };
        assert!(error(503, "mkdir: no space left on device"));
        assert!(error(400, "insufficient storage resources available"));
        assert!(!error(503, "JetStream system temporarily unavailable"));
        assert!(!is_final(&anyhow::anyhow!("timed out")));
    }

    #[test]
    fn a_server_without_jetstream_for_the_hub_is_recognised() {
        let lacks = |code: u64| {
            let error = format!(r#"{{"code":503,"err_code":{code},"description":"JetStream not enabled"}}"#);
            let error: jetstream::Error = serde_json::from_str(&error).unwrap();
            lacks_jetstream(&anyhow::Error::new(error).context("cannot make the bucket"))
        };
        assert_eq!([10_039, 10_076, 10_008].map(lacks), [true, true, false]);
    }

    #[test]
    fn streams_and_buckets_fit_into_the_space() {
        for bytes in [16 << 20, 5 << 30, u64::MAX] {
            let limits = Limits::within(bytes);
            let streams: u128 = Results::ALL
                .iter()
                .map(|results| u128::from(limits.of(*results).bytes))
                .sum();
            let all = streams + 3 * u128::from(limits.bucket);
            assert!(all <= bytes.into() && all >= u128::from(bytes) - 8, "{limits:?}");
        }
    }
}
