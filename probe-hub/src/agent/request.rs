//! Requests of the hub to the measuring loop.

use tokio::sync::oneshot;

use crate::message::assignment::Assignment;
use crate::message::event::Session;

#[derive(Debug)]
pub enum Request {
    /// Probe these targets and answer these probers. Signed by the hub, newer than the one before, and within the limits of
    /// [`LinkConfig`](crate::agent::LinkConfig). Answer with [`Link::probing`](crate::agent::Link::probing).
    Assign(Assignment),
    /// How many replies has the reflector sent in this session?
    Replies(Session, Reply),
}

/// Takes the answer to [`Request::Replies`], within a second. Dropped, the question stays unanswered.
#[derive(Debug)]
pub struct Reply(pub(super) oneshot::Sender<Option<u32>>);

impl Reply {
    /// `None`: the reflector does not know the session.
    pub fn send(self, replies: Option<u32>) {
        // An answer that comes too late is not wanted any more.
        let _ = self.0.send(replies);
    }
}
