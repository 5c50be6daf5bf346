//! How Open vSwitch forwards a flow: `ofproto/trace`, asked from the control socket of ovs-vswitchd. No packet is sent.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use probe_core::text::plain;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ovs::jsonrpc::{Connection, Envelope, RpcError, connect, request};

const METHOD: &str = "ofproto/trace";
const TIMEOUT: Duration = Duration::from_secs(2);
/// Bridges and actions that are kept of a trace, of each.
const MAX_PARTS: usize = 64;
/// Longest text of one of them, and of a megaflow, in bytes.
const MAX_TEXT: usize = 4096;

/// A flow of UDP packets that come in by a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub bridge: String,
    /// OpenFlow port number.
    pub in_port: u32,
    pub source_mac: [u8; 6],
    pub destination_mac: [u8; 6],
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    pub ttl: u8,
}

/// In the syntax of `ovs-ofctl(8)`. Both addresses are of one IP version.
impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, name) = match self.destination {
            IpAddr::V4(_) => ("udp", "nw"),
            IpAddr::V6(_) => ("udp6", "ipv6"),
        };
        write!(f, "{protocol},in_port={}", self.in_port)?;
        write!(
            f,
            ",dl_src={},dl_dst={}",
            Mac(self.source_mac),
            Mac(self.destination_mac)
        )?;
        write!(f, ",{name}_src={},{name}_dst={}", self.source, self.destination)?;
        write!(f, ",nw_ttl={}", self.ttl)?;
        write!(f, ",udp_src={},udp_dst={}", self.source_port, self.destination_port)
    }
}

struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the switch does with a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Bridges that the flow passes, in this order.
    pub bridges: Vec<String>,
    /// What packets must have in common to be forwarded alike by the datapath. The last one, if they go through it again.
    pub megaflow: Option<String>,
    /// Of the datapath; one entry for each time that packets go through it, as after connection tracking.
    pub actions: Vec<String>,
}

impl Trace {
    /// Takes the parts that have names from the text that people read.
    fn of(text: &str) -> Self {
        let mut trace = Self::default();
        for line in text.lines() {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix("bridge(\"")
                && let Some((bridge, _)) = rest.split_once('"')
            {
                push(&mut trace.bridges, bridge);
            } else if let Some(megaflow) = line.strip_prefix("Megaflow: ") {
                trace.megaflow = Some(plain(megaflow, MAX_TEXT));
            } else if let Some(actions) = line.strip_prefix("Datapath actions: ") {
                push(&mut trace.actions, actions);
            }
        }
        trace
    }
}

fn push(parts: &mut Vec<String>, part: &str) {
    if parts.len() < MAX_PARTS {
        parts.push(plain(part, MAX_TEXT));
    }
}

/// The flow cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("cannot read {path}, which has the process of ovs-vswitchd: {source}")]
    Process { path: PathBuf, source: io::Error },
    #[error("cannot ask ovs-vswitchd at {socket} how it forwards probes: {source}")]
    Ask { socket: PathBuf, source: RpcError },
}

/// Asks the ovs-vswitchd whose files are beside the socket of the database. Blocks for some seconds at most.
pub fn trace(database: &Path, flow: &Flow) -> Result<Trace, TraceError> {
    let socket = control_socket(database)?;
    ask(&socket, flow).map_err(|source| TraceError::Ask { socket, source })
}

fn control_socket(database: &Path) -> Result<PathBuf, TraceError> {
    let path = database.with_file_name("ovs-vswitchd.pid");
    match fs::read_to_string(&path) {
        Ok(pid) => Ok(path.with_extension(format!("{}.ctl", pid.trim()))),
        Err(source) => Err(TraceError::Process { path, source }),
    }
}

