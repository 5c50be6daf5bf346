//! A planned end is no loss: an agent that ends or gives up an address tells those that measure it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{FAR_V4, NEAR_V4, Pair, Running, count, ip};

const FAR_V6: &str = "fd01::6";

/// Waits until `near` knows the name of `peer` on all its paths, so that the peer knows where to send its goodbye.
fn await_name(near: &Running, peer: &str) {
    near.await_record(1, "a named window", |record| {
        record["type"] == "window" && record["peer"] == peer && !record["peer_name"].is_null()
    });
}

fn await_end(near: &Running, peer: &str) {
    near.await_record(1, "an end", |record| {
        record["type"] == "peer" && record["peer"] == peer && record["event"] == "down" && record["reason"] == "ended"
    });
}

fn summaries<'a>(records: &'a [Value], peer: &str) -> Vec<&'a Value> {
    let of_it = |record: &&Value| record["type"] == "summary" && record["peer"] == peer;
    records.iter().filter(of_it).collect()
}

fn assert_no_loss(records: &[Value], peer: &str) {
    let summaries = summaries(records, peer);
    assert!(!summaries.is_empty(), "{peer}: {records:#?}");
    for summary in summaries {
        let [sent, received, lost, pending] =
            ["sent", "received", "lost", "pending"].map(|field| count(summary, field));
        assert_eq!((lost, sent), (0, received + pending), "{summary:#}");
        assert!(received > 10, "{summary:#}");
    }
}

#[test]
fn an_agent_that_ends_is_no_loss_for_its_peers() {
    for (engine, how) in [("ebpf", "agent"), ("socket", "reflect")] {
        let Some(pair) = Pair::new() else { return };
        let far = pair.started(&pair.far, &format!("{how} --iface port2 --engine {engine}"));
        // A named peer is probed on after its end, and one that the group has found is not.
        let near = pair.started(
            &pair.near,
            "agent --iface port1 --peer fd01::6 --interval 5ms --timeout 300ms --report 200ms",
        );
        for peer in [FAR_V4, FAR_V6] {
            await_name(&near, peer);
        }
        let (status, _, stderr) = far.stop();
        assert!(status.success(), "{stderr}");
        for peer in [FAR_V4, FAR_V6] {
            await_end(&near, peer);
        }
        // Nobody answers what is sent now, and it would be lost by then.
        std::thread::sleep(Duration::from_millis(500));
        let (status, records, stderr) = near.stop();
        assert!(status.success(), "{stderr}");
        for peer in [FAR_V4, FAR_V6] {
            assert_no_loss(&records, peer);
        }
    }
}

#[test]
fn an_agent_that_has_not_yet_read_who_asks_says_that_it_ends() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.started(&pair.far, "reflect --iface port2 --family v4");
    far.signal(Signal::SIGSTOP);
    // The programs answer probes meanwhile. The peer is up then, and has asked who it is.
    let near = pair.started(
        &pair.near,
        "agent --iface port1 --family v4 --interval 5ms --report 200ms",
    );
    near.await_record(1, "a window of the peer", |record| {
        record["type"] == "window" && record["peer"] == FAR_V4
    });
    far.signal(Signal::SIGTERM);
    far.signal(Signal::SIGCONT);
    await_end(&near, FAR_V4);
    assert!(far.wait().0.success());
    assert_no_loss(&near.stop().1, FAR_V4);
}

#[test]
fn an_address_that_is_given_up_is_no_loss() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.far, "address add 10.1.1.7/24 dev port2");
    let _far = pair.started(&pair.far, "agent --iface port2 --family v4");
    let near = pair.started(
        &pair.near,
        "agent --iface port1 --family v4 --no-group --peer 10.1.1.6 --peer 10.1.1.7 --interval 20ms --timeout 2s --report 500ms",
    );
    for peer in [FAR_V4, "10.1.1.7"] {
        await_name(&near, peer);
    }
    ip(&pair.far, "address delete 10.1.1.7/24 dev port2");
    await_end(&near, "10.1.1.7");
    let (_, records, _) = near.stop();
    for peer in [FAR_V4, "10.1.1.7"] {
        assert_no_loss(&records, peer);
    }
}

