//! Configuration of `kstamp volley`.

use std::net::IpAddr;
use std::path::PathBuf;

use probe_core::volley::{Burst, Capabilities, MAX_BALLS, MAX_BATCH, MAX_RATE_PER_S, Mode, PlanInputs, plan};

use crate::command::shared::values::{self, ConfigError, wrong};
use crate::command::volley::args::{ModeArg, VolleyArgs};
use crate::output::Format;

/// Default rate in probes per second.
const DEFAULT_RATE: u64 = 100_000;
/// The minimum of --every: each row reads the histograms of all processors.
const MIN_EVERY_NS: u64 = 10_000_000;

/// The rate that the user asks for, in probes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// 100,000, or what the peer agrees to if that is less.
    Default,
    AtMost(u64),
    /// What the peer agrees to. Without a limit of the peer, as fast as this host can.
    Max,
}

impl Rate {
    /// The rate to plan with, if the peer agrees to `limit`; `None`: any.
    pub fn within(self, limit: Option<u64>) -> Option<u64> {
        match self {
            Self::Default => Some(limit.map_or(DEFAULT_RATE, |limit| limit.min(DEFAULT_RATE))),
            Self::AtMost(rate) => Some(rate),
            Self::Max => None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct VolleyConfig {
    pub interface: String,
    pub peer: IpAddr,
    pub port: u16,
    pub rate: Rate,
    /// Without the rate, which depends on the peer.
    pub inputs: PlanInputs,
    pub duration_ns: u64,
    /// Between two rows.
    pub every_ns: u64,
    pub samples: Option<PathBuf>,
    /// Number of probes of which one is a sample.
    pub samples_every: u32,
    pub force: bool,
    pub html: Option<PathBuf>,
    pub format: Format,
    /// `None` for standard output.
    pub output: Option<PathBuf>,
}

pub fn validate(args: VolleyArgs) -> Result<VolleyConfig, ConfigError> {
    values::interface(&args.iface)?;
    if args.peer.parse().is_ok_and(|peer: IpAddr| peer.is_multicast()) {
        return wrong(format!(
            "--peer {} is a multicast address; a volley goes to one host",
            args.peer
        ));
    }
    let [peer] = values::peers(&[args.peer], &args.iface)?[..] else {
        return wrong("--peer must be one address");
    };
    let every_ns = values::duration_ns("--every", &args.every)?;
    if every_ns < MIN_EVERY_NS {
        return wrong(format!("--every {} is too short; use 10ms or more", args.every));
    }
    let output = values::output(args.output.output);
    let samples = values::other_output("--samples", args.samples, output.as_ref())?;
    let html = values::other_output("--html", args.html, output.as_ref())?;
    if html.is_some() && html == samples {
        return wrong("--html and --samples name the same file; give each its own");
    }
    let rate = args.rate.as_deref().map_or(Ok(Rate::Default), rate)?;
    let inputs = PlanInputs {
        mode: match args.mode {
            ModeArg::Auto => None,
            ModeArg::Volley => Some(Mode::Volley),
            ModeArg::Train => Some(Mode::Train),
            ModeArg::Sendmmsg => Some(Mode::Sendmmsg),
        },
        rate_per_s: None,
        balls: from_1("--balls", &args.balls, MAX_BALLS)?,
        burst: args.burst.as_deref().map(burst).transpose()?,
        continuous: args.continuous,
        batch: from_1("--batch", &args.batch, MAX_BATCH)?,
        timeout_ns: values::duration_ns("--timeout", &args.timeout)?,
    };
    check(&inputs, rate)?;
    Ok(VolleyConfig {
        interface: args.iface,
        peer,
        port: values::port(&args.port)?,
        rate,
        inputs,
        duration_ns: values::duration_ns("--duration", &args.duration)?,
        every_ns,
        samples,
        samples_every: from_1("--samples-every", &args.samples_every, u32::MAX)?,
        force: args.force,
        html,
        format: args.output.format,
        output,
    })
}

/// Refuses values that no device and no peer could accept.
fn check(inputs: &PlanInputs, rate: Rate) -> Result<(), ConfigError> {
    let able = Capabilities {
        volley: Ok(()),
        train: Ok(()),
        sendmmsg: Ok(()),
    };
    let inputs = PlanInputs {
        rate_per_s: rate.within(None),
        ..inputs.clone()
    };
    plan(&inputs, None, &able).map_or_else(|refusal| wrong(refusal.to_string()), |_| Ok(()))
}

fn rate(text: &str) -> Result<Rate, ConfigError> {
    match text.parse() {
        _ if text == "max" => Ok(Rate::Max),
        Ok(rate) if (1..=MAX_RATE_PER_S).contains(&rate) => Ok(Rate::AtMost(rate)),
        _ => wrong(format!(
            "--rate '{text}' is not a number of probes a second; use 1 to {MAX_RATE_PER_S}, or max"
        )),
    }
}

fn from_1(flag: &str, text: &str, max: u32) -> Result<u32, ConfigError> {
    match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => wrong(format!("{flag} '{text}' is not a number from 1 to {max}")),
    }
}

/// `NUMBER/PERIOD`.
fn burst(text: &str) -> Result<Burst, ConfigError> {
    let Some((number, period)) = text.split_once('/') else {
        return wrong(format!(
            "--burst '{text}' lacks a part; write NUMBER/PERIOD, such as 256/250us"
        ));
    };
    Ok(Burst {
        probes: from_1("--burst", number, u32::MAX)?,
        period_ns: values::duration_ns("--burst", period)?,
    })
}

#[cfg(test)]
mod tests;
