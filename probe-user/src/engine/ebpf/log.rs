//! Debug lines of the programs (`--log-bpf`), printed as they come.

use std::io;

use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

use super::object::Object;

/// Starts a task that prints what the programs of `object` log; they must have been loaded with a log level.
pub fn print(object: &mut Object) -> io::Result<()> {
    let logger = EbpfLogger::init(object.ebpf_mut()).map_err(io::Error::other)?;
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
