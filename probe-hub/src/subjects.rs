//! Every subject, bucket and stream of the fleet: its name, who writes it, who reads it.

pub mod table;

use crate::name::{HostName, PortName};

/// Key-value bucket: [`Presence`](crate::message::presence::Presence) of each port.
pub const PRESENCE: &str = "kstamp_presence";
/// Key-value bucket: [`Assignment`](crate::message::assignment::Assignment) of each port.
pub const ASSIGNMENT: &str = "kstamp_assignment";
/// Key-value bucket of the hubs: the coordinator's lease.
pub const HUB: &str = "kstamp_hub";
/// Key in [`HUB`]: which hub coordinates.
pub const LEASE_KEY: &str = "lease";

/// A stream of results, one subject for each port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Results {
    pub stream: &'static str,
    /// The subject's first two tokens; those of the port follow.
    pub prefix: &'static str,
}

pub const WINDOWS: Results = Results {
    stream: "KSTAMP_WINDOWS",
    prefix: "kstamp.window",
};
pub const MINUTES: Results = Results {
    stream: "KSTAMP_MINUTES",
    prefix: "kstamp.minute",
};
pub const QUARTERS: Results = Results {
    stream: "KSTAMP_QUARTERS",
    prefix: "kstamp.quarter",
};
pub const EVENTS: Results = Results {
    stream: "KSTAMP_EVENTS",
    prefix: "kstamp.event",
};

impl Results {
    pub const ALL: [Self; 4] = [WINDOWS, MINUTES, QUARTERS, EVENTS];

    pub fn of(self, port: &PortName) -> String {
        format!("{}.{}", self.prefix, port.tokens())
    }

    /// The subjects of all ports.
    pub fn all(self) -> String {
        format!("{}.*.*", self.prefix)
    }
}

/// Not kept: the sign that an agent is alive.
pub const HEARTBEATS: &str = "kstamp.heartbeat.*.*";

pub fn heartbeat(port: &PortName) -> String {
    format!("kstamp.heartbeat.{}", port.tokens())
}

/// Request: what a reflector knows of a session.
pub fn question(port: &PortName) -> String {
    format!("kstamp.ask.{}", port.tokens())
}

/// Not kept: a line for the log of an agent.
pub fn notice(port: &PortName) -> String {
    format!("kstamp.notice.{}", port.tokens())
}

/// The subject of an entry of a key-value bucket.
pub fn entry(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The request for the newest message of a subject of a stream; a stream of a bucket is `KV_` and its name.
pub fn newest(stream: &str, subject: &str) -> String {
    format!("$JS.API.DIRECT.GET.{stream}.{subject}")
}

/// The prefix of the subjects on which a host gets replies.
pub fn inbox(host: &HostName) -> String {
    format!("_INBOX_{host}")
}

/// Prefix of requests to the hub: what it knows.
pub const QUERY: &str = "kstamp.query";
/// Requests to the hub: what it knows. The last token says what is asked for.
pub const QUERIES: &str = "kstamp.query.*";

/// The account of the hubs: it has the streams.
pub const HUB_ACCOUNT: &str = "KSTAMP_HUB";
/// The account of hosts and readers.
pub const HOSTS_ACCOUNT: &str = "KSTAMP_HOSTS";

/// What passes between the accounts.
///
/// A server sends an answer to the subject that the request names. Within one account, a host could so have acknowledgements
/// and entries delivered to subjects of other hosts, and replace their entries. Between accounts, the server delivers an answer
/// in the account of the request, which has no streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossings {
    /// Subjects of the hubs' account to which hosts and readers send.
    pub to_hub: Vec<String>,
    /// Subjects of the hosts' account to which hubs send requests.
    pub to_hosts: Vec<String>,
    /// Subjects of the hubs' account to which hosts subscribe.
    pub from_hub: Vec<String>,
}

pub fn crossings() -> Crossings {
    let assignments = entry(ASSIGNMENT, "*.*");
    let mut to_hub: Vec<_> = Results::ALL.iter().map(|results| results.all()).collect();
    to_hub.extend([
        HEARTBEATS.to_owned(),
        entry(PRESENCE, "*.*"),
        newest(&format!("KV_{ASSIGNMENT}"), &assignments),
        QUERIES.to_owned(),
    ]);
    Crossings {
        to_hub,
        to_hosts: vec!["kstamp.ask.*.*".to_owned()],
        from_hub: vec![assignments, "kstamp.notice.*.*".to_owned()],
    }
}

/// What a host or a reader may do in its account, as subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    pub subscribe: Vec<String>,
    /// It may reply to a request, once.
    pub replies: bool,
}

/// An agent writes as its host only, and reads only what is for its host.
pub fn permissions(host: &HostName) -> Permissions {
    let of_host = |subject: &str| format!("{subject}.{host}.*");
    let assignment = of_host(&format!("$KV.{ASSIGNMENT}"));
    let mut publish: Vec<_> = Results::ALL.iter().map(|results| of_host(results.prefix)).collect();
    publish.extend([
        of_host("kstamp.heartbeat"),
        of_host(&format!("$KV.{PRESENCE}")),
        newest(&format!("KV_{ASSIGNMENT}"), &assignment),
    ]);
    Permissions {
        publish,
        subscribe: vec![
            assignment,
            of_host("kstamp.ask"),
            of_host("kstamp.notice"),
            inboxes(host),
        ],
        replies: true,
    }
}

/// Where replies to this host or reader come. No other one has it among its permissions.
pub fn inboxes(name: &HostName) -> String {
    format!("{}.>", inbox(name))
}

/// A reader asks the hub, and gets its answers.
pub fn reader_permissions(name: &HostName) -> Permissions {
    Permissions {
        publish: vec![QUERIES.to_owned()],
        subscribe: vec![inboxes(name)],
        replies: false,
    }
}
