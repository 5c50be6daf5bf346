//! What the controller last reported, and what happened before.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::command::controller::output::model::{ControllerReport, Happened, Start};
use crate::command::controller::site::history::History;

pub(super) struct State {
    /// Who measures.
    pub(super) agent: String,
    pub(super) start: Option<Start>,
    /// The last one.
    pub(super) report: Option<Arc<ControllerReport>>,
    /// The newest first.
    pub(super) events: VecDeque<Happened>,
    pub(super) history: History,
}
