//! What a switch is told.

use log::warn;
use probe_host::clock::monotonic_ns;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::openflow::message::Message;
use crate::openflow::server::connection::{Connection, Reply};
use crate::openflow::server::io::Outgoing;
use crate::openflow::server::{Command, Reason};

/// Barriers that may wait for their answers.
const MAX_BARRIERS: usize = 1_024;

impl Connection {
    /// Writes until the connection is to be closed.
    pub(super) async fn write<S: AsyncWrite>(
        &self,
        outgoing: &mut Outgoing<S>,
        mut commands: mpsc::Receiver<Command>,
        mut replies: mpsc::Receiver<Reply>,
    ) -> Reason {
        let mut stop = self.context.stop.clone();
        loop {
            let written = tokio::select! {
                biased;
                Some(reply) = replies.recv() => self.send(outgoing, &reply.message, reply.xid).await,
                Some(command) = commands.recv() => self.carry_out(outgoing, command).await,
                _ = stop.wait_for(|&stop| stop) => {
                    while let Ok(command) = commands.try_recv() {
                        if let Err(reason) = self.carry_out(outgoing, command).await {
                            return reason;
                        }
                    }
                    return Reason::ClosedHere;
                }
            };
            if let Err(reason) = written {
                return reason;
            }
        }
    }

    async fn carry_out<S: AsyncWrite>(&self, outgoing: &mut Outgoing<S>, command: Command) -> Result<(), Reason> {
        match command {
            Command::Send(message) => self.send(outgoing, &message, self.xid()).await,
            // All that was to be written before has been handed to the kernel, so now is the time of the write.
            Command::SendStamped(build) | Command::SendStampedAt(_, build) => {
                self.send(outgoing, &build(monotonic_ns()), self.xid()).await
            }
            Command::Barrier(token) => {
                let xid = self.xid();
                let waiting = {
                    let mut barriers = self.barriers.borrow_mut();
                    barriers.insert(xid, token);
                    barriers.len()
                };
                if waiting > MAX_BARRIERS {
                    return Err(Reason::Silent(format!("it has not answered {waiting} barriers")));
                }
                self.send(outgoing, &Message::BarrierRequest, xid).await
            }
            Command::Close => Err(Reason::ClosedHere),
        }
    }

    async fn send<S: AsyncWrite>(&self, outgoing: &mut Outgoing<S>, message: &Message, xid: u32) -> Result<(), Reason> {
        match message.encode(xid) {
            Ok(bytes) => outgoing.write(&bytes).await,
            Err(error) => {
                // Ours, not the switch's fault: the connection lives on.
                warn!("switch {} at {}: not sent: {error}", self.dpid, self.address);
                Ok(())
            }
        }
    }
}
