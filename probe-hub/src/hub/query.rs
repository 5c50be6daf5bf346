//! Answers questions about the fleet, as a NATS service. The last token of a subject says what is asked for, and the message is
//! the query of an address of the HTTP API, as in `limit=10`.

use anyhow::{Result, anyhow};
use async_nats::Client;
use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::connection::State;
use async_nats::service::error::Error as Refusal;
use async_nats::service::{NATS_SERVICE_ERROR, Request, ServiceExt as _};
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use prost::bytes::Bytes;
use thiserror::Error;

use super::handle::Hub;
use crate::connection::{self, ConnectionError, Problem};
use crate::credentials::Credentials;
use crate::subjects::QUERY;

/// What can be asked for.
pub const NAMES: [&str; 6] = ["hosts", "ports", "matrix", "pair", "alerts", "top"];
/// Questions that are answered at once.
const MAX_QUERIES: usize = 4;
/// A longer reply is not sent: a server takes 1 MiB.
const MAX_REPLY: usize = 1_000_000;
const TOO_LONG: &str = "the reply is too long for a message; ask for less with limit=NUMBER";
const QUERY_TOO_LONG: usize = 413;

/// JSON, or a status of HTTP and why there is none.
pub type QueryReply = Result<Bytes, (u16, String)>;

/// Answers until the hub is stopped. `answer` gets one of [`NAMES`] and the query.
pub async fn serve<F>(hub: &Hub, answer: impl Fn(&'static str, String) -> F) -> Result<()>
where
    F: Future<Output = QueryReply>,
{
    let service = hub.client().service_builder().description("the fleet of kstamp");
    let version = env!("CARGO_PKG_VERSION");
    let service = service.start("kstamp", version).await.map_err(|error| anyhow!(error))?;
    let group = service.group(QUERY);
    let mut endpoints = Vec::new();
    for name in NAMES {
        let endpoint = group.endpoint(name).await.map_err(|error| anyhow!(error))?;
        endpoints.push(endpoint.map(move |request| (name, request)));
    }
    let answer = &answer;
    let answering = select_all(endpoints).for_each_concurrent(MAX_QUERIES, |(name, request)| async move {
        let query = String::from_utf8_lossy(&request.message.payload).into_owned();
        respond(&request, answer(name, query).await).await;
    });
    tokio::select! {
        () = answering => {}
        () = hub.stopped() => {}
    }
    // The connection ends with the hub.
    let _ = service.stop().await;
    Ok(())
}

async fn respond(request: &Request, answer: QueryReply) {
    let response = match answer {
        Ok(body) if body.len() > MAX_REPLY => Err((QUERY_TOO_LONG, TOO_LONG.to_owned())),
        Ok(body) => Ok(body),
        Err((code, why)) => Err((code.into(), why)),
    };
    let response = response.map_err(|(code, status)| Refusal { status, code });
    if let Err(error) = request.respond(response).await {
        log::debug!("a query is not answered: {error}");
    }
}

#[derive(Debug, Error)]
pub enum AskError {
    #[error("no hub answers; is one running, and connected to the same servers?")]
    NoHub,
    #[error("cannot reach the hub's server: {0}")]
    Unreachable(String),
    #[error("the hub's server cannot be used: {0}")]
    Unusable(String),
    #[error("the hub refuses: {0}")]
    Refused(String),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Asks hubs.
pub struct Asker {
    credentials: Credentials,
    client: Client,
}

impl Asker {
    pub async fn new(credentials: Credentials) -> Result<Self, AskError> {
        let client = connection::connect(&credentials, |_| async {}).await?;
        Ok(Self { credentials, client })
    }

    /// Asks for one of [`NAMES`].
    pub async fn ask(&self, name: &str, query: &str) -> Result<Bytes, AskError> {
        let subject = format!("{QUERY}.{name}");
        let reply = match self.client.request(subject, query.to_owned().into()).await {
            Ok(reply) => reply,
            Err(error) => return Err(self.failure(error).await),
        };
        let refusal = reply
            .headers
            .and_then(|headers| Some(headers.get(NATS_SERVICE_ERROR)?.to_string()));
        match refusal {
            Some(why) => Err(AskError::Refused(why)),
            None => Ok(reply.payload),
        }
    }

    async fn failure(&self, error: RequestError) -> AskError {
        if self.client.connection_state() != State::Connected
            && let Err(problem) = connection::diagnose(&self.credentials).await
        {
            return match problem {
                Problem::Unreachable(why) => AskError::Unreachable(why),
                Problem::Refused(why) => AskError::Unusable(why),
            };
        }
        if let Some(why) = connection::too_old_of(&self.credentials, &self.client.server_info()) {
            return AskError::Unusable(why);
        }
        match error.kind() {
            RequestErrorKind::NoResponders | RequestErrorKind::TimedOut => AskError::NoHub,
            _ => AskError::Request(error),
        }
    }
}
