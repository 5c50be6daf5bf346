//! What the server tells: a queue that wakes its reader at once only for what cannot wait.
//!
//! Answers to what measures come thousands a second, and bear the stamp of their arrival. To be woken for each of them
//! would cost more than all that is made of them; they are taken with what comes next.

use std::sync::Arc;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, mpsc};

use crate::openflow::server::event::Event;

/// Events that may wait to be taken. When there are as many, packet-ins and echo replies are dropped and counted, and all
/// else waits.
const MOST: usize = 8_192;

/// A queue without events.
pub(super) fn channel() -> (Teller, Events) {
    let (sender, all) = mpsc::channel(MOST);
    let pressing = Arc::new(Notify::new());
    let bell = Bell(Arc::clone(&pressing));
    (Teller { sender, bell }, Events { all, pressing })
}

/// What happened, in the order in which it did. Ends when the server has ended.
pub struct Events {
    all: mpsc::Receiver<Event>,
    pressing: Arc<Notify>,
}

impl Events {
    /// The next event.
    ///
    /// # Errors
    /// `Empty` if there is none yet, `Disconnected` if there will be none: the server has ended.
    pub fn try_recv(&mut self) -> Result<Event, TryRecvError> {
        self.all.try_recv()
    }

    /// Waits for something that does not wait: all but answers to what measures, a queue that fills up, the server's end.
    /// All that is there must then be taken. Cancel safe.
    pub async fn pressing(&self) {
        self.pressing.notified().await;
    }
}

/// The other end.
pub(super) struct Teller {
    // Before the bell, which is rung when this is gone.
    sender: mpsc::Sender<Event>,
    bell: Bell,
}

impl Teller {
    /// Sends an event that must not be lost.
    pub(super) async fn tell(&self, event: Event) {
        if self.sender.capacity() == 0 {
            self.bell.ring();
        }
        // If nobody listens any more, the server is about to be stopped.
        let _ = self.sender.send(event).await;
        self.bell.ring();
    }

    /// Sends an event that is better dropped than late; false if it was.
    pub(super) fn tell_now(&self, event: Event) -> bool {
        let presses = !event.what.can_wait() || self.sender.capacity() < MOST / 2;
        let told = self.sender.try_send(event).is_ok();
        if presses {
            self.bell.ring();
        }
        told
    }
}

/// Rung when there is something to hurry for, and when it is dropped.
struct Bell(Arc<Notify>);

impl Bell {
    fn ring(&self) {
        self.0.notify_one();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ring();
    }
}
