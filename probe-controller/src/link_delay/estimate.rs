//! Estimates the round trip of a link from its terms, with the bound of its error.

use crate::link_delay::Window;

/// Fewer samples of a term do not show its spread.
const MIN_SAMPLES: usize = 3;
/// With fewer samples of a term, medians are compared instead of minima, which vary too much.
const MIN_SAMPLES_FOR_MINIMUM: usize = 5;

/// The terms of a link; forward is from `from` to `to`.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkTerms<'a> {
    /// LLDP forward and backward.
    pub lldp: [Option<&'a Window>; 2],
    /// Echo of the switches at `from` and `to`.
    pub echo: [Option<&'a Window>; 2],
    /// Packet-out to CONTROLLER at `from` and `to`.
    pub baseline: [Option<&'a Window>; 2],
    /// Bounces out of `from` and out of `to`.
    pub bounce: [Option<&'a Window>; 2],
    /// Kernel stamps, forward and backward.
    pub kernel: [Option<&'a Window>; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    Minimum,
    /// The median of each term, while there are few samples.
    Median,
}

/// A round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// A difference of measured times, so it may be negative; it is never clamped.
    pub rtt_ns: i64,
    /// Bound of the error: the spread of the terms, and known costs besides the link.
    pub error_ns: u64,
    pub by: Statistic,
}

/// Round trip of a link by each method; `None` while samples are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkEstimates {
    /// LLDP in both directions minus both echoes.
    pub lldp_echo: Option<Estimate>,
    /// Bounce minus the packet-out baseline of its switch.
    pub bounce: Option<Estimate>,
    /// Kernel stamps of the same LLDP.
    pub kernel: Option<Estimate>,
    /// Kernel one-way delays, medians, forward and backward.
    pub kernel_one_way_ns: [Option<i64>; 2],
}

/// Classifies the estimate by LLDP and echo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkState {
    /// Above the noise: an edge, weighed by it.
    Valid,
    /// Within the noise, on either side of zero: an edge, weighed by the noise.
    BelowResolution,
    /// Below zero by more than the noise: not an edge.
    Negative,
    /// LLDP no longer arrives: not an edge.
    Stale,
    /// A term has no sample, or too few: not an edge.
    Missing,
}

pub fn link_estimates(terms: &LinkTerms<'_>) -> LinkEstimates {
    let bounce = bounce(terms);
    LinkEstimates {
        lldp_echo: lldp_echo(terms).map(|estimate| reaching_down_to(estimate, bounce)),
        bounce,
        kernel: kernel(terms),
        kernel_one_way_ns: terms.kernel.map(|window| window?.median()),
    }
}

/// State of a link whose LLDP arrives.
pub fn state_of(estimate: Option<&Estimate>) -> LinkState {
    match estimate {
        None => LinkState::Missing,
        Some(estimate) if estimate.rtt_ns.unsigned_abs() <= estimate.error_ns => LinkState::BelowResolution,
        Some(estimate) if estimate.rtt_ns < 0 => LinkState::Negative,
        Some(_) => LinkState::Valid,
    }
}

/// `RTT(1,2) = T_lldp1 + T_lldp2 − (T_echo1 + T_echo2)`. Its error is the spread of the four terms, plus the cost of
/// packet-out and packet-in above that of an echo.
fn lldp_echo(terms: &LinkTerms<'_>) -> Option<Estimate> {
    let lldp = both(terms.lldp)?;
    let echo = both(terms.echo)?;
    let of = statistic(&[lldp[0], lldp[1], echo[0], echo[1]])?;
    let rtt_ns = value(lldp[0], of)? + value(lldp[1], of)? - value(echo[0], of)? - value(echo[1], of)?;
    let spread_ns = spread(&[lldp[0], lldp[1], echo[0], echo[1]])?;
    let excess_ns = |end: usize| {
        let baseline = enough(terms.baseline[end])?;
        Some((value(baseline, of)? - value(echo[end], of)?).max(0).unsigned_abs())
    };
    let excess_ns: u64 = (0..2).filter_map(excess_ns).sum();
    Some(Estimate {
        rtt_ns,
        error_ns: spread_ns + excess_ns,
        by: of,
    })
}

/// The estimate by LLDP and echoes, with an error that reaches to the lower end of the bounce's: the datapaths take time to
/// pass LLDP up, which is in no echo and no baseline, and once in a bounce instead of twice.
fn reaching_down_to(estimate: Estimate, bounce: Option<Estimate>) -> Estimate {
    let lowest_ns = bounce.map(|bounce| bounce.rtt_ns.saturating_sub_unsigned(bounce.error_ns).max(0));
    let reach_ns = lowest_ns.map_or(0, |lowest_ns| estimate.rtt_ns.saturating_sub(lowest_ns).max(0));
    Estimate {
        error_ns: estimate.error_ns.max(reach_ns.unsigned_abs()),
        ..estimate
    }
}

/// Bounce minus baseline, of the end with the smaller error.
fn bounce(terms: &LinkTerms<'_>) -> Option<Estimate> {
    let at = |end: usize| {
        let bounce = enough(terms.bounce[end])?;
        let baseline = enough(terms.baseline[end])?;
        let of = statistic(&[bounce, baseline])?;
        Some(Estimate {
            rtt_ns: value(bounce, of)? - value(baseline, of)?,
            error_ns: spread(&[bounce, baseline])?,
            by: of,
        })
    };
    (0..2).filter_map(at).min_by_key(|estimate| estimate.error_ns)
}

/// Sum of the medians of both directions.
fn kernel(terms: &LinkTerms<'_>) -> Option<Estimate> {
    let [forward, backward] = both(terms.kernel)?;
    Some(Estimate {
        rtt_ns: forward.median()? + backward.median()?,
        error_ns: spread(&[forward, backward])?,
        by: Statistic::Median,
    })
}

fn both(windows: [Option<&Window>; 2]) -> Option<[&Window; 2]> {
    Some([enough(windows[0])?, enough(windows[1])?])
}

fn enough(window: Option<&Window>) -> Option<&Window> {
    window.filter(|window| window.count() >= MIN_SAMPLES)
}

fn statistic(windows: &[&Window]) -> Option<Statistic> {
    let fewest = windows.iter().map(|window| window.count()).min()?;
    Some(if fewest >= MIN_SAMPLES_FOR_MINIMUM {
        Statistic::Minimum
    } else {
        Statistic::Median
    })
}

fn value(window: &Window, of: Statistic) -> Option<i64> {
    match of {
        Statistic::Minimum => window.minimum(),
        Statistic::Median => window.median(),
    }
}

fn spread(windows: &[&Window]) -> Option<u64> {
    windows.iter().map(|window| window.spread()).sum()
}