fn ask(socket: &Path, flow: &Flow) -> Result<Trace, RpcError> {
    #[derive(Deserialize)]
    struct Reply {
        result: String,
    }
    const ID: &str = "kstamp";
    let mut connection = Connection::new(connect(socket, TIMEOUT)?);
    connection.send(&request(ID, METHOD, &json!([flow.bridge, flow.to_string()])))?;
    let asked = Instant::now();
    loop {
        let message = connection.receive()?.filter(|_| asked.elapsed() < TIMEOUT);
        let message = message.ok_or(RpcError::Silent(TIMEOUT))?;
        if Envelope::of(&message)?.answers(ID, METHOD)? {
            let reply: Reply = serde_json::from_slice(&message)?;
            return Ok(Trace::of(&reply.result));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use probe_core::text::is_plain;

    use super::*;

    #[test]
    fn a_flow_is_written_as_open_vswitch_reads_it() {
        let flow = Flow {
            bridge: "br0".to_owned(),
            in_port: 3,
            source_mac: [2, 0, 0, 0, 0, 0x1f],
            destination_mac: [2, 0, 0, 0, 0, 6],
            source: "10.1.1.1".parse().unwrap(),
            destination: "10.1.1.6".parse().unwrap(),
            source_port: 50_000,
            destination_port: 1910,
            ttl: 255,
        };
        let macs = "dl_src=02:00:00:00:00:1f,dl_dst=02:00:00:00:00:06";
        let ports = "nw_ttl=255,udp_src=50000,udp_dst=1910";
        assert_eq!(
            flow.to_string(),
            format!("udp,in_port=3,{macs},nw_src=10.1.1.1,nw_dst=10.1.1.6,{ports}")
        );
        let flow = Flow {
            source: "fe80::1".parse().unwrap(),
            destination: "fe80::2".parse().unwrap(),
            ..flow
        };
        assert_eq!(
            flow.to_string(),
            format!("udp6,in_port=3,{macs},ipv6_src=fe80::1,ipv6_dst=fe80::2,{ports}")
        );
    }

    /// From Open vSwitch 3.1.
    #[test]
    fn bridges_megaflow_and_actions_are_found_in_the_text() {
        let text = "Flow: udp,in_port=1,vlan_tci=0x0000\n\nbridge(\"br0\")\n-------------\n 0. priority 0\n    NORMAL\n\n\
                    bridge(\"br1\")\n-------------\n 0. priority 0\n     -> output to native tunnel\n\n\
                    Final flow: unchanged\nMegaflow: recirc_id=0,eth,ip,in_port=1\nDatapath actions: 1,2,5\n";
        let trace = Trace {
            bridges: vec!["br0".to_owned(), "br1".to_owned()],
            megaflow: Some("recirc_id=0,eth,ip,in_port=1".to_owned()),
            actions: vec!["1,2,5".to_owned()],
        };
        assert_eq!(Trace::of(text), trace);
        assert_eq!(Trace::of("something else"), Trace::default());
    }

    #[test]
    fn a_strange_trace_is_safe_to_print_and_bounded() {
        let text = "bridge(\"b\u{1b}[31m\")\nMegaflow: \u{202e}x\nDatapath actions: \u{7}\n".repeat(100);
        let Trace {
            bridges,
            megaflow,
            actions,
        } = Trace::of(&text);
        assert_eq!((bridges.len(), actions.len()), (MAX_PARTS, MAX_PARTS));
        for text in [&bridges[0], &actions[0], &megaflow.unwrap()] {
            assert!(is_plain(text), "{text:?}");
        }
    }

    #[test]
    fn a_switch_that_says_all_but_the_answer_is_not_listened_to_for_long() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("ctl");
        let listener = UnixListener::bind(&socket).unwrap();
        let talker = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for _ in 0..300 {
                if stream.write_all(b"{\"method\":\"echo\"}").is_err() {
                    return true;
                }
                thread::sleep(Duration::from_millis(20));
            }
            false
        });
        let flow = Flow {
            bridge: "br0".to_owned(),
            in_port: 1,
            source_mac: [0; 6],
            destination_mac: [0; 6],
            source: "10.1.1.1".parse().unwrap(),
            destination: "10.1.1.6".parse().unwrap(),
            source_port: 50_000,
            destination_port: 862,
            ttl: 255,
        };
        assert!(matches!(ask(&socket, &flow), Err(RpcError::Silent(_))));
        assert!(talker.join().unwrap(), "it was left");
    }
}
