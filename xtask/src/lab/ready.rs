//! Waits until the agents of a lab reach each other, which takes longer than the commands that build it.

use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::exec::{self, KillOnDrop};
use crate::lab::namespace;
use crate::lab::topology::{AgentNs, Families};
use crate::signals;

/// How long ports may take to become usable.
const REACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Rounds of pings until none is lost; limited, because a line with loss always loses some.
const MAX_ROUNDS: usize = 5;

/// Waits until every agent and the first reach each other, and then until no packet is lost, so that start-up is not
/// measured: a switch drops packets while it adds its ports, and the first packet of each flow costs an upcall.
pub(crate) fn wait(agents: &[AgentNs], families: Families) -> Result<()> {
    let Some((first, others)) = agents.split_first() else {
        return Ok(());
    };
    for other in others {
        for address in other.addresses(families) {
            // A ping fails after three lost ARP requests, which proves nothing on a line with loss.
            let (begin, limit) = (Instant::now(), REACH_TIMEOUT.as_secs().to_string());
            let options = ["-c", "1", "-i", "0.05", "-w", &limit];
            while loss_of(ping(first, address, &options)?)? == Loss::All {
                if begin.elapsed() >= REACH_TIMEOUT {
                    let (from, to) = (&first.namespace, &other.namespace);
                    bail!("{from} does not reach {address} ({to}) within {REACH_TIMEOUT:?}");
                }
            }
        }
    }
    for _ in 0..MAX_ROUNDS {
        let mut pings = Vec::new();
        for other in others {
            for (from, to) in [(first, other), (other, first)] {
                for address in to.addresses(families) {
                    let options = ["-c", "3", "-i", "0.02", "-W", "1"];
                    pings.push(ping(from, address, &options)?);
                }
            }
        }
        let losses = pings.into_iter().map(loss_of).collect::<Result<Vec<_>>>()?;
        if losses.iter().all(|&loss| loss == Loss::None) {
            break;
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    Some,
    All,
}

/// Waits for the end of a ping.
fn loss_of(mut ping: KillOnDrop) -> Result<Loss> {
    loop {
        if let Some(status) = exec::wait_within(&mut ping, Duration::from_millis(50))? {
            let mut text = String::new();
            if let Some(stdout) = ping.stdout.as_mut() {
                stdout
                    .read_to_string(&mut text)
                    .context("cannot read the output of ping")?;
            }
            return Ok(match (status.success(), text.contains(" 0% packet loss")) {
                (true, true) => Loss::None,
                (true, false) => Loss::Some,
                (false, _) => Loss::All,
            });
        }
        signals::check()?;
    }
}

fn ping(from: &AgentNs, address: IpAddr, options: &[&str]) -> Result<KillOnDrop> {
    let mut command = Command::new("ping");
    command.args(["-n", "-q"]).args(options).arg(address.to_string());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.process_group(0);
    namespace::enter(&mut command, &from.namespace);
    exec::spawn(&mut command).map(KillOnDrop)
}
