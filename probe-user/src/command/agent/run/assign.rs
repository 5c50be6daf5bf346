//! Carries out the hub's requests in the running agent.

use anyhow::Result;
use log::info;
use probe_host::clock::monotonic_ns;
use probe_hub::agent::{RefusedTarget, Request};
use probe_io::port::Answering;

use crate::command::agent::fleet::targets;
use crate::command::agent::fleet::{Fleet, Work, session_key};
use crate::command::agent::run::Run;

impl Run {
    pub(super) async fn work_for_fleet(&mut self, work: Work) -> Result<()> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        match work {
            Work::Request(Request::Assign(assignment)) => {
                let (targets, probers) = (assignment.targets.len(), assignment.probers.len());
                info!("the hub assigns {targets} peers, and {probers} that probe this port");
                fleet.check(assignment, self.agent.assigned());
                Ok(())
            }
            Work::Request(Request::Replies(session, reply)) => {
                reply.send(self.endpoint.replies_sent(&session_key(&session)));
                Ok(())
            }
            Work::Checked(checked) => {
                if !fleet.set_checked(checked) {
                    return Ok(());
                }
                self.assign();
                self.poll_interface().await
            }
        }
    }

    /// Probes the targets of the last assignment, and answers its probers from the next poll of the interface on.
    pub(super) fn assign(&mut self) {
        let Some(fleet) = &mut self.fleet else { return };
        let Some(assignment) = fleet.assignment() else { return };
        let policy = self.endpoint.port.policy();
        let (mut peers, mut refused) = targets::choose(&assignment.targets, &policy, fleet.unreachable());
        let probers = targets::probers(assignment, self.config.endpoint.port.answering.allow.len());
        let addresses = peers.iter().map(|(address, _)| *address).collect();
        let without_room = self.agent.assign(addresses, monotonic_ns());
        let taken = peers.extract_if(.., |(address, _)| without_room.contains(address));
        refused.extend(taken.map(|(address, port)| RefusedTarget {
            port,
            address,
            why: "it has no room beside the other peers of this port".to_owned(),
        }));
        fleet.set_in_force(peers, probers, refused);
        let answering = self.answering(&self.config.endpoint.port.answering);
        self.endpoint.port.set_answering(answering);
    }

    /// Prefixes and rates with the sources that the hub has assigned.
    pub(super) fn answering(&self, configured: &Answering) -> Answering {
        let mut answering = configured.clone();
        answering.allow.extend(self.fleet.iter().flat_map(Fleet::probers));
        answering
    }
}
