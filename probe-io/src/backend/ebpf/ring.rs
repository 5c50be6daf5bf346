//! The ring buffer of samples, read as the kernel fills it.

use std::io;

use aya::maps::{MapData, RingBuf};
use probe_common::abi::Sample;
use tokio::io::unix::AsyncFd;

/// The reading end.
pub struct Ring(AsyncFd<RingBuf<MapData>>);

impl Ring {
    /// Watches `ring` from within a tokio runtime.
    pub fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: `RingBuf` owns the map's descriptor and gives the same one until it is dropped.
        unsafe { AsyncFd::register(ring) }.map(Self).map_err(io::Error::from)
    }

    /// Returns when there may be samples. Cancel safe.
    pub async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes every sample that is there.
    pub fn drain(&mut self, mut each: impl FnMut(&Sample)) {
        let ring = self.0.get_mut();
        while let Some(record) = ring.next() {
            if record.len() == size_of::<Sample>() {
                // SAFETY: the length is right, any bytes are a valid `Sample` (`Pod`), and the read assumes no alignment.
                each(&unsafe { record.as_ptr().cast::<Sample>().read_unaligned() });
            }
        }
    }
}
