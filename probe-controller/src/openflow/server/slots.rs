//! One connection slot per datapath.
//!
//! The first connection keeps its slot as long as it answers. It is checked when another connection claims the same
//! datapath, and loses the slot if it is silent. So a switch can reconnect at once after a silent failure,
//! and a second switch with the same id cannot replace the first.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::openflow::id::Dpid;
use crate::openflow::server::event::{ConnectionId, Reason};

/// Time for the older connection to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Request to the holder of a slot.
pub(super) enum Summons {
    /// Send an echo request, and answer when anything arrives.
    ShowLife(oneshot::Sender<()>),
    /// Close the connection; the sender is dropped afterwards.
    Leave(oneshot::Sender<()>),
}

struct Holder {
    connection: ConnectionId,
    address: SocketAddr,
    summons: mpsc::Sender<Summons>,
}

#[derive(Default)]
pub(super) struct Slots {
    holders: RefCell<HashMap<Dpid, Holder>>,
}

/// A slot that is held until this is dropped.
pub(super) struct Slot {
    slots: Rc<Slots>,
    dpid: Dpid,
    connection: ConnectionId,
    summons: mpsc::Receiver<Summons>,
}

impl Slots {
    /// Takes the slot of a datapath; fails if another connection holds it.
    pub(super) async fn take(
        self: &Rc<Self>,
        dpid: Dpid,
        connection: ConnectionId,
        address: SocketAddr,
    ) -> Result<Slot, Reason> {
        let holder = self
            .holders
            .borrow()
            .get(&dpid)
            .map(|holder| (holder.address, holder.summons.clone()));
        if let Some((other, summons)) = holder {
            if answers(&summons).await {
                return Err(Reason::DuplicateDpid { dpid, other });
            }
            leave(&summons).await;
        }
        // Another newcomer may have been quicker.
        let mut holders = self.holders.borrow_mut();
        if let Some(holder) = holders.get(&dpid) {
            let other = holder.address;
            return Err(Reason::DuplicateDpid { dpid, other });
        }
        let (sender, summons) = mpsc::channel(8);
        let holder = Holder {
            connection,
            address,
            summons: sender,
        };
        holders.insert(dpid, holder);
        Ok(Slot {
            slots: Rc::clone(self),
            dpid,
            connection,
            summons,
        })
    }
}

impl Slot {
    pub(super) fn summons(&mut self) -> &mut mpsc::Receiver<Summons> {
        &mut self.summons
    }
}

async fn answers(holder: &mpsc::Sender<Summons>) -> bool {
    let (sender, answer) = oneshot::channel();
    // If too many ask at a time they all get the answer that the slot is taken.
    match holder.try_send(Summons::ShowLife(sender)) {
        Ok(()) => matches!(timeout(ANSWER_TIMEOUT, answer).await, Ok(Ok(()))),
        Err(mpsc::error::TrySendError::Full(_)) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    }
}

async fn leave(holder: &mpsc::Sender<Summons>) {
    let (sender, left) = oneshot::channel();
    if holder.try_send(Summons::Leave(sender)).is_ok() {
        let _ = timeout(ANSWER_TIMEOUT, left).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut holders = self.slots.holders.borrow_mut();
        if holders
            .get(&self.dpid)
            .is_some_and(|holder| holder.connection == self.connection)
        {
            holders.remove(&self.dpid);
        }
    }
}
