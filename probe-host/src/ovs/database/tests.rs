use super::*;

const PORT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn interface(name: &str, kind: &str, mac: &Value, ids: &Value, options: &Value) -> Value {
    json!({ "new": {
        "name": name, "type": kind, "ofport": 3, "mac_in_use": mac,
        "external_ids": ["map", ids], "options": ["map", options],
    }})
}

fn port(name: &str, interfaces: &[&str], tag: &Value) -> Value {
    let interfaces: Vec<_> = interfaces.iter().map(|uuid| json!(["uuid", uuid])).collect();
    json!({ "new": { "name": name, "interfaces": ["set", interfaces], "tag": tag } })
}

fn bridge(name: &str, ports: &[&str]) -> Value {
    let ports: Vec<_> = ports.iter().map(|uuid| json!(["uuid", uuid])).collect();
    json!({ "new": { "name": name, "ports": ["set", ports], "datapath_type": "" } })
}

/// As a compute node of OpenStack has it: ports on br-int, tunnels on br-tun, an uplink on br-ex.
fn tables() -> Value {
    let none = json!(["set", []]);
    let (empty, patch) = (json!([]), |peer: &str| json!([["peer", peer]]));
    let tunnel = json!([
        ["key", "flow"],
        ["local_ip", "172.16.0.1"],
        ["psk", "secret"],
        ["remote_ip", "172.16.0.2"]
    ]);
    json!({
        "Open_vSwitch": { "o": { "new": { "ovs_version": "3.1.0" } } },
        "Bridge": {
            "b1": bridge("br-int", &["p1", "p2", "p3", "p4"]),
            "b2": bridge("br-tun", &["p5", "p6"]),
            "b3": { "new": { "name": "br-ex", "ports": ["uuid", "p7"], "datapath_type": "netdev" } },
        },
        "Port": {
            "p1": port("port1", &["i1"], &json!(7)),
            "p2": port("veth-host", &["i2"], &none),
            "p3": port("tap-vm", &["i3"], &none),
            "p4": port("patch-tun", &["i4"], &none),
            "p5": port("patch-int", &["i5"], &none),
            "p6": port("vxlan-2", &["i6"], &none),
            "p7": port("bond0", &["i7", "i8"], &none),
        },
        "Interface": {
            "i1": interface("port1", "internal", &none, &json!([["iface-id", "vm-1"]]), &empty),
            "i2": interface("veth-host", "", &json!("02:00:00:00:00:02"), &empty, &empty),
            "i3": interface("tap-vm", "", &json!("fe:00:00:00:00:03"), &json!([["attached-mac", "02:00:00:00:00:03"]]), &empty),
            "i4": interface("patch-tun", "patch", &none, &empty, &patch("patch-int")),
            "i5": interface("patch-int", "patch", &none, &empty, &patch("patch-tun")),
            "i6": interface("vxlan-2", "vxlan", &none, &empty, &tunnel),
            "i7": interface("eth0", "", &json!("02:00:00:00:00:07"), &empty, &empty),
            "i8": interface("eth1", "", &json!("02:00:00:00:00:07"), &empty, &empty),
        },
    })
}

fn database() -> Database {
    let reply = json!({ "id": "kstamp", "result": tables(), "error": null });
    let mut database = Database::default();
    database.apply(Updates::of_reply(reply.to_string().as_bytes()).unwrap());
    database
}

fn update(database: &mut Database, tables: &Value) {
    let update = json!({ "id": null, "method": "update", "params": ["kstamp", tables] });
    database.apply(Updates::of_update(update.to_string().as_bytes()).unwrap());
}

fn wanted(name: &str, kind: &str, mac: [u8; 6]) -> Wanted {
    Wanted {
        name: name.to_owned(),
        mac,
        kind: (!kind.is_empty()).then(|| kind.to_owned()),
        peer: None,
    }
}

fn internal() -> Wanted {
    wanted("port1", "openvswitch", PORT_MAC)
}

#[test]
fn all_facts_of_an_internal_port_are_found() {
    let facts = PortFacts {
        bridge: "br-int".to_owned(),
        datapath_type: "system".to_owned(),
        port: "port1".to_owned(),
        interface: "port1".to_owned(),
        kind: "internal".to_owned(),
        ofport: Some(3),
        vlan: Some(7),
        iface_id: Some("vm-1".to_owned()),
        tunnels: vec![Tunnel {
            name: "vxlan-2".to_owned(),
            bridge: "br-tun".to_owned(),
            kind: "vxlan".to_owned(),
            key: Some("flow".to_owned()),
            remote_ip: Some("172.16.0.2".to_owned()),
            local_ip: Some("172.16.0.1".to_owned()),
        }],
        more_tunnels: 0,
        version: Some("3.1.0".to_owned()),
    };
    assert_eq!(database().facts_of(&internal()), Some(facts));
}

