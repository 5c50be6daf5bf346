//! What a controller hands over to its server.

use crate::command::controller::output::model::{ControllerReport, Happened, Start};

#[derive(Debug)]
pub enum Update {
    Start(Start),
    Event(Happened),
    Report(Box<ControllerReport>),
}
