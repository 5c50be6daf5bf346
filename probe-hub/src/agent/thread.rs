//! The thread of a link, in the network namespace from which the server is reached.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc;
use std::{io, thread};

use nix::sched::{CloneFlags, setns};
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
        let (work_sender, work) = mpsc::channel::<Work>();
        let (entered_sender, entered) = mpsc::channel();
        let path = netns.map(Path::to_owned);
        let body = move || {
            let outcome = path.as_deref().map_or(Ok(()), enter);
            let is_there = outcome.is_ok();
            let _ = entered_sender.send(outcome);
            if let Some(work) = is_there.then(|| work.recv().ok()).flatten() {
                drop_all_of_thread();
                work();
            }
        };
        let builder = thread::Builder::new().name("kstamp-fleet".to_owned());
        builder.spawn(body).map_err(LinkError::Start)?;
        let outcome = entered.recv().map_err(|_| LinkError::Thread)?;
        outcome.map_err(|source| LinkError::Namespace {
            path: netns.unwrap_or(Path::new("")).to_owned(),
            source,
        })?;
        Ok(Self(work_sender))
    }

    pub(super) fn run(self, work: impl FnOnce() + Send + 'static) -> Result<(), LinkError> {
        self.0.send(Box::new(work)).map_err(|_| LinkError::Thread)
    }
}

fn enter(netns: &Path) -> io::Result<()> {
    Ok(setns(File::open(netns)?, CloneFlags::CLONE_NEWNET)?)
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
    fn work_runs_in_the_thread() {
        let (sender, receiver) = mpsc::channel();
        let run = LinkThread::start(None).unwrap();
        run.run(move || sender.send(thread::current().name().map(str::to_owned)).unwrap())
            .unwrap();
        assert_eq!(receiver.recv().unwrap().as_deref(), Some("kstamp-fleet"));
    }
}
