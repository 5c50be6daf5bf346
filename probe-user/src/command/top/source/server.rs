//! The records of a running agent: what it remembers, and from then on what it streams as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};

use crate::command::top::config::ServerConfig;
use crate::command::top::model::Update;
use crate::command::top::source::client::{Client, error_of};
use crate::command::top::source::lines::Lines;
use crate::command::top::source::{history, update};

const STREAM: &str = "/api/v1/stream";
/// A server that sends nothing is dead: it sends a comment every few seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// A server may show a page of this age, which must not be older than the stream.
const AGE_OF_PAGES: Duration = Duration::from_millis(250);
/// For the history. What is not read by then is left out.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(10);
/// Records of the stream that wait for the history. The server holds some more.
const MAX_HELD: usize = 4_096;

/// Hands over records, and connects again whenever the stream ends, until nobody takes the updates.
pub async fn follow(config: ServerConfig, updates: Sender<Update>) {
    loop {
        let Err(why) = records(&config, &updates).await;
        if updates.send(Update::Lost(why)).await.is_err() {
            return;
        }
        sleep(PAUSE).await;
    }
}

/// The stream is opened before the history is read, so that no record is missing between them. Records that are in both
/// are left out by the model.
async fn records(config: &ServerConfig, updates: &Sender<Update>) -> Result<Infallible, String> {
    let mut stream = Stream::open(config).await?;
    let gone = |_| "top has ended".to_owned();
    updates.send(Update::Found).await.map_err(gone)?;
    let mut history = pin!(timeout(HISTORY_TIMEOUT, async {
        sleep(AGE_OF_PAGES).await;
        history::read(config, updates).await
    }));
    let mut held = Vec::new();
    let read = loop {
        tokio::select! {
            read = &mut history => break read,
            update = stream.next(), if held.len() < MAX_HELD => held.push(update?),
        }
    };
    let late = |_| Err(format!("not read within {} s", HISTORY_TIMEOUT.as_secs()));
    if let Err(why) = read.unwrap_or_else(late) {
        let said = Update::Said(format!("some of the history is missing: {why}"));
        updates.send(said).await.map_err(gone)?;
    }
    for update in held {
        updates.send(update).await.map_err(gone)?;
    }
    loop {
        updates.send(stream.next().await?).await.map_err(gone)?;
    }
}

struct Stream<'a> {
    config: &'a ServerConfig,
    body: Incoming,
    lines: Lines,
    read: VecDeque<Vec<u8>>,
}

impl<'a> Stream<'a> {
    async fn open(config: &'a ServerConfig) -> Result<Self, String> {
        let reply = Client::open(config).await?.get(STREAM, "text/event-stream").await?;
        let of = |what: &dyn std::fmt::Display| Err(error_of(config, what));
        let kind = reply.headers().get(CONTENT_TYPE);
        let is_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        match reply.status() {
            StatusCode::OK if is_stream => Ok(Self {
                config,
                body: reply.into_body(),
                lines: Lines::default(),
                read: VecDeque::new(),
            }),
            StatusCode::OK | StatusCode::NOT_FOUND => of(&"no kstamp agent with --listen answers there"),
            status => of(&format!("the server answers {status}")),
        }
    }

    /// The next record. It loses nothing if it is dropped before it is done.
    async fn next(&mut self) -> Result<Update, String> {
        let url = &self.config.url;
        loop {
            while let Some(line) = self.read.pop_front() {
                let data = line.strip_prefix(b"data:");
                if let Some(update) = data.and_then(|data| update(data.trim_ascii())) {
                    return Ok(update);
                }
            }
            let frame = timeout(SILENCE, self.body.frame()).await;
            let frame = frame.map_err(|_| format!("nothing from {url} for {} s", SILENCE.as_secs()))?;
            let frame = frame.ok_or_else(|| format!("{url} has ended the stream"))?;
            let frame = frame.map_err(|error| format!("{url}: {error}"))?;
            let bytes = frame.data_ref().map(|bytes| self.lines.take(bytes));
            self.read.extend(bytes.unwrap_or_default());
        }
    }
}
