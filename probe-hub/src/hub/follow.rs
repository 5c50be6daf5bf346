//! Follows a stream of results, from some time ago on and without gaps.

use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::datetime::from_nanos;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt as _;
use prost::bytes::Bytes;

use super::handle::Hub;
use crate::subjects::Results;

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(1);

pub enum Step<'a> {
    Message {
        subject: &'a str,
        payload: Bytes,
    },
    /// All that was there has been read.
    Current,
}

/// Hands over each message that was stored since `since_ns` (UTC).
pub async fn follow(hub: &Hub, results: Results, since_ns: u64, mut take: impl FnMut(Step)) {
    let mut last = None;
    loop {
        if let Err(error) = messages(hub, results, since_ns, &mut last, &mut take).await {
            log::warn!("the stream {} cannot be followed: {error:#}", results.stream);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// `last` is the sequence number of the last message.
async fn messages(
    hub: &Hub,
    results: Results,
    since_ns: u64,
    last: &mut Option<u64>,
    take: &mut impl FnMut(Step),
) -> Result<()> {
    let stream = hub.jetstream().get_stream_no_info(results.stream).await?;
    let deliver_policy = match *last {
        Some(last) => DeliverPolicy::ByStartSequence {
            start_sequence: last + 1,
        },
        None => DeliverPolicy::ByStartTime {
            start_time: from_nanos(since_ns.into()).map_err(|error| anyhow::anyhow!(error))?,
        },
    };
    let config = OrderedConfig {
        deliver_policy,
        ..OrderedConfig::default()
    };
    let consumer = stream.create_consumer(config).await?;
    if consumer.cached_info().num_pending == 0 {
        take(Step::Current);
    }
    let mut messages = consumer.messages().await?;
    loop {
        let message = messages.next().await.context("it has ended")??;
        let Ok(info) = message.info() else { continue };
        *last = Some(info.stream_sequence);
        let is_current = info.pending == 0;
        take(Step::Message {
            subject: &message.subject,
            payload: message.payload.clone(),
        });
        if is_current {
            take(Step::Current);
        }
    }
}
