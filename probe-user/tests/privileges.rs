//! The privileges of a running agent, which are enough to attach to a deleted interface again.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::{FAR_V4, Pair, Running, count, ip};

const NET_ADMIN: u64 = 1 << 12;
const NET_BIND_SERVICE: u64 = 1 << 10;

/// A field of the status of every thread, as a number in this base.
fn of_threads(pid: u32, field: &str, radix: u32) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let field_of = |task: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let first = line.trim_start_matches(':').split_whitespace().next().unwrap();
        u64::from_str_radix(first, radix).unwrap()
    };
    tasks.map(field_of).collect()
}

/// Every thread has these capabilities and can gain no others.
fn assert_capabilities(agent: &Running, wanted: u64) {
    for field in ["CapEff", "CapPrm", "CapBnd"] {
        for mask in of_threads(agent.pid(), field, 16) {
            assert_eq!(mask, wanted, "{field}: {mask:x}");
        }
    }
    for field in ["CapInh", "CapAmb"] {
        assert!(
            of_threads(agent.pid(), field, 16).iter().all(|&mask| mask == 0),
            "{field}"
        );
    }
    assert!(of_threads(agent.pid(), "NoNewPrivs", 10).iter().all(|&set| set == 1));
}

/// Whether it is a window with replies.
fn answered(record: &Value) -> bool {
    record["type"] == "window" && record["path"] == "unicast" && count(record, "received") > 0
}

/// The interface is deleted and created, and measured again.
fn survives_deletion(user: Option<&str>, uid: u64, port: &str, capabilities: u64) {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector(&format!("--family v4 --port {port}"));
    let user_flag = user.map_or(String::new(), |user| format!("--user {user}"));
    let probing = format!("--family v4 --peer {FAR_V4} --port {port} --interval 20ms --timeout 200ms --peer-expiry 1s");
    let near = pair.start(
        &pair.near,
        &format!("agent --iface port1 {probing} --report 300ms {user_flag}"),
    );
    let start = near.await_type("start");
    assert_capabilities(&near, capabilities);
    assert!(
        of_threads(near.pid(), "Uid", 10)
            .iter()
            .all(|&of_thread| of_thread == uid)
    );
    let names: Vec<_> = start["capabilities"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let expected: &[&str] = match capabilities & NET_BIND_SERVICE {
        0 => &["CAP_NET_ADMIN"],
        _ => &["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"],
    };
    assert_eq!(names, expected);
    assert_eq!(start["user"], user.unwrap_or("root"));
    near.await_record(1, "answers", answered);

    ip(&pair.near, "link delete port1");
    near.await_record(1, "the deletion", |record| record["event"] == "deleted");
    pair.connect();
    near.await_record(1, "the return", |record| record["event"] == "back");
    let before = near.records().iter().filter(|record| answered(record)).count();
    near.await_record(before + 2, "answers after the return", answered);
    let (status, _, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    assert!(far.stop().0.success());
}

#[test]
fn an_agent_keeps_only_the_capabilities_to_reattach() {
    survives_deletion(None, 0, "1910", NET_ADMIN);
}

#[test]
fn the_user_nobody_is_enough_once_everything_is_attached() {
    let id = Command::new("id").args(["-u", "nobody"]).output().unwrap();
    let uid = String::from_utf8_lossy(&id.stdout).trim().parse().unwrap();
    survives_deletion(Some("nobody"), uid, "862", NET_ADMIN | NET_BIND_SERVICE);
}

#[test]
fn an_unknown_user_is_refused_before_anything_is_attached() {
    let Some(pair) = Pair::new() else { return };
    let refused = pair.output(&pair.near, "reflect --iface port1 --user no-such-user");
    let line = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{line}");
    assert!(line.contains("no-such-user") && line.lines().count() == 1, "{line}");
}
