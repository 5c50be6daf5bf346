//! All subjects with their meaning, for the reference.

use super::{
    ASSIGNMENT, EVENTS, HEARTBEATS, HUB, LEASE_KEY, MINUTES, PRESENCE, QUARTERS, QUERIES, Results, WINDOWS, entry,
    newest,
};

/// A subject. `HOST` and `PORT` are the tokens of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub subject: String,
    pub kept: Kept,
    pub what: &'static str,
    pub writer: &'static str,
    pub reader: &'static str,
}

/// Where messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    No,
    /// The newest one, in a bucket.
    Newest(&'static str),
    /// All, within bounds.
    Stream(Results),
}

const AGENT: &str = "the agent of the port";
const HUBS: &str = "hubs";
const COORDINATOR: &str = "the coordinating hub";

pub fn rows() -> Vec<Row> {
    let row = |subject: String, kept, what, [writer, reader]: [&'static str; 2]| Row {
        subject,
        kept,
        what,
        writer,
        reader,
    };
    let of_port = |pattern: &str| pattern.replace("*.*", "HOST.PORT");
    let results = |results: Results, what| row(of_port(&results.all()), Kept::Stream(results), what, [AGENT, HUBS]);
    let assignment = entry(ASSIGNMENT, "HOST.PORT");
    vec![
        row(
            entry(PRESENCE, "HOST.PORT"),
            Kept::Newest(PRESENCE),
            "what the port is: addresses, labels, clock (JSON), when it changes",
            [AGENT, HUBS],
        ),
        row(
            of_port(HEARTBEATS),
            Kept::No,
            "the agent lives, and which assignment is in force, each 5 s (Protocol Buffers)",
            [AGENT, HUBS],
        ),
        row(
            assignment.clone(),
            Kept::Newest(ASSIGNMENT),
            "whom the port probes and answers (JSON, signed in a header)",
            [COORDINATOR, "the agent of the port, hubs"],
        ),
        row(
            newest(&format!("KV_{ASSIGNMENT}"), &assignment),
            Kept::No,
            "request for the newest assignment, at each connection and each 60 s",
            [AGENT, "the server"],
        ),
        results(
            WINDOWS,
            "windows of all peers of one report interval (Protocol Buffers)",
        ),
        results(MINUTES, "the same by minute, with the histograms of all delays"),
        results(QUARTERS, "the same by quarter of an hour"),
        results(
            EVENTS,
            "at once: a peer is silent, answers again, or is not probed (JSON)",
        ),
        row(
            of_port("kstamp.ask.*.*"),
            Kept::No,
            "request: how many replies the port's reflector has sent in a session",
            [COORDINATOR, AGENT],
        ),
        row(
            of_port("kstamp.notice.*.*"),
            Kept::No,
            "a line for the agent's log, such as two hosts with one name",
            [COORDINATOR, AGENT],
        ),
        row(
            QUERIES.replace('*', "WHAT"),
            Kept::No,
            "request: what a hub knows",
            ["readers", HUBS],
        ),
        row(
            entry(HUB, LEASE_KEY),
            Kept::Newest(HUB),
            "which hub coordinates, by compare-and-swap",
            [HUBS, HUBS],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Permissions, permissions};
    use super::*;

    #[test]
    fn agents_may_do_what_the_table_says_and_no_more() {
        let Permissions { publish, subscribe, .. } = permissions(&"HOST".parse().unwrap());
        let all = |is_of_agent: fn(&Row) -> bool| -> Vec<_> {
            let rows = rows().into_iter().filter(is_of_agent);
            let mut subjects: Vec<_> = rows.map(|row| row.subject.replace("PORT", "*")).collect();
            subjects.sort();
            subjects
        };
        let sorted = |mut subjects: Vec<String>| {
            subjects.retain(|subject| !subject.starts_with("_INBOX"));
            subjects.sort();
            subjects
        };
        assert_eq!(all(|row| row.writer == AGENT), sorted(publish));
        assert_eq!(all(|row| row.reader.starts_with(AGENT)), sorted(subscribe));
    }
}
