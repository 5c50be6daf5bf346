//! Golden lines: programs rely on field names and their order.

use super::*;
use crate::output::fixtures::{
    attach_change, clock_step, counters, end, exported, good, interface_change, jsonl, peer_change, reflector, silent,
    start, troubled, windows,
};
use crate::output::model::{InterfaceEvent, PeerEvent, Start};
use probe_core::agent::event::Found;

fn line(event: Event) -> String {
    exported(jsonl(), [event])
}

#[test]
fn start_and_changes() {
    let table = [
        (
            Event::Start(start()),
            r#"{"type":"start","agent":"h1:p1","version":"0.1.0","interface":"p1","attach":{"egress":"tc","receive":"xdp-native"},"attach_reason":"the fastest mode that this device supports","engine":"ebpf","authenticated":false,"clock":{"synchronised":true,"error_ns":1200000,"tai_offset_s":37},"kernel":"6.1.0-32-amd64","name":"h1:p1","fleet":null,"ovs":null,"addresses":["10.1.1.5","fe80::5"],"port":1910,"ports":[1910],"groups":["239.255.255.250","ff0e::10"],"peers":[],"group_probes":true,"interval_ns":500000000,"timeout_ns":2000000000,"allowed":["10.1.1.0/24","fe80::/64"],"rate":1000000,"rate_source":50000,"rate_group":20000,"volley_limit":50000,"user":"root","capabilities":["CAP_NET_ADMIN"],"time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Attach(attach_change()),
            r#"{"type":"attach","agent":"h1:p1","receive":"xdp-generic","reason":"p1 dropped the replies that native XDP transmitted","time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Interface(interface_change(InterfaceEvent::Deleted)),
            r#"{"type":"interface","agent":"h1:p1","event":"deleted","interface":"p1","time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Peer(peer_change(PeerEvent::Up, Found::Multicast, Some("h2:p2"))),
            r#"{"type":"peer","agent":"h1:p1","event":"up","peer":"10.1.1.6","found":"multicast","method":"stamp","name":"h2:p2","version":"0.1.0","time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Peer(peer_change(PeerEvent::Down, Found::Static, None)),
            r#"{"type":"peer","agent":"h1:p1","event":"down","reason":"silent","peer":"10.1.1.6","found":"static","method":"stamp","time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Peer(peer_change(PeerEvent::Moved, Found::Multicast, None)),
            r#"{"type":"peer","agent":"h1:p1","event":"moved","peer":"10.1.1.6","moved_from":"10.1.1.7","found":"multicast","method":"stamp","time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Clock(clock_step(Some("10.1.1.6"), -10_000_000)),
            r#"{"type":"clock","agent":"h1:p1","peer":"10.1.1.6","by_ns":-10000000,"left_out":0,"time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
        (
            Event::Counters(counters([("reflected", 7), ("vlan", 0)])),
            r#"{"type":"counters","agent":"h1:p1","reflected":7,"vlan":0,"time":"2026-11-21T10:10:38.000000000Z"}"#,
        ),
    ];
    for (event, expected) in table {
        assert_eq!(line(event), format!("{expected}\n"));
    }
}

#[test]
fn a_window_and_a_summary_differ_only_in_their_type() {
    let expected = r#"{"type":"window","agent":"h1:p1","peer":"10.1.1.6","peer_name":"h2:p2","moved_from":null,"family":"v4","path":"unicast","method":"stamp","engine":"ebpf","attach":{"egress":"tc","receive":"xdp-native"},"peer_attach":"tc","start":"2026-11-21T10:10:38.000000000Z","end":"2026-11-21T10:10:48.000000001Z","sent":20,"received":20,"lost":0,"pending":0,"lost_forward":0,"lost_backward":0,"lost_unknown":0,"late":0,"duplicates":0,"reordered":0,"collector_lost":0,"send_failed":0,"unanswered":0,"not_sent":0,"send_failed_by":{},"rtt_ns":{"min":140200,"mean":527200,"p50":161400,"p90":1280000,"p99":1280000,"p999":1280000,"max":1280000,"stddev":10,"count":20},"residence_ns":{"min":210,"mean":1890,"p50":340,"p90":5120,"p99":5120,"p999":5120,"max":5120,"stddev":10,"count":20},"forward_ns":{"min":70000,"mean":263500,"p50":80500,"p90":640000,"p99":640000,"p999":640000,"max":640000,"stddev":10,"count":20},"backward_ns":{"min":-1000,"mean":239633,"p50":79900,"p90":640000,"p99":640000,"p999":640000,"max":640000,"stddev":10,"count":20},"clock":"same-clock","clock_bound_ns":null,"clock_offset_ns":null,"clock_skew_ppb":null,"pdv_ns":{"min":0,"mean":387000,"p50":21200,"p90":1139800,"p99":1139800,"p999":1139800,"max":1139800,"stddev":10,"count":20},"ipdv_ns":{"min":-900,"mean":0,"p50":0,"p90":900,"p99":900,"p999":900,"max":900,"stddev":10,"count":20},"forward_pdv_ns":null,"backward_pdv_ns":null,"own_clock_steps":0,"peer_clock_steps":0,"lost_late":0,"lost_refused":null,"duplicated":0,"loss_period":null,"loss_distance":null,"reordering_extent":null,"downs":0,"down_ns":0,"interface_down_ns":0}"#;
    assert_eq!(line(Event::Windows(windows(vec![good()]))), format!("{expected}\n"));

    let summary = expected.replace("\"type\":\"window\"", "\"type\":\"summary\"");
    let counters = r#"{"type":"counters","agent":"h1:p1","collected":20,"time":"2026-11-21T10:10:38.000000000Z"}"#;
    assert_eq!(
        line(Event::End(end(vec![good()], [("collected", 20)]))),
        format!("{summary}\n{counters}\n")
    );
}

#[test]
fn every_field_is_present_whatever_was_measured() {
    let fields = "type agent peer family path start end sent received lost lost_forward lost_backward lost_unknown late \
                  duplicates reordered collector_lost send_failed unanswered not_sent send_failed_by rtt_ns residence_ns forward_ns backward_ns clock \
                  pdv_ns ipdv_ns pending clock_bound_ns peer_name moved_from engine attach \
                  peer_attach downs down_ns clock_offset_ns clock_skew_ppb forward_pdv_ns backward_pdv_ns \
                  own_clock_steps peer_clock_steps lost_late lost_refused duplicated loss_period loss_distance \
                  reordering_extent method interface_down_ns";
    let mut fields: Vec<&str> = fields.split_whitespace().collect();
    fields.sort_unstable();
    for results in [good(), troubled(), silent()] {
        let object: Value = serde_json::from_str(&line(Event::Windows(windows(vec![results])))).unwrap();
        let mut found: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, fields);
    }
}

