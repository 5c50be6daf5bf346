//! What an agent hands over to its server.

use crate::output::metrics::State;
use crate::output::model::Event;

#[derive(Debug)]
pub enum Update {
    Event(Box<Event>),
    State(Box<State>),
    /// Another report interval, in nanoseconds.
    ReportInterval(u64),
}
