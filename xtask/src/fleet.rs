//! The programs of a fleet in a lab: a hub, which starts nats-server, and an agent on each host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::exec;
use crate::lab::{AgentNs, Lab};

/// Where a hub serves its page and its API, in its namespace.
pub const PAGE: &str = "127.0.0.1:9864";

/// How long a hub may take to answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where all addresses of hosts are.
const PREFIXES: [&str; 2] = ["10.2.0.0/16", "fd01:2345:6789::/48"];

/// A fleet in a lab of topology `fleet`. Its files are in one directory.
pub struct Fleet<'a> {
    lab: &'a Lab,
    kstamp: PathBuf,
    nats_server: PathBuf,
    directory: PathBuf,
}

impl<'a> Fleet<'a> {
    pub fn new(lab: &'a Lab, kstamp: &Path, nats_server: &Path) -> Result<Self> {
        let directory = lab.scratch()?.join("fleet");
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self {
            lab,
            kstamp: kstamp.to_owned(),
            nats_server: nats_server.to_owned(),
            directory,
        })
    }

    /// `kstamp hub`, which starts a nats-server.
    pub fn hub(&self) -> Command {
        let mut command = self.at_hub(&["hub", "--listen", PAGE]);
        command.arg("--nats-server").arg(&self.nats_server);
        command
    }

    /// `kstamp hub ARGUMENTS…`, of the same fleet.
    pub fn at_hub(&self, arguments: &[&str]) -> Command {
        let hub = self.lab.hub();
        let mut command = self.lab.command(&hub.namespace, &self.kstamp, arguments);
        command.arg("--state").arg(self.state());
        command.args(["--address", &hub.v4.to_string()]);
        command
    }

    /// The state directory of the hub.
    pub fn state(&self) -> PathBuf {
        self.directory.join("hub")
    }

    /// Enrols a host. Returns the file of its credentials.
    pub fn enroll(&self, host: &AgentNs) -> Result<PathBuf> {
        let file = self.credentials(&host.namespace);
        let mut command = self.at_hub(&["hub", "enroll", &host.namespace]);
        command.args(PREFIXES.iter().flat_map(|prefix| ["--prefix", prefix]));
        exec::capture(command.arg("--output").arg(&file))?;
        Ok(file)
    }

    /// The file of the credentials of an enrolled host.
    pub fn credentials(&self, host: &str) -> PathBuf {
        self.directory.join(format!("{host}.toml"))
    }

    /// `kstamp agent` on an enrolled host. Subnets are racks, of which two are a zone.
    pub fn agent(&self, host: &AgentNs) -> Command {
        let rack = host.subnet().0;
        let mut command = self
            .lab
            .command(&host.namespace, &self.kstamp, ["agent", "--iface", &host.interface]);
        command.arg("--hub-credentials").arg(self.credentials(&host.namespace));
        command
            .arg("--hub-buffer")
            .arg(self.directory.join(format!("{}.buffer", host.namespace)));
        command.args(["--hub-label", &format!("rack=rack{rack}")]);
        command.args(["--hub-label", &format!("zone=zone{}", rack.div_ceil(2))]);
        command
    }

    /// What the hub's API says at a path such as `/api/v1/alerts`.
    pub fn api(&self, path: &str) -> Result<Value> {
        self.lab.within(&self.lab.hub().namespace, || get(PAGE, path))
    }
}

/// A JSON document of a hub's API.
pub fn get(address: &str, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("no hub at {address}"))?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
    serde_json::from_str(body).with_context(|| head.lines().next().unwrap_or("no reply").to_owned())
}
