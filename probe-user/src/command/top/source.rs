//! Where records come from: an agent of its own, or the server of another one.

pub mod agent;
mod client;
mod history;
mod lines;
pub mod server;

use crate::command::top::model::Update;
use crate::output::report::record::{Record, RecordError};

/// Updates that may wait. A source that is faster waits; an agent leaves records out then, and says so.
pub const MAX_WAITING: usize = 1_024;

/// Of records without an agent, which old versions wrote.
const UNNAMED: &str = "-";

/// A line as an update; `None` of a record that this version does not know.
fn update(line: &[u8]) -> Option<Update> {
    match Record::read(line, Some(UNNAMED)) {
        Ok((agent, record)) => Some(Update::Record(agent.into_owned(), Box::new(record))),
        Err(RecordError::OfAnotherCommand(_)) => None,
        Err(error) => Some(Update::Unreadable(error.to_string())),
    }
}
