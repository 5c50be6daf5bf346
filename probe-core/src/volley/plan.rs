//! Chooses mode and pace, from what the user wants, the peer agrees to and the device can do.

use probe_common::ntp::NS_PER_S;

use crate::volley::Mode;

/// Default number of balls. Each waits for the others in the same queues.
pub const DEFAULT_BALLS: u32 = 16;
pub const MAX_BALLS: u32 = 4_096;
/// Default time after which a probe without a reply is lost.
pub const DEFAULT_TIMEOUT_NS: u64 = 1_000_000_000;
/// The kernel's histograms end at 4.29 s.
pub const MAX_TIMEOUT_NS: u64 = 4_000_000_000;
pub const MAX_RATE_PER_S: u64 = 100_000_000;
/// Frames that leave at once: 256 overflow the ring of a veth.
pub const MAX_BATCH: u32 = 64;

/// Without a rate, this many probes each [`PERIOD_NS`].
const DEFAULT_BURST: Burst = Burst {
    probes: 256,
    period_ns: PERIOD_NS,
};
const PERIOD_NS: u64 = 250_000;
/// Limits of the time between two bursts: other work needs the processor, and no burst should be long.
const PERIODS_NS: (u64, u64) = (50_000, 1_000_000_000);
const MAX_BURST: u32 = 65_536;

/// Limits of the number of slots in the ring of probes.
const SLOTS: (u64, u64) = (1 << 12, 1 << 22);

/// Probes sent close together, and the time from one such burst to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    pub probes: u32,
    pub period_ns: u64,
}

/// The values that a plan follows, as the user gave them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanInputs {
    /// `None`: the best that the device can do.
    pub mode: Option<Mode>,
    /// Probes in a second, at most; `None`: as many as the peer allows.
    pub rate_per_s: Option<u64>,
    /// Balls in flight at once.
    pub balls: u32,
    /// `None`: by the rate.
    pub burst: Option<Burst>,
    /// Without pauses. For mode `volley` only.
    pub continuous: bool,
    /// Frames that leave at once in mode `train`.
    pub batch: u32,
    /// Time after which a probe without a reply is lost.
    pub timeout_ns: u64,
}

impl Default for PlanInputs {
    fn default() -> Self {
        Self {
            mode: None,
            rate_per_s: None,
            balls: DEFAULT_BALLS,
            burst: None,
            continuous: false,
            batch: MAX_BATCH,
            timeout_ns: DEFAULT_TIMEOUT_NS,
        }
    }
}

/// The modes that work on a device; `Err` is the reason why not, without the name of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    pub volley: Result<(), String>,
    pub train: Result<(), String>,
    pub sendmmsg: Result<(), String>,
}

impl Capabilities {
    pub fn of(&self, mode: Mode) -> &Result<(), String> {
        match mode {
            Mode::Volley => &self.volley,
            Mode::Train => &self.train,
            Mode::Sendmmsg => &self.sendmmsg,
        }
    }
}

/// The mode and pace that were chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub mode: Mode,
    /// Why this mode, in one sentence.
    pub reason: String,
    /// Probes in a second, at most; `None`: a continuous volley without a limit.
    pub rate_per_s: Option<u64>,
    pub balls: u32,
    pub burst: Burst,
    pub continuous: bool,
    pub batch: u32,
    pub timeout_ns: u64,
    /// Slots of the ring of probes: a power of two, at least twice the probes that are sent during the timeout.
    pub slots: u32,
}

impl Plan {
    /// Falls back to mode `sendmmsg`. A process sets its pace, so the burst is the limit of a run that had none.
    pub fn send_by_socket(&mut self, reason: String) {
        self.mode = Mode::Sendmmsg;
        self.reason = reason;
        self.continuous = false;
        let by_burst = rate_of(self.burst).min(highest_rate(self.timeout_ns));
        self.rate_per_s = self.rate_per_s.or(Some(by_burst));
    }
}

/// Why inputs are refused, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub String);

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// Chooses mode and pace. `limit_per_s` is the rate to which the peer agrees; `None`: any.
pub fn plan(inputs: &PlanInputs, limit_per_s: Option<u64>, able: &Capabilities) -> Result<Plan, Refusal> {
    check(inputs)?;
    let rate_per_s = rate(inputs, limit_per_s)?;
    let (mode, reason) = mode(inputs, able)?;
    if inputs.continuous && mode != Mode::Volley {
        return Err(Refusal(format!(
            "mode {mode} cannot be continuous, because a process sets its pace; leave out --continuous, or use mode volley"
        )));
    }
    let burst = burst_at(inputs.burst, rate_per_s);
    let rate_per_s = match rate_per_s {
        None if inputs.continuous => None,
        // Pauses are whole nanoseconds.
        Some(rate) if burst.period_ns <= period_ns(burst.probes, rate) => Some(rate),
        _ => Some(rate_of(burst)),
    };
    Ok(Plan {
        mode,
        reason,
        rate_per_s,
        balls: inputs.balls,
        burst,
        continuous: inputs.continuous,
        batch: inputs.batch,
        timeout_ns: inputs.timeout_ns,
        slots: slots(rate_per_s, inputs.timeout_ns)?,
    })
}

