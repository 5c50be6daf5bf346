//! Records that were left out because the reader was too slow.

use std::collections::BTreeMap;
use std::io::{self, Write};

use log::warn;
use serde::Serialize;

use crate::output::jsonl::record;
use crate::output::time::Utc;

/// Since the start, by type of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub left_out: BTreeMap<&'static str, u64>,
    pub time: Utc,
}

impl LeftOut {
    pub fn now(left_out: BTreeMap<&'static str, u64>) -> Self {
        let time = Utc::now();
        Self { left_out, time }
    }
}

/// Writes them in one format.
pub type Notice = Box<dyn Fn(&LeftOut, &mut dyn Write) -> io::Result<()> + Send>;

/// As a record of this agent.
pub fn json(agent: &str) -> Notice {
    let agent = agent.to_owned();
    Box::new(move |left_out, out| record("output", &agent, left_out, out))
}

/// As a warning, because rows of numbers have no place for it.
pub fn log(left_out: &LeftOut, _: &mut dyn Write) -> io::Result<()> {
    let mut line = Vec::new();
    text(left_out, &mut line)?;
    warn!("{}", String::from_utf8_lossy(&line).trim_end());
    Ok(())
}

pub fn text(left_out: &LeftOut, out: &mut dyn Write) -> io::Result<()> {
    let kinds: Vec<String> = left_out
        .left_out
        .iter()
        .map(|(kind, n)| format!("{n} × {kind}"))
        .collect();
    writeln!(
        out,
        "{} the reader of this output is too slow; left out so far: {}",
        left_out.time.to_second(),
        kinds.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_number() {
        let left_out = LeftOut {
            left_out: BTreeMap::from([("window", 3), ("peer", 1)]),
            time: Utc {
                unix_ns: 1_795_255_838_000_000_000,
            },
        };
        let written = |write: Notice| {
            let mut out = Vec::new();
            write(&left_out, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            written(json("h1:p1")),
            "{\"type\":\"output\",\"agent\":\"h1:p1\",\"left_out\":{\"peer\":1,\"window\":3},\"time\":\"2026-11-21T10:10:38.000000000Z\"}\n"
        );
        assert_eq!(
            written(Box::new(text)),
            "2026-11-21T10:10:38Z the reader of this output is too slow; left out so far: 1 × peer, 3 × window\n"
        );
    }
}
