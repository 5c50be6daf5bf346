//! `cargo xtask run --hops --hurt …`: whether hop stamps find each harm where the lab put it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::lab::{Harm, Hurt};
use crate::run::args::option;

/// The file of single probes that `arguments` name.
pub(super) fn samples_of(arguments: &[OsString]) -> Option<PathBuf> {
    option(arguments, "--samples").map(PathBuf::from)
}

/// Prints for each harm how many of agent1's probes show it in its segment.
pub(super) fn report(hurts: &[Hurt], samples: &Path) -> Result<()> {
    let text = fs::read_to_string(samples).with_context(|| format!("cannot read {}", samples.display()))?;
    let probes: Vec<Probe> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|probe: &Probe| probe.kind == "hop_sample")
        .collect();
    for hurt in hurts {
        eprintln!("lab: --hurt {hurt}: {}", finding(hurt, &probes));
    }
    Ok(())
}

/// A record `hop_sample`, as far as it is needed here.
#[derive(Debug, Default, Deserialize)]
struct Probe {
    #[serde(rename = "type")]
    kind: String,
    state: String,
    #[serde(default)]
    parts: Vec<Part>,
    /// 0 if the stamps of both hosts are known.
    rest_ns: Option<u64>,
    lost_segment: Option<String>,
    lost_direction: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Part {
    segment: String,
    delay_ns: u64,
}

impl Probe {
    /// Whether a segment took at least `time`, in either direction.
    fn took(&self, segment: &str, time: Duration) -> bool {
        let mut parts = self.parts.iter().filter(|part| part.segment == segment);
        parts.any(|part| u128::from(part.delay_ns) >= time.as_nanos())
    }
}

/// In how many of the probes that can show it the harm is found in its segment.
fn finding(hurt: &Hurt, probes: &[Probe]) -> String {
    let segment = hurt.segment.field();
    // Which probes can show it, and which of them show it in its place.
    type Test<'a> = Box<dyn Fn(&Probe) -> bool + 'a>;
    let (what, is_relevant, is_found): (_, Test<'_>, Test<'_>) = match hurt.harm {
        Harm::Delay(delay) => (
            "split probes",
            Box::new(|probe| probe.rest_ns == Some(0)),
            Box::new(move |probe| probe.took(&segment, delay)),
        ),
        Harm::Stall(stall) => (
            "slow probes",
            Box::new(move |probe| probe.parts.iter().any(|part| probe.took(&part.segment, stall / 2))),
            Box::new(move |probe| probe.took(&segment, stall / 2)),
        ),
        Harm::Loss(_) => (
            "lost probes",
            Box::new(|probe| probe.state == "lost"),
            Box::new(move |probe| {
                let lost = [&probe.lost_segment, &probe.lost_direction].map(Option::as_deref);
                lost == [Some(&*segment), Some("forward")]
            }),
        ),
    };
    let relevant = probes.iter().filter(|probe| is_relevant(probe));
    let (found, of) = (
        relevant.clone().filter(|probe| is_found(probe)).count(),
        relevant.count(),
    );
    match of {
        0 => format!("no {what}"),
        _ => format!(
            "found there in {found} of {of} {what} ({:.1} %)",
            found as f64 * 100.0 / of as f64
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_samples_is_the_one_that_the_agent_writes() {
        for (arguments, file) in [
            ("--interval 1s", None),
            ("--samples a --interval 1s", Some("a")),
            ("--samples=b", Some("b")),
        ] {
            let arguments: Vec<_> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(samples_of(&arguments), file.map(PathBuf::from));
        }
    }

    #[test]
    fn harm_is_found_in_its_segment_or_not() {
        let answered = |parts: &[(&str, u64)]| Probe {
            state: "ok".into(),
            rest_ns: Some(if parts.is_empty() { 7 } else { 0 }),
            parts: parts
                .iter()
                .map(|&(segment, ms)| Part {
                    segment: segment.into(),
                    delay_ns: ms * 1_000_000,
                })
                .collect(),
            ..Probe::default()
        };
        let lost = |segment: Option<&str>, direction: &str| Probe {
            state: "lost".into(),
            lost_segment: segment.map(Into::into),
            lost_direction: segment.map(|_| direction.into()),
            ..Probe::default()
        };
        let probes = [
            answered(&[("own_switch", 0), ("underlay", 5), ("far_switch", 0)]),
            answered(&[("own_switch", 4), ("underlay", 6), ("far_switch", 0)]),
            answered(&[("own_switch", 0), ("underlay", 0), ("far_switch", 60)]),
            answered(&[]),
            lost(Some("far_switch"), "forward"),
            lost(Some("far_switch"), "backward"),
            lost(None, ""),
        ];
        for (hurt, expected) in [
            ("underlay:5ms", "found there in 2 of 3 split probes (66.7 %)"),
            ("far-switch:stall=100ms", "found there in 1 of 1 slow probes (100.0 %)"),
            ("own-switch:stall=200ms", "no slow probes"),
            ("far-switch:loss=1%", "found there in 1 of 3 lost probes (33.3 %)"),
        ] {
            assert_eq!(finding(&hurt.parse().unwrap(), &probes), expected, "{hurt}");
        }
    }
}
