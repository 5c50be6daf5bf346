//! Whether a switch is alive.

use std::time::Duration;

use probe_host::clock::monotonic_ns;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::openflow::message::Message;
use crate::openflow::server::Reason;
use crate::openflow::server::connection::{Connection, Left, Reply};
use crate::openflow::server::seats::Summons;

impl Connection {
    /// Ends when the switch has been silent for too long, or another connection of the same datapath takes its place.
    pub(super) async fn watch(&self, summons: &mut mpsc::Receiver<Summons>, replies: &mpsc::Sender<Reply>) -> Left {
        let limits = &self.context.config.limits;
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        loop {
            let silent = self.silent_for();
            if silent >= limits.dead {
                let reason = Reason::Silent(format!("no sign of life for {} s", silent.as_secs()));
                return Left { reason, told: None };
            }
            // A quarter of the limit at a time: late by no more than that.
            let next = if silent < limits.idle {
                limits.idle - silent
            } else {
                limits.dead / 4
            };
            tokio::select! {
                summoned = summons.recv() => match summoned {
                    Some(Summons::ShowLife(answer)) => {
                        waiting.push(answer);
                        self.ask(replies);
                    }
                    Some(Summons::Leave(told)) => {
                        let reason = Reason::Superseded(self.dpid);
                        return Left { reason, told: Some(told) };
                    }
                    // The sender is kept with the seat, which outlives this.
                    None => std::future::pending().await,
                },
                () = self.heard.notified(), if !waiting.is_empty() => {
                    for answer in waiting.drain(..) {
                        let _ = answer.send(());
                    }
                }
                () = sleep(next) => {
                    if self.silent_for() >= limits.idle {
                        self.ask(replies);
                    }
                }
            }
        }
    }

    fn silent_for(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.heard_ns.get()))
    }

    /// Asks for a sign of life. If that cannot be queued, more than enough is waiting for the switch already.
    fn ask(&self, replies: &mpsc::Sender<Reply>) {
        let xid = self.xid();
        let message = Message::EchoRequest(Vec::new());
        if replies.try_send(Reply { xid, message }).is_ok() {
            self.keepalive.set(Some(xid));
        }
    }
}
