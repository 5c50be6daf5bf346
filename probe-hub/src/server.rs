//! The NATS server that a hub starts: finds it, configures it, starts it again when it dies.

mod config;
mod log_lines;

use std::io;
use std::mem::replace;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::ServerInfo;
use log::{info, warn};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep, timeout};

use self::log_lines::{Budget, Level, disk_is_full, split};
use crate::connection::{OLDEST_SERVER, too_old};
use crate::enrol::{Address, EnrolError, StateDirectory};
use crate::name::HostName;

/// The program, in PATH.
const PROGRAM: &str = "nats-server";

/// Its pause before it is started again: doubled with each death that follows soon.
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// A server that has run for so long has not failed to start.
const STABLE: Duration = Duration::from_secs(60);
/// A server that is silent for so long while it starts may never be ready, or has large streams.
const SLOW_START: Duration = Duration::from_secs(10);
/// A server whose disk is full gives its streams up, and has to be started again when there is room. The hub looks for room this
/// often.
const ROOM_INTERVAL: Duration = Duration::from_secs(5);
/// Free bytes with which the server is started again.
const MIN_ROOM: u64 = 16 << 20;
/// For its last writes.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
/// For `nats-server --version`.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum ServerError {
    #[error(
        "there is no nats-server in PATH; get {major}.{minor} or newer from https://nats.io/download, name it by --nats-server, or \
         use servers of your own by --nats",
        major = OLDEST_SERVER.0,
        minor = OLDEST_SERVER.1
    )]
    Missing,
    #[error("cannot run {program}: {source}; name another nats-server by --nats-server")]
    Run { program: PathBuf, source: io::Error },
    #[error("{0} does not say its version as nats-server does; name another one by --nats-server")]
    Foreign(PathBuf),
    #[error("{0}; its path is {1}")]
    Old(String, PathBuf),
    #[error("the NATS server cannot listen on {address}: {why}")]
    Listen { address: SocketAddr, why: String },
    #[error("nats-server does not start: {0}")]
    Start(String),
    #[error(transparent)]
    State(#[from] EnrolError),
}

/// Finds the program and checks its version. `named` is one that the user has named.
pub async fn find(named: Option<&Path>) -> Result<PathBuf, ServerError> {
    let program = match named {
        Some(program) => program.to_owned(),
        None => which::which(PROGRAM).map_err(|_| ServerError::Missing)?,
    };
    let run = Command::new(&program)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(VERSION_TIMEOUT, run).await {
        Ok(Ok(output)) => output.stdout,
        Ok(Err(source)) => return Err(ServerError::Run { program, source }),
        Err(_) => return Err(ServerError::Foreign(program)),
    };
    let Some(version) = version_of(&String::from_utf8_lossy(&output)) else {
        return Err(ServerError::Foreign(program));
    };
    let info = ServerInfo {
        version,
        ..ServerInfo::default()
    };
    match too_old(&info) {
        Some(why) => Err(ServerError::Old(why, program)),
        None => Ok(program),
    }
}

/// From `nats-server: v2.15.1`.
fn version_of(output: &str) -> Option<String> {
    let version = output.trim().strip_prefix("nats-server: v")?;
    Some(version.split_whitespace().next()?.to_owned())
}

/// What a server is to be.
#[derive(Debug, Clone)]
pub struct Config {
    pub program: PathBuf,
    pub name: HostName,
    pub listen: SocketAddr,
    /// Bytes for streams.
    pub store: u64,
}

/// Writes the certificate, which is valid for `addresses`. A server that runs takes it with its next reload.
pub fn write_certificate(state: &StateDirectory, config: &Config, addresses: &[Address]) -> Result<(), EnrolError> {
    let own = [
        own_address(config.listen),
        Address::new((Ipv4Addr::LOCALHOST, 0).into()),
    ];
    state.make_server_certificate(&[addresses, &own].concat())
}

/// Where this host itself connects to a server that listens there.
pub fn own_address(listen: SocketAddr) -> Address {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Address::new(SocketAddr::new(ip, listen.port()))
}

