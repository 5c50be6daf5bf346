//! What the hub of a fleet wants of the running agent.

use std::net::IpAddr;

use anyhow::Result;
use log::info;
use probe_host::clock::monotonic_ns;
use probe_hub::agent::Request;
use probe_io::port::Answering;

use crate::command::agent::fleet::targets::{self, Refused};
use crate::command::agent::fleet::{Fleet, session_key};
use crate::command::agent::run::Run;
use crate::command::shared::host::refusals;

impl Run {
    pub(super) async fn serve_hub(&mut self, request: Request) -> Result<()> {
        match request {
            Request::Assign(assignment) => {
                let Some(fleet) = &mut self.fleet else { return Ok(()) };
                info!(
                    "the hub assigns {} peers, and {} that probe this port",
                    assignment.targets.len(),
                    assignment.probers.len()
                );
                fleet.set_assignment(assignment);
                self.assign().await?;
                self.poll_interface().await
            }
            Request::Replies(session, reply) => {
                reply.send(self.endpoint.replies_sent(&session_key(&session)));
                Ok(())
            }
        }
    }

    /// Probes the targets of the last assignment, and answers its probers from the next poll of the interface on.
    pub(super) async fn assign(&mut self) -> Result<()> {
        let Some(fleet) = &mut self.fleet else { return Ok(()) };
        let Some(assignment) = fleet.assignment() else {
            return Ok(());
        };
        let port = &self.config.endpoint.port;
        let policy = self.endpoint.port.policy();
        let (mut peers, mut refused) = targets::choose(&assignment.targets, &policy);
        let probers = targets::probers(assignment, port.answering.allow.len());
        let known = self.agent.assigned();
        let new: Vec<IpAddr> = peers
            .iter()
            .map(|(address, _)| *address)
            .filter(|address| !known.contains(address))
            .collect();
        for (address, refusal) in refusals(&port.interface, &new).await? {
            refuse(&mut peers, &mut refused, address, &refusal.to_string());
        }
        let addresses = peers.iter().map(|(address, _)| *address).collect();
        for address in self.agent.assign(addresses, monotonic_ns()) {
            refuse(
                &mut peers,
                &mut refused,
                address,
                "has no room beside the other peers of this port",
            );
        }
        fleet.set_in_force(peers, probers, refused);
        let answering = self.answering(&self.config.endpoint.port.answering);
        self.endpoint.port.set_answering(answering);
        Ok(())
    }

    /// Prefixes and rates with the sources that the hub has assigned.
    pub(super) fn answering(&self, configured: &Answering) -> Answering {
        let mut answering = configured.clone();
        answering.allow.extend(self.fleet.iter().flat_map(Fleet::probers));
        answering
    }
}

/// Takes an address out of the peers.
fn refuse(
    peers: &mut Vec<(IpAddr, probe_hub::name::PortName)>,
    refused: &mut Vec<Refused>,
    address: IpAddr,
    why: &str,
) {
    let taken = peers.extract_if(.., |(peer, _)| *peer == address);
    refused.extend(taken.map(|(address, port)| Refused {
        port,
        address,
        why: why.to_owned(),
    }));
}
