//! An IP version whose address arrives late is taken up, by agents and reflectors.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use serde_json::Value;
use support::{FAR_V4, Pair, count, ip, run, summary};

const FAR_V6: &str = "fd01::6";

fn takes_up(engine: &str) {
    // IPv4 is late at both ends, or IPv6 is.
    let families = [
        (FAR_V4, "239.255.255.250", ["10.1.1.5/24", "10.1.1.6/24"], "IPv4"),
        (FAR_V6, "ff0e::10", ["fd01::5/64", "fd01::6/64"], "IPv6"),
    ];
    for (late_peer, group, [near_address, far_address], name) in families {
        let Some(pair) = Pair::new() else { return };
        let ends = [(&pair.near, "port1", near_address), (&pair.far, "port2", far_address)];
        for (namespace, port, address) in ends {
            ip(namespace, &format!("address delete {address} dev {port}"));
            if name == "IPv6" {
                run(&format!(
                    "ip netns exec {namespace} sysctl -qw net.ipv6.conf.{port}.disable_ipv6=1"
                ));
            }
        }
        let far = pair.reflector(&format!("--engine {engine}"));
        let probing = "--interval 20ms --timeout 1s --report 500ms";
        let near = pair.started(&pair.near, &format!("agent --iface port1 --engine {engine} {probing}"));
        let left_out = format!("port1 has no {name} address; {name} is taken up when it gets one");
        assert_eq!(near.stderr().matches(&left_out).count(), 1, "{}", near.stderr());
        let start = near.await_type("start");
        assert_eq!(start["groups"].as_array().unwrap().len(), 1, "{start:#}");
        near.await_record(1, "results of the other family", |record| record["type"] == "window");
        for (namespace, port, address) in ends {
            if name == "IPv6" {
                run(&format!(
                    "ip netns exec {namespace} sysctl -qw net.ipv6.conf.{port}.disable_ipv6=0"
                ));
                ip(namespace, &format!("address add {address} dev {port} nodad"));
            } else {
                ip(namespace, &format!("address add {address} dev {port}"));
            }
        }
        let joined = |record: &Value| record["event"] == "joined" && record["group"] == group;
        near.await_record(1, "the late address", joined);
        far.await_record(1, "the late address at the reflector", joined);
        for path in ["group", "unicast"] {
            near.await_record(2, "results of the late family", |record| {
                record["type"] == "window"
                    && record["peer"] == late_peer
                    && record["path"] == path
                    && count(record, "received") > 0
            });
        }
        let (status, records, stderr) = near.stop();
        assert!(status.success(), "{stderr}");
        assert_eq!(
            count(summary(&records, late_peer, "unicast"), "lost"),
            0,
            "{engine} {name}"
        );
        assert!(far.stop().0.success());
    }
}

#[test]
fn kernel_programs_take_up_an_address_that_arrives_late() {
    takes_up("ebpf");
}

#[test]
fn sockets_take_up_an_address_that_arrives_late() {
    takes_up("socket");
}
