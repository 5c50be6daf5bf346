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
    use std::fs;
    use std::path::PathBuf;

    use nix::sched::unshare;
    use nix::unistd::gettid;

    use super::*;

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let error = LinkThread::start(Some(Path::new("/run/netns/no-such"))).unwrap_err();
        assert!(error.to_string().contains("/run/netns/no-such"), "{error}");
    }

    /// The network namespace and the effective capabilities of this thread.
    fn place() -> (PathBuf, String) {
        let namespace = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let capabilities = status.lines().find(|line| line.starts_with("CapEff")).unwrap();
        (namespace, capabilities.to_owned())
    }

    fn place_of(thread: LinkThread) -> (PathBuf, String) {
        let (sender, receiver) = mpsc::channel();
        thread.run(move || sender.send(place()).unwrap()).unwrap();
        receiver.recv().unwrap()
    }

    #[test]
    fn a_link_is_in_its_namespace_and_has_no_privileges() {
        let (namespace, capabilities) = place_of(LinkThread::start(None).unwrap());
        assert_eq!(
            (namespace, capabilities.as_str()),
            (place().0, "CapEff:\t0000000000000000")
        );
        let (path_sender, path) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            let path = unshare(CloneFlags::CLONE_NEWNET).map(|()| format!("/proc/self/task/{}/ns/net", gettid()));
            path_sender
                .send(path.map(|path| (PathBuf::from(path), place().0)))
                .unwrap();
            let _ = ended.recv();
        });
        match path.recv().unwrap() {
            Ok((path, namespace)) => {
                let (entered, capabilities) = place_of(LinkThread::start(Some(&path)).unwrap());
                assert_eq!(
                    (entered, capabilities.as_str()),
                    (namespace, "CapEff:\t0000000000000000")
                );
            }
            Err(error) => println!("SKIPPED: cannot make a network namespace: {error}"),
        }
        drop(end);
        other.join().unwrap();
    }
}