fn check(inputs: &PlanInputs) -> Result<(), Refusal> {
    let out_of_range = |what: &str, value: u64, low: u64, high: u64| {
        let inside = (low..=high).contains(&value);
        (!inside).then(|| Refusal(format!("{what} must be {low} to {high}, not {value}")))
    };
    let burst = inputs.burst.unwrap_or(Burst {
        probes: 1,
        period_ns: PERIOD_NS,
    });
    let refusal = out_of_range("the number of balls", inputs.balls.into(), 1, MAX_BALLS.into())
        .or_else(|| out_of_range("the rate", inputs.rate_per_s.unwrap_or(1), 1, MAX_RATE_PER_S))
        .or_else(|| out_of_range("the batch", inputs.batch.into(), 1, MAX_BATCH.into()))
        .or_else(|| out_of_range("the probes in a burst", burst.probes.into(), 1, MAX_BURST.into()))
        .or_else(|| {
            out_of_range(
                "the period of a burst in nanoseconds",
                burst.period_ns,
                PERIODS_NS.0,
                PERIODS_NS.1,
            )
        })
        .or_else(|| {
            out_of_range(
                "the timeout in nanoseconds",
                inputs.timeout_ns,
                1_000_000,
                MAX_TIMEOUT_NS,
            )
        });
    refusal.map_or(Ok(()), Err)
}

fn rate(inputs: &PlanInputs, limit_per_s: Option<u64>) -> Result<Option<u64>, Refusal> {
    match (inputs.rate_per_s, limit_per_s) {
        (_, Some(0)) => Err(Refusal("the peer does not agree to a volley".to_owned())),
        (Some(rate), Some(limit)) if rate > limit => Err(Refusal(format!(
            "the peer agrees to at most {limit} probes a second, not {rate}; use a lower rate, or give the peer a higher \
             --volley-limit"
        ))),
        (Some(rate), _) => Ok(Some(rate)),
        (None, None) if inputs.continuous => Ok(None),
        (None, limit) => {
            let wanted = limit.unwrap_or_else(|| rate_of(inputs.burst.unwrap_or(DEFAULT_BURST)));
            Ok(Some(wanted.min(highest_rate(inputs.timeout_ns)).min(MAX_RATE_PER_S)))
        }
    }
}

fn mode(inputs: &PlanInputs, able: &Capabilities) -> Result<(Mode, String), Refusal> {
    if let Some(mode) = inputs.mode {
        return match able.of(mode) {
            Ok(()) => Ok((mode, "as asked for".to_owned())),
            Err(reason) => Err(Refusal(format!("mode {mode} does not work here: {reason}"))),
        };
    }
    match (&able.volley, &able.sendmmsg) {
        (Ok(()), _) => Ok((Mode::Volley, "the device takes frames from XDP programs".to_owned())),
        (Err(reason), Ok(())) => Ok((Mode::Sendmmsg, reason.clone())),
        (Err(volley), Err(sendmmsg)) => Err(Refusal(format!("no mode works here: {volley}; {sendmmsg}"))),
    }
}

/// The burst that the user wants, or one about each [`PERIOD_NS`]. Its period is long enough that the rate is not exceeded.
fn burst_at(wanted: Option<Burst>, rate_per_s: Option<u64>) -> Burst {
    let Some(rate) = rate_per_s else {
        return wanted.unwrap_or(DEFAULT_BURST);
    };
    let by_rate = (rate * PERIOD_NS / NS_PER_S).clamp(1, MAX_BURST.into()) as u32;
    let probes = wanted.map_or(by_rate, |burst| burst.probes);
    Burst {
        probes,
        period_ns: period_ns(probes, rate).max(wanted.map_or(PERIODS_NS.0, |burst| burst.period_ns)),
    }
}

/// The shortest pause that holds the rate.
fn period_ns(probes: u32, rate_per_s: u64) -> u64 {
    (u64::from(probes) * NS_PER_S).div_ceil(rate_per_s)
}

fn rate_of(burst: Burst) -> u64 {
    (u64::from(burst.probes) * NS_PER_S / burst.period_ns).max(1)
}

/// Room for twice the probes that can be waiting, so that none is overwritten. A continuous volley without a rate gets the
/// maximum.
fn slots(rate_per_s: Option<u64>, timeout_ns: u64) -> Result<u32, Refusal> {
    let Some(rate) = rate_per_s else {
        return Ok(SLOTS.1 as u32);
    };
    let pending = u128::from(rate) * u128::from(timeout_ns) / u128::from(NS_PER_S);
    if rate > highest_rate(timeout_ns) {
        let longest_ms = SLOTS.1 / 2 * 1_000 / rate;
        return Err(Refusal(format!(
            "at {rate} probes a second, more than {} could be waiting for replies; use a timeout of at most {longest_ms} ms",
            SLOTS.1 / 2
        )));
    }
    Ok((pending as u64 * 2).next_power_of_two().clamp(SLOTS.0, SLOTS.1) as u32)
}

/// The highest rate at which the ring has room for twice the probes that can be waiting.
fn highest_rate(timeout_ns: u64) -> u64 {
    SLOTS.1 / 2 * NS_PER_S / timeout_ns
}

#[cfg(test)]
mod tests;
