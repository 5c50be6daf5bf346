//! A lab is up when its agents reach each other, not when its commands have returned.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{AgentNs, namespace};
use crate::{exec, signals};

/// How long ports may take to become usable.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often packets are sent in the hope that none is lost; on a line that loses, some always are.
const ROUNDS: usize = 5;

/// Waits until every agent and the first reach each other by IPv4 and IPv6, and then until nothing is lost any
/// more: a switch that is still taking in its ports drops packets now and then, and the first packet of each flow
/// costs it a decision, neither of which is what anybody wants to measure.
pub(crate) fn wait(agents: &[AgentNs]) -> Result<()> {
    let Some((first, others)) = agents.split_first() else {
        return Ok(());
    };
    for other in others {
        for address in [other.v4.to_string(), other.v6.to_string()] {
            // As many as it takes, until one is answered. A ping ends before its time where three questions for the MAC
            // address were not answered, and on a line that loses that is no proof.
            let (begin, limit) = (Instant::now(), PATIENCE.as_secs().to_string());
            let options = ["-c", "1", "-i", "0.05", "-w", &limit];
            while loses(ping(first, &address, &options)?)? == Loss::All {
                if begin.elapsed() >= PATIENCE {
                    let to = &other.namespace;
                    bail!(
                        "{} does not reach {address} ({to}) within {PATIENCE:?}",
                        first.namespace
                    );
                }
            }
        }
    }
    for _ in 0..ROUNDS {
        let mut pings = Vec::new();
        for other in others {
            for (from, to) in [(first, other), (other, first)] {
                for address in [to.v4.to_string(), to.v6.to_string()] {
                    let options = ["-c", "3", "-i", "0.02", "-W", "1"];
                    pings.push(ping(from, &address, &options)?);
                }
            }
        }
        let losses = pings.into_iter().map(loses).collect::<Result<Vec<_>>>()?;
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

/// Waits for a ping; how much of it was not answered.
fn loses(mut ping: Child) -> Result<Loss> {
    loop {
        if let Some(status) = exec::wait_within(&mut ping, Duration::from_millis(50))? {
            let mut text = String::new();
            if let Some(stdout) = ping.stdout.as_mut() {
                stdout
                    .read_to_string(&mut text)
                    .context("cannot read what ping prints")?;
            }
            return Ok(match (status.success(), text.contains(" 0% packet loss")) {
                (true, true) => Loss::None,
                (true, false) => Loss::Some,
                (false, _) => Loss::All,
            });
        }
        if let Err(interrupted) = signals::check() {
            // Ended meanwhile is as good.
            let _ = ping.kill();
            let _ = ping.wait();
            return Err(interrupted);
        }
    }
}

fn ping(from: &AgentNs, address: &str, options: &[&str]) -> Result<Child> {
    let mut command = Command::new("ping");
    command.args(["-n", "-q"]).args(options).arg(address);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.process_group(0);
    namespace::enter(&mut command, &from.namespace);
    command
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::line(&command)))
}
