//! The thread of a link, in the network namespace from which the server is reached.

use std::path::Path;
use std::sync::mpsc;

use probe_host::netns;
use probe_host::privileges::drop_all_of_thread;

use crate::agent::config::LinkError;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for a link. To enter another namespace takes a privilege that an agent gives up before it measures, so
/// the thread is made first.
#[derive(Debug)]
pub struct LinkThread(mpsc::Sender<Work>);

impl LinkThread {
    /// In the network namespace whose file is `netns`, or in that of the process.
    pub fn start(netns: Option<&Path>) -> Result<Self, LinkError> {
        let (sender, receiver) = mpsc::channel::<Work>();
        netns::spawn("kstamp-fleet", netns, move || {
            if let Ok(work) = receiver.recv() {
                drop_all_of_thread();
                work();
            }
        })?;
        Ok(Self(sender))
    }

    pub(super) fn run(self, work: impl FnOnce() + Send + 'static) -> Result<(), LinkError> {
        self.0.send(Box::new(work)).map_err(|_| LinkError::Thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let error = LinkThread::start(Some(Path::new("/run/netns/no-such"))).unwrap_err();
        assert!(error.to_string().contains("/run/netns/no-such"), "{error}");
    }

    #[test]
    fn a_link_has_no_privileges() {
        let (sender, receiver) = mpsc::channel();
        let status = move || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let thread = LinkThread::start(None).unwrap();
        thread.run(move || sender.send(status()).unwrap()).unwrap();
        let status = receiver.recv().unwrap();
        assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    }
}
