//! `kstamp agent --listen`: the page, its API and the stream.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use support::http::{ADDRESS, Events, await_json, get, request, within};
use support::{FAR_V4, Pair, Running, ip};

const QUICK: &str = "--interval 20ms --timeout 200ms --report 300ms --family v4";

fn agent(pair: &Pair, flags: &str) -> Running {
    ip(&pair.near, "link set lo up");
    pair.started(
        &pair.near,
        &format!("agent --iface port1 {QUICK} --listen {ADDRESS} {flags}"),
    )
}

#[test]
fn the_stream_has_the_records_of_the_run_and_a_bounded_number_of_readers() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4 --name far-end");
    let near = agent(&pair, &format!("--no-group --peer {FAR_V4} --name near-end"));
    let streamed = within(&pair.near, || {
        let mut reader = Events::open("/api/v1/stream");
        assert_eq!(reader.status, 200);
        let start = reader.next("start");
        assert_eq!(
            (&start["agent"], &start["name"]),
            (&"near-end".into(), &"near-end".into())
        );
        let windows: Vec<_> = (0..2).map(|_| reader.next("window")).collect();
        // One source has four places, and one that is given up can be had again.
        let others: Vec<_> = (0..3).map(|_| Events::open("/api/v1/stream")).collect();
        assert!(others.iter().all(|reader| reader.status == 200));
        assert_eq!(Events::open("/api/v1/stream").status, 503);
        assert_eq!(request("HEAD /api/v1/stream").0, 200);
        drop(others);
        // The server notices with the next record.
        reader.next("window");
        reader.next("window");
        assert_eq!(Events::open("/api/v1/stream").status, 200);
        windows
    });
    let policy = get(&pair.near, "/").1;
    assert!(
        policy.contains("content-security-policy: default-src 'none'; script-src 'self';"),
        "{policy}"
    );
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    for window in streamed {
        assert!(records.contains(&window), "{window} is not in {records:#?}");
    }
    drop(far);
}

#[test]
fn the_api_has_the_windows_of_the_run_and_forgets_a_peer_that_ends() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.started(&pair.far, &format!("agent --iface port2 {QUICK} --name far-end"));
    let near = agent(&pair, "--name near-end");
    let shown = await_json(&pair.near, "/api/v1/peers", |peers| {
        peers["peers"][0]["paths"][0]["recent"]["sent"]
            .as_array()
            .is_some_and(|sent| sent.len() >= 3)
    });
    let peer = &shown["peers"][0];
    assert_eq!(
        (&peer["peer"], &peer["peer_name"], &peer["state"]),
        (&FAR_V4.into(), &"far-end".into(), &"up".into())
    );
    assert_eq!(shown["agent"]["name"], "near-end");
    let windows = get(&pair.near, &format!("/api/v1/windows?peer={FAR_V4}")).json();
    let minutes = get(&pair.near, &format!("/api/v1/windows?peer={FAR_V4}&by=minute")).json();
    let sent = |reply: &serde_json::Value| -> u64 {
        let windows = reply["windows"].as_array().unwrap().iter();
        windows.map(|window| support::count(window, "sent")).sum()
    };
    // One more window may have come between.
    assert!(sent(&windows) > 0 && sent(&minutes) >= sent(&windows), "{minutes:#}");
    let wrong = get(&pair.near, "/api/v1/windows?peer=x");
    assert_eq!(
        (wrong.0, wrong.text()),
        (400, r#"{"error":"peer: 'x' is not an address"}"#)
    );
    far.stop();
    await_json(&pair.near, "/api/v1/peers", |peers| {
        peers["peers"] == serde_json::json!([])
    });
    let events = get(&pair.near, "/api/v1/events").json();
    assert_eq!(events["events"][0]["reason"], "ended");
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    // Field by field what the output has.
    for window in windows["windows"].as_array().unwrap() {
        let record = records.iter().find(|record| {
            record["type"] == "window" && record["path"] == window["path"] && record["start"] == window["start"]
        });
        for (name, value) in window
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "rtt_buckets")
        {
            assert_eq!(*value, record.unwrap()[name], "{name}");
        }
    }
}