#[test]
fn a_port_is_found_by_what_only_it_has() {
    let peer = |name: &str, mac| Wanted {
        peer: Some((name.to_owned(), mac)),
        ..wanted("eth0", "veth", PORT_MAC)
    };
    let cases = [
        ("moved, kernel datapath", internal(), Some("port1")),
        (
            "moved, userspace datapath",
            wanted("port1", "tun", PORT_MAC),
            Some("port1"),
        ),
        ("another device of that name", wanted("port1", "veth", PORT_MAC), None),
        (
            "other end of a veth pair",
            peer("veth-host", PEER_MAC),
            Some("veth-host"),
        ),
        ("other end of another pair", peer("veth-host", PORT_MAC), None),
        (
            "a container's eth0, not the host's",
            wanted("eth0", "veth", PORT_MAC),
            None,
        ),
        (
            "an uplink of a bond",
            wanted("eth1", "", [2, 0, 0, 0, 0, 7]),
            Some("eth1"),
        ),
        ("attached-mac", wanted("eth0", "", [2, 0, 0, 0, 0, 3]), Some("tap-vm")),
        ("not in the switch", wanted("eth5", "", [2, 0, 0, 0, 0, 9]), None),
    ];
    let database = database();
    for (name, wanted, interface) in cases {
        let facts = database.facts_of(&wanted);
        assert_eq!(
            facts.as_ref().map(|facts| facts.interface.as_str()),
            interface,
            "{name}"
        );
    }
    let bond = database.facts_of(&wanted("eth1", "", [2, 0, 0, 0, 0, 7])).unwrap();
    assert_eq!((bond.port.as_str(), bond.datapath_type.as_str()), ("bond0", "netdev"));
}

#[test]
fn two_ports_that_fit_are_none() {
    let mut database = database();
    let twin = interface(
        "tap-2",
        "",
        &json!(["set", []]),
        &json!([["attached_mac", "02:00:00:00:00:03"]]),
        &json!([]),
    );
    update(&mut database, &json!({ "Interface": { "i9": twin } }));
    assert_eq!(database.facts_of(&wanted("eth0", "", [2, 0, 0, 0, 0, 3])), None);
}

#[test]
fn a_port_moves_to_another_bridge_and_goes() {
    let mut database = database();
    let moved = json!({ "Bridge": {
        "b1": bridge("br-int", &["p2", "p3", "p4"]),
        "b3": bridge("br-ex", &["p1", "p7"]),
    }});
    update(&mut database, &moved);
    let facts = database.facts_of(&internal()).unwrap();
    assert_eq!((facts.bridge.as_str(), facts.tunnels), ("br-ex", vec![]));
    update(
        &mut database,
        &json!({ "Interface": { "i1": { "old": { "name": "port1" } } } }),
    );
    assert_eq!(database.facts_of(&internal()), None);
}

#[test]
fn a_port_that_the_switch_could_not_add_has_no_number() {
    let mut database = database();
    for (ofport, number) in [(json!(-1), None), (json!(["set", []]), None), (json!(12), Some(12))] {
        let mut row = tables()["Interface"]["i1"].clone();
        row["new"]["ofport"] = ofport;
        update(&mut database, &json!({ "Interface": { "i1": row } }));
        assert_eq!(database.facts_of(&internal()).unwrap().ofport, number);
    }
}

#[test]
fn a_list_of_tunnels_is_bounded() {
    let mut database = database();
    let many: Vec<String> = (0..40).map(|number| format!("t{number:02}")).collect();
    let options = json!([["remote_ip", "172.16.0.9"]]);
    let none = json!(["set", []]);
    let rows = |row: &dyn Fn(&str) -> Value| -> serde_json::Map<String, Value> {
        many.iter().map(|name| (name.clone(), row(name))).collect()
    };
    let ports: Vec<_> = ["p5"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let tables = json!({
        "Interface": rows(&|name| interface(name, "geneve", &none, &json!([]), &options)),
        "Port": rows(&|name| port(name, &[name], &none)),
        "Bridge": { "b2": bridge("br-tun", &ports) },
    });
    update(&mut database, &tables);
    let facts = database.facts_of(&internal()).unwrap();
    assert_eq!((facts.tunnels.len(), facts.more_tunnels), (16, 24));
    assert_eq!(
        (facts.tunnels[0].name.as_str(), facts.tunnels[15].name.as_str()),
        ("t00", "t15")
    );
}

#[test]
fn tables_that_are_not_as_the_schema_says_are_refused() {
    let wrong = [
        json!({ "result": 1 }),
        json!({ "result": { "Bridge": { "b": { "new": { "name": 1 } } } } }),
        json!({ "result": { "Interface": { "i": { "new": { "name": "x" } } } } }),
        json!({ "error": null }),
    ];
    for reply in wrong {
        assert!(Updates::of_reply(reply.to_string().as_bytes()).is_err(), "{reply}");
    }
}