#[test]
fn an_agent_that_moves_to_its_other_address_is_one_peer_and_no_loss() {
    for (engine, family, old, add, new) in [
        ("ebpf", "v4", FAR_V4, "10.1.1.7/25", "10.1.1.7"),
        ("socket", "v6", FAR_V6, "fd01::7/64 nodad", "fd01::7"),
    ] {
        let Some(pair) = Pair::new() else { return };
        let _far = pair.started(
            &pair.far,
            &format!("agent --iface port2 --family {family} --engine {engine} --name mover"),
        );
        let near = pair.started(
            &pair.near,
            &format!("agent --iface port1 --family {family} --interval 20ms --timeout 2s --report 500ms"),
        );
        await_name(&near, old);
        // A mask of its own, because the kernel deletes the secondary addresses of one that is deleted.
        ip(&pair.far, &format!("address add {add} dev port2"));
        let mask = if family == "v4" { 24 } else { 64 };
        ip(&pair.far, &format!("address delete {old}/{mask} dev port2"));
        let moved = near.await_record(1, "a move", |record| {
            record["type"] == "peer" && record["event"] == "moved"
        });
        assert_eq!((&moved["peer"], &moved["moved_from"]), (&new.into(), &old.into()));
        assert_eq!(moved["name"], "mover");
        // The first window of each path may be short.
        near.await_record(4, "windows of both paths", |record| {
            record["type"] == "window" && record["peer"] == new && record["peer_name"] == "mover"
        });
        let (_, records, _) = near.stop();
        for (peer, from) in [(old, Value::Null), (new, old.into())] {
            assert_no_loss(&records, peer);
            for summary in summaries(&records, peer) {
                assert_eq!(
                    (&summary["moved_from"], &summary["downs"]),
                    (&from, &0.into()),
                    "{summary:#}"
                );
            }
        }
    }
}

#[test]
fn an_address_that_is_added_or_deprecated_is_no_loss() {
    ["ebpf", "socket"].into_iter().for_each(addresses_change);
}

fn addresses_change(engine: &str) {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.started(
        &pair.far,
        &format!("reflect --iface port2 --family v6 --engine {engine}"),
    );
    let near = pair.started(
        &pair.near,
        "agent --iface port1 --family v6 --interval 20ms --timeout 2s --report 300ms",
    );
    await_name(&near, FAR_V6);
    let windows = |record: &Value| record["type"] == "window" && record["peer"] == FAR_V6 && record["path"] == "group";
    let changes = [
        (&pair.far, "address add fd01::b/64 dev port2 nodad"),
        (
            &pair.far,
            "address change fd01::6/64 dev port2 preferred_lft 0 valid_lft forever",
        ),
        (&pair.near, "address add fd01::a/64 dev port1 nodad"),
        (
            &pair.near,
            "address change fd01::5/64 dev port1 preferred_lft 0 valid_lft forever",
        ),
    ];
    for (namespace, change) in changes {
        ip(namespace, change);
        // The interface is looked at twice a second.
        let before = near.records().iter().filter(|record| windows(record)).count();
        near.await_record(before + 3, change, windows);
    }
    let (_, records, _) = near.stop();
    assert_no_loss(&records, FAR_V6);
    let up = records
        .iter()
        .filter(|record| record["type"] == "peer" && record["event"] == "up");
    let peers: Vec<_> = up.map(|record| &record["peer"]).collect();
    assert!(!peers.contains(&&"fd01::b".into()), "{peers:?}");
}

const NEAR_V6: &str = "fd01::5";

