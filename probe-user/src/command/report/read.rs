//! Reads records line by line, so that a file may be larger than the memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::command::report::config::Input;
use crate::output::report::record::{Record, RecordError};

/// No record is longer.
const MAX_LINE: u64 = 1 << 20;

/// Hands each record of a file to `take`, with the agent and the line. Fails with the file and the number of the first line
/// that is not a record, or that `take` refuses. Returns the number of records.
pub fn read(input: &Input, take: impl FnMut(&str, &[u8], Record) -> Result<()>) -> Result<u64> {
    match &input.path {
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            lines(input, BufReader::with_capacity(1 << 16, file), take)
        }
        None => lines(input, io::stdin().lock(), take),
    }
}

fn lines(
    input: &Input,
    mut from: impl BufRead,
    mut take: impl FnMut(&str, &[u8], Record) -> Result<()>,
) -> Result<u64> {
    let name = input.name();
    let (mut line, mut number, mut records) = (Vec::new(), 0_u64, 0);
    loop {
        line.clear();
        number += 1;
        let read = from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {name}"))? == 0 {
            return Ok(records);
        }
        if line.len() as u64 == MAX_LINE && !line.ends_with(b"\n") {
            bail!("{name} line {number} is longer than a record can be; kstamp report reads JSON lines of kstamp");
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (agent, record) = Record::read(&line, input.agent.as_deref()).map_err(|error| match error {
            RecordError::NoAgent => anyhow!("{name} line {number}: {error}: --agent {name}=NAME"),
            error => anyhow!("{name} line {number}: {error}"),
        })?;
        take(&agent, &line, record).map_err(|error| anyhow!("{name} line {number}: {error}"))?;
        records += 1;
    }
}