/// A server that runs, until it is stopped or dropped.
pub struct Server {
    /// Closed to stop it.
    reloads: mpsc::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    /// Configures it, starts it, and waits until it takes connections. Its certificate must be there.
    pub async fn start(state: &StateDirectory, config: Config) -> Result<Self, ServerError> {
        // Else the reason would be one of many lines.
        check_listen(config.listen)?;
        let text = config::text(&config.name, state.path(), config.listen, config.store);
        state.write(config::SERVER, &text)?;
        state.write_accounts()?;
        let (program, file) = (config.program, state.path().join(config::SERVER));
        let mut process = Process::spawn(&program, &file)?;
        process.ready().await?;
        let (reloads, requests) = mpsc::channel(1);
        let task = tokio::spawn(async move { supervise(process, &program, &file, requests).await });
        Ok(Self { reloads, task })
    }

    /// Has it read its configuration again.
    pub fn reload(&self) {
        // One that waits is enough.
        self.reloads.try_send(()).ok();
    }

    pub async fn stop(self) {
        drop(self.reloads);
        self.task.await.ok();
    }
}

fn check_listen(address: SocketAddr) -> Result<(), ServerError> {
    let why = match TcpListener::bind(address) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            "another process listens there; `ss -ltnp` lists them, or choose another port by --nats-listen".to_owned()
        }
        Err(error) => format!("{error}; choose another address by --nats-listen"),
    };
    Err(ServerError::Listen { address, why })
}

/// Passes its lines on and starts it again when it dies, until `requests` is closed.
async fn supervise(mut process: Process, program: &Path, file: &Path, mut requests: mpsc::Receiver<()>) {
    let mut pause = MIN_PAUSE;
    loop {
        let started = Instant::now();
        let mut looks = interval(ROOM_INTERVAL);
        let status = loop {
            tokio::select! {
                request = requests.recv() => match request {
                    Some(()) => process.signal(Signal::SIGHUP),
                    None => return process.stop().await,
                },
                _ = looks.tick() => if process.has_room_again() {
                    process.stop().await;
                    break None;
                },
                ended = process.ended() => break Some(ended),
            }
        };
        if started.elapsed() >= STABLE {
            pause = MIN_PAUSE;
        }
        match status {
            Some(status) => warn!("nats-server has ended ({status}); starting it again in {pause:?}"),
            None => warn!("there is room on the disk again; starting nats-server again"),
        }
        process = loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = closed(&mut requests) => return,
            }
            pause = (pause * 2).min(MAX_PAUSE);
            match Process::spawn(program, file) {
                Ok(process) => break process,
                Err(error) => warn!("{error}; trying again in {pause:?}"),
            }
        };
    }
}

/// A server that is not running needs no reload.
async fn closed(requests: &mut mpsc::Receiver<()>) {
    while requests.recv().await.is_some() {}
}

struct Process {
    child: Child,
    lines: Option<Lines<BufReader<ChildStderr>>>,
    budget: Budget,
    begin: Instant,
    last_error: Option<String>,
    /// Where it keeps its streams.
    directory: PathBuf,
    is_full: bool,
}

impl Process {
    fn spawn(program: &Path, file: &Path) -> Result<Self, ServerError> {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for the hub, which stops it after its own last writes.
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: prctl(2) is a system call of its own, and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child = command.spawn().map_err(|source| ServerError::Run {
            program: program.to_owned(),
            source,
        })?;
        let lines = child.stderr.take().map(|stderr| BufReader::new(stderr).lines());
        Ok(Self {
            child,
            lines,
            budget: Budget::default(),
            begin: Instant::now(),
            last_error: None,
            directory: file.parent().unwrap_or(Path::new("/")).to_owned(),
            is_full: false,
        })
    }