#[test]
fn an_agent_that_ends_reaches_peers_that_have_changed_their_addresses() {
    let Some(pair) = Pair::new() else { return };
    let probing = "--interval 20ms --timeout 2s --report 300ms";
    let far = pair.started(&pair.far, &format!("agent --iface port2 {probing}"));
    let near = pair.started(&pair.near, &format!("agent --iface port1 {probing}"));
    for peer in [NEAR_V4, NEAR_V6] {
        await_name(&far, peer);
    }
    // A mask of its own, because the kernel deletes the secondary addresses of one that is deleted.
    ip(&pair.far, "address add 10.1.1.7/25 dev port2");
    ip(&pair.far, "address add fd01::7/64 dev port2 nodad");
    ip(&pair.far, &format!("address delete {FAR_V4}/24 dev port2"));
    ip(&pair.far, &format!("address delete {FAR_V6}/64 dev port2"));
    // Twice a second the interface is looked at, and then the peers are asked from the new addresses.
    for peer in ["10.1.1.7", "fd01::7"] {
        near.await_record(6, "named windows", |record| {
            record["type"] == "window" && record["peer"] == peer && !record["peer_name"].is_null()
        });
    }
    let (status, _, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    for peer in [NEAR_V4, NEAR_V6] {
        await_end(&far, peer);
    }
    let (_, records, _) = far.stop();
    for peer in [NEAR_V4, NEAR_V6] {
        assert_no_loss(&records, peer);
    }
}

#[test]
fn the_last_address_of_an_ip_version_is_given_up_without_loss_and_comes_back() {
    for engine in ["ebpf", "socket"] {
        let Some(pair) = Pair::new() else { return };
        let probing = format!("--engine {engine} --interval 20ms --timeout 2s --report 300ms");
        // First, because a named peer is measured from the start.
        let near = pair.started(&pair.near, &format!("agent --iface port1 {probing}"));
        let far = pair.started(&pair.far, &format!("agent --iface port2 {probing} --peer {NEAR_V4}"));
        await_name(&far, NEAR_V4);
        for peer in [FAR_V4, FAR_V6] {
            await_name(&near, peer);
        }
        ip(&pair.far, &format!("address delete {FAR_V4}/24 dev port2"));
        await_end(&near, FAR_V4);
        let of_near = |record: &Value| record["type"] == "window" && record["peer"] == NEAR_V4;
        let failing = |record: &Value| of_near(record) && count(record, "send_failed") > 0;
        far.await_record(2, "probes without a source address", failing);
        ip(&pair.far, &format!("address add {FAR_V4}/24 dev port2"));
        near.await_record(2, "its return", |record| {
            record["type"] == "peer" && record["event"] == "up" && record["peer"] == FAR_V4
        });
        let whole =
            |record: &Value| of_near(record) && count(record, "send_failed") == 0 && count(record, "received") > 0;
        let before = far.records().iter().filter(|record| whole(record)).count();
        far.await_record(before + 2, "replies again", whole);
        let (_, records, stderr) = far.stop();
        assert!(stderr.contains("no usable address"), "{stderr}");
        assert_no_loss(&records, NEAR_V4);
        let (_, records, _) = near.stop();
        for peer in [FAR_V4, FAR_V6] {
            assert_no_loss(&records, peer);
        }
    }
}

#[test]
fn an_agent_that_keeps_only_its_link_local_address_ends_where_it_was_and_nobody_loses_a_probe() {
    let Some(pair) = Pair::new() else { return };
    ip(&pair.near, "address add fe80::5/64 dev port1 nodad");
    ip(&pair.far, "address add fe80::6/64 dev port2 nodad");
    let probing = "--family v6 --interval 20ms --timeout 2s --report 300ms";
    let far = pair.started(&pair.far, &format!("agent --iface port2 {probing}"));
    let near = pair.started(&pair.near, &format!("agent --iface port1 {probing}"));
    await_name(&far, NEAR_V6);
    await_name(&near, FAR_V6);
    ip(&pair.far, &format!("address delete {FAR_V6}/64 dev port2"));
    await_end(&near, FAR_V6);
    far.await_record(1, "the end of the sessions to the subnet that was left", |record| {
        record["type"] == "peer" && record["peer"] == NEAR_V6 && record["reason"] == "no-address"
    });
    // By then, earlier probes would be lost.
    std::thread::sleep(Duration::from_millis(2_200));
    for (agent, peer) in [(far, NEAR_V6), (near, FAR_V6)] {
        let (_, records, _) = agent.stop();
        assert_no_loss(&records, peer);
    }
}
