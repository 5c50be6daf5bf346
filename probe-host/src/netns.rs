//! Work in another network namespace: a thread enters it and stays there. The rest of the process stays where it is.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

/// The network namespace of process 1: the host's, unless this process sees only the processes of a container.
pub const OF_PROCESS_1: &str = "/proc/1/ns/net";

#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    #[error("cannot start the thread {name}: {source}")]
    Start { name: String, source: io::Error },
    #[error("cannot enter the network namespace {}: {}", path.display(), cause(source))]
    Enter { path: PathBuf, source: io::Error },
}

fn cause(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EINVAL) => "it is not a network namespace; `ip netns` lists those in /run/netns".to_owned(),
        Some(libc::EPERM | libc::EACCES) => format!("{error}; run kstamp as root of the host"),
        _ => error.to_string(),
    }
}

/// Runs `body` on a thread of its own in the network namespace whose file is `netns`, or in the caller's. Returns when the
/// thread is there.
///
/// To enter takes privileges that an agent gives up before it measures. Until it gives them up itself, the thread has those
/// of its caller.
pub fn spawn(
    name: &str,
    netns: Option<&Path>,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, NetnsError> {
    let (sender, entered) = mpsc::channel();
    let path = netns.map(Path::to_owned);
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let outcome = path.map_or(Ok(()), enter);
        let is_there = outcome.is_ok();
        let _ = sender.send(outcome);
        if is_there {
            body();
        }
    });
    let thread = thread.map_err(|source| NetnsError::Start {
        name: name.to_owned(),
        source,
    })?;
    // It always sends.
    entered.recv().unwrap_or(Ok(()))?;
    Ok(thread)
}

fn enter(path: PathBuf) -> Result<(), NetnsError> {
    // Not to wait for the other end of a pipe.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let entered = file.and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
    entered.map_err(|source| NetnsError::Enter { path, source })
}

/// The network namespace of the calling thread: equal for equal ones.
pub fn current() -> io::Result<(u64, u64)> {
    let file = fs::metadata("/proc/thread-self/ns/net")?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sched::unshare;
    use nix::sys::stat::Mode;
    use nix::unistd::{geteuid, gettid, mkfifo};

    use super::*;

    #[test]
    fn what_is_no_namespace_is_named_with_what_to_do() {
        let directory = std::env::temp_dir().join(format!("kstamp-netns-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [text, pipe, socket] = ["text", "pipe", "socket"].map(|name| directory.join(name));
        fs::write(&text, "no namespace").unwrap();
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, why) in [
            (directory.join("no-such"), "No such file"),
            (text, "it is not a network namespace"),
            (pipe, "it is not a network namespace"),
            (socket, "No such device or address"),
            (directory.clone(), "it is not a network namespace"),
            (PathBuf::from("/proc/self/ns/mnt"), "it is not a network namespace"),
        ] {
            let error = spawn("test", Some(&path), || panic!("it is nowhere")).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains(why) && error.contains(&path.display().to_string()),
                "{error}"
            );
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_thread_is_in_its_namespace_and_the_others_stay() {
        let here = current().unwrap();
        let place = |netns: Option<&Path>| {
            let (sender, receiver) = mpsc::channel();
            let thread = spawn("test", netns, move || sender.send(current().unwrap()).unwrap()).unwrap();
            thread.join().unwrap();
            receiver.recv().unwrap()
        };
        assert_eq!(place(None), here);
        if !geteuid().is_root() {
            return println!("SKIPPED: making a network namespace needs root");
        }
        let (sender, receiver) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let path = format!("/proc/self/task/{}/ns/net", gettid());
            sender.send((PathBuf::from(path), current().unwrap())).unwrap();
            let _ = ended.recv();
        });
        let (path, there) = receiver.recv().unwrap();
        assert_ne!(there, here);
        assert_eq!(place(Some(&path)), there);
        assert_eq!(current().unwrap(), here);
        drop(end);
        other.join().unwrap();
    }
}
