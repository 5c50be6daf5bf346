//! One connection for each datapath: who has it, and who gets it if two want it.
//!
//! The rule: the connection that was there first stays as long as it answers. It is asked when another says that it is
//! the same datapath, and if it is silent the newcomer takes its place. So a switch that lost its connection without either
//! end noticing comes back at once, and one that only claims to be another does not get its place.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::openflow::id::Dpid;
use crate::openflow::server::event::{ConnectionId, Reason};

/// How long the older connection has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// What a connection is told about its slot.
pub(super) enum Summons {
    /// Ask the switch for a sign of life, and say when there is one.
    ShowLife(oneshot::Sender<()>),
    /// Leave; what is given is dropped when it is done.
    Leave(oneshot::Sender<()>),
}

struct Holder {
    connection: ConnectionId,
    address: SocketAddr,
    summons: mpsc::Sender<Summons>,
}

/// All slots that are taken.
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
    /// Takes the slot of a datapath, or says who has it.
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
    /// Where its holder is told about it.
    pub(super) fn summons(&mut self) -> &mut mpsc::Receiver<Summons> {
        &mut self.summons
    }
}

async fn answers(holder: &mpsc::Sender<Summons>) -> bool {
    let (sender, answer) = oneshot::channel();
    // If too many ask at a time they all get the answer that the slot is taken.
    match holder.try_send(Summons::ShowLife(sender)) {
        Ok(()) => matches!(timeout(ANSWER_WITHIN, answer).await, Ok(Ok(()))),
        Err(mpsc::error::TrySendError::Full(_)) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    }
}

async fn leave(holder: &mpsc::Sender<Summons>) {
    let (sender, left) = oneshot::channel();
    if holder.try_send(Summons::Leave(sender)).is_ok() {
        let _ = timeout(ANSWER_WITHIN, left).await;
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