    /// Returns when it takes connections.
    async fn ready(&mut self) -> Result<(), ServerError> {
        let mut is_slow = false;
        loop {
            match timeout(SLOW_START, self.line()).await {
                Ok(Some(line)) if line.contains("Server is ready") => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) if !replace(&mut is_slow, true) => {
                    warn!("nats-server is not ready, and has said nothing for {SLOW_START:?}; waiting for it");
                }
                Err(_) => {}
            }
        }
        let status = self.status().await;
        Err(ServerError::Start(self.last_error.take().unwrap_or(status)))
    }

    /// Passes lines on until the end of the process. Cancel safe.
    async fn ended(&mut self) -> String {
        while self.line().await.is_some() {}
        self.status().await
    }

    async fn status(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The next line; `None` at their end. Cancel safe.
    async fn line(&mut self) -> Option<String> {
        let line = match self.lines.as_mut()?.next_line().await {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(String::new()),
            Err(_) => None,
        };
        let Some(line) = line else {
            self.lines = None;
            return None;
        };
        let (level, text) = split(&line);
        if level == Level::Error {
            self.last_error = Some(text.to_owned());
        }
        // Others choose parts of some lines.
        let is_full = disk_is_full(text) && !has_room(&self.directory);
        if is_full && !replace(&mut self.is_full, true) {
            warn!(
                "the disk of {} is full: nats-server stores no results, and agents keep theirs; make room there, and \
                 the hub starts it again",
                self.directory.display()
            );
        }
        match level {
            // The warning above says it once.
            _ if is_full => info!("nats-server: {text}"),
            Level::Info => info!("nats-server: {text}"),
            Level::Warning | Level::Error => {
                if let Some(note) = self.budget.take(text, self.begin.elapsed()) {
                    warn!("nats-server: {note}");
                }
            }
        }
        Some(line)
    }

    /// Whether it has given streams up because the disk was full, and there is room again.
    fn has_room_again(&self) -> bool {
        self.is_full && has_room(&self.directory)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid {
            // It may have ended.
            kill(Pid::from_raw(pid), signal).ok();
        }
    }

    /// Ends it, and waits for that.
    async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        if timeout(STOP_TIMEOUT, self.ended()).await.is_err() {
            warn!("nats-server does not end; killing it");
            self.child.kill().await.ok();
        }
    }
}

/// Whether files in this directory can grow. Quotas do not count.
fn has_room(directory: &Path) -> bool {
    statvfs(directory).is_ok_and(|disk| {
        disk.blocks_available() * disk.fragment_size() >= MIN_ROOM && (disk.files() == 0 || disk.files_available() > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another process writes the file, so that no child of another test holds it open.
    fn write_program(path: &Path, script: &str) {
        let text = path.with_extension("text");
        std::fs::write(&text, format!("#!/bin/sh\n{script}")).unwrap();
        let installed = std::process::Command::new("install").args([&text, path]).status();
        assert!(installed.unwrap().success());
    }

    #[test]
    fn a_version_is_read() {
        for (output, version) in [
            ("nats-server: v2.15.1\n", Some("2.15.1")),
            ("nats-server: v2.9.10 \n", Some("2.9.10")),
            ("bash 5.2", None),
            ("", None),
        ] {
            assert_eq!(version_of(output).as_deref(), version, "{output}");
        }
    }

    #[tokio::test]
    async fn programs_that_are_no_usable_server_are_named_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let script = |name: &str, prints: &str| {
            let path = directory.path().join(name);
            write_program(&path, &format!("echo '{prints}'\n"));
            path
        };
        for (program, names) in [
            (directory.path().join("none"), "--nats-server"),
            (script("old", "nats-server: v2.9.10"), "2.9.10"),
            (script("other", "hello"), "other"),
        ] {
            let error = find(Some(&program)).await.unwrap_err().to_string();
            assert!(error.contains(names) && !error.contains('\n'), "{error}");
        }
        let new = script("new", "nats-server: v2.11.0");
        assert_eq!(find(Some(&new)).await.unwrap(), new);
    }

    #[tokio::test]
    async fn a_server_whose_disk_was_full_is_started_again_when_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        // Each one says that the disk is full, as a client can have it say.
        let script = format!(
            "echo x >>{}\necho '[1] [ERR] no space left on device' >&2\nexec sleep 100\n",
            path("starts").display()
        );
        let program = path("nats-server");
        write_program(&program, &script);
        // There is no room in /proc.
        let disk = path("disk");
        std::os::unix::fs::symlink("/proc", &disk).unwrap();
        let (file, starts) = (disk.join("nats.conf"), path("starts"));
        let process = Process::spawn(&program, &file).unwrap();
        let (reloads, requests) = mpsc::channel(1);
        let supervised = tokio::spawn(async move { supervise(process, &program, &file, requests).await });
        let number = || std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
        sleep(ROOM_INTERVAL + Duration::from_millis(500)).await;
        assert_eq!(number(), 1, "there is no room yet");
        std::fs::remove_file(&disk).unwrap();
        std::os::unix::fs::symlink(directory.path(), &disk).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        while number() < 2 && Instant::now() < end {
            sleep(Duration::from_millis(20)).await;
        }
        // What the second one says is not true.
        sleep(ROOM_INTERVAL + Duration::from_millis(500)).await;
        assert_eq!(number(), 2);
        drop(reloads);
        supervised.await.unwrap();
    }

    #[test]
    fn a_busy_address_is_named() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = check_listen(busy.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("--nats-listen") && !error.contains('\n'), "{error}");
    }
}