#[test]
fn unknown_values_are_null_not_zero() {
    let object: Value = serde_json::from_str(&line(Event::Windows(windows(vec![silent()])))).unwrap();
    let nulls = "rtt_ns residence_ns forward_ns backward_ns pdv_ns ipdv_ns clock clock_bound_ns peer_name peer_attach";
    for field in nulls.split_whitespace() {
        assert_eq!(object[field], Value::Null, "{field}");
    }
    assert_eq!(object["family"], "v6");
}

#[test]
fn a_synchronised_clock_has_its_bound() {
    let object: Value = serde_json::from_str(&line(Event::Windows(windows(vec![troubled()])))).unwrap();
    assert_eq!(
        (&object["clock"], &object["clock_bound_ns"]),
        (&"synced".into(), &2_400_000.into())
    );
    assert_eq!(object["path"], "group");
}

#[test]
fn a_reflector_has_no_interval() {
    let object: Value = serde_json::from_str(&line(Event::Start(reflector()))).unwrap();
    assert_eq!(
        (&object["interval_ns"], &object["timeout_ns"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_report_interval_without_peers_writes_nothing() {
    assert_eq!(line(Event::Windows(windows(vec![]))), "");
}

#[test]
fn a_start_lists_the_peers_and_whether_groups_are_probed() {
    let start = Start {
        peers: vec![[10, 1, 1, 99].into()],
        group_probes: false,
        ..start()
    };
    let object: Value = serde_json::from_str(&line(Event::Start(start))).unwrap();
    assert_eq!(object["peers"], Value::from(vec!["10.1.1.99"]));
    assert_eq!(object["group_probes"], Value::Bool(false));
}
