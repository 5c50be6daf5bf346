//! Debug lines of the programs (`--log-bpf`), printed as they come.

use std::io;

use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use probe_common::abi::COUNTER_NAMES;
use tokio::io::unix::AsyncFd;

use crate::backend::ebpf::object::Object;

/// Precedes a counter's index in the programs' lines.
const COUNTER: &str = "counter ";

/// Starts a task that prints what the programs of `object` log; they must have been loaded with a log level.
pub(crate) fn print(object: &mut Object) -> io::Result<()> {
    let logger = EbpfLogger::init_with_logger(object.ebpf_mut(), Named(log::logger())).map_err(io::Error::other)?;
    // SAFETY: `EbpfLogger` owns the map's descriptor and gives the same one until it is dropped.
    let mut logger = unsafe { AsyncFd::register(logger) }.map_err(io::Error::from)?;
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    Ok(())
}

/// Replaces counter indices by names: programs can log only constant strings.
struct Named(&'static dyn Log);

impl Log for Named {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let line = with_name(&record.args().to_string());
        let mut named = Record::builder();
        named.metadata(record.metadata().clone());
        named
            .module_path(record.module_path())
            .file(record.file())
            .line(record.line());
        self.0.log(&named.args(format_args!("{line}")).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn with_name(line: &str) -> String {
    let split = line.rsplit_once(COUNTER);
    let name = split.and_then(|(before, index)| {
        let name = COUNTER_NAMES.get(index.parse::<usize>().ok()?)?;
        Some(format!("{before}{name}"))
    });
    name.unwrap_or_else(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use probe_common::abi::Counter;

    use super::*;

    #[test]
    fn counters_are_named() {
        let line = format!("passed: counter {}", Counter::BadChecksum as u32);
        assert_eq!(with_name(&line), "passed: bad_checksum");
        assert_eq!(with_name("counter of anything else"), "counter of anything else");
        assert_eq!(with_name("passed: counter 4000"), "passed: counter 4000");
    }
}
