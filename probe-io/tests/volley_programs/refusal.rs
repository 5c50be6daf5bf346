//! Devices that cannot do what a mode needs are refused in one line, before anything is sent.

use std::time::Duration;

use aya::programs::XdpMode;
use aya::programs::xdp::XdpLink;
use nix::net::if_::if_nametoindex;
use probe_core::attach::AttachMode;
use probe_core::volley::{Capabilities, Mode, PlanInputs, plan};
use probe_io::volley::object::VolleyObject;
use probe_io::volley::{VolleyError, capabilities};

use crate::line::{FAR_V4, Line, NEAR_V4, command, scaled};
use crate::run::{assert_sound, open, open_as};

/// The capabilities of an interface at the near end.
fn able(line: &Line, interface: &str) -> Capabilities {
    line.near(async || capabilities(interface, FAR_V4.parse().unwrap()).await.unwrap())
}

fn reason(result: &Result<(), String>) -> &str {
    let reason = result.as_ref().unwrap_err();
    assert_eq!(reason.lines().count(), 1, "{reason}");
    reason
}

#[test]
fn loopback_and_interfaces_that_are_down_have_no_mode() {
    let Some(line) = Line::new() else { return };
    let near = &line.near;
    command(&format!("ip -n {near} link set lo up"));
    command(&format!("ip -n {near} link add away type bridge"));
    for (interface, why) in [("lo", "this host only"), ("away", "it is down")] {
        let able = able(&line, interface);
        for mode in Mode::ALL {
            assert!(reason(able.of(mode)).contains(why), "{interface}: {able:?}");
        }
        let refusal = plan(&PlanInputs::default(), None, &able).unwrap_err();
        assert!(refusal.to_string().contains(why), "{refusal}");
    }
    let missing = line.near(async || capabilities("port9", FAR_V4.parse().unwrap()).await);
    assert!(missing.unwrap_err().to_string().contains("there is no interface port9"));
}

#[test]
fn a_bridge_would_swallow_frames_of_programs() {
    let Some(line) = Line::new() else { return };
    let near = &line.near;
    command(&format!("ip -n {near} link add bridge1 type bridge"));
    command(&format!("ip -n {near} link set bridge1 up"));
    let able = able(&line, "bridge1");
    assert!(reason(&able.volley).contains("bridge"), "{able:?}");
    assert!(able.train.is_err() && able.sendmmsg.is_ok(), "{able:?}");
    let chosen = plan(&PlanInputs::default(), None, &able).unwrap();
    assert_eq!(chosen.mode, Mode::Sendmmsg);
    assert!(chosen.reason.contains("bridge"), "{chosen:?}");
}

#[test]
fn a_veth_whose_other_end_does_not_poll_goes_on_with_a_socket() {
    let Some(line) = Line::new() else { return };
    // The kernel would poll for its sake.
    let _ = std::process::Command::new("ip")
        .args(["netns", "exec", &line.far, "ethtool", "-K", "port2", "gro", "off"])
        .output();
    let _far = line.reflector(AttachMode::Tc);
    for mode in [Mode::Volley, Mode::Train] {
        let inputs = PlanInputs {
            mode: Some(mode),
            rate_per_s: Some(5_000),
            ..PlanInputs::default()
        };
        // As on a kernel before Linux 6.3, which does not report features.
        let silent = Capabilities {
            volley: Ok(()),
            train: Ok(()),
            sendmmsg: Ok(()),
        };
        let refused = line.near(async || {
            let mut volley = open_as(FAR_V4, &inputs, &silent, Duration::from_millis(300)).await;
            volley.start(false).await
        });
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("veth") && refused.lines().count() == 1, "{refused}");
        let (plan, snapshot) = line.near(async || {
            let mut volley = open_as(FAR_V4, &inputs, &silent, Duration::from_millis(300)).await;
            volley.start(true).await.unwrap();
            while !volley.is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (volley.plan().clone(), volley.stop(false).await)
        });
        assert_eq!(plan.mode, Mode::Sendmmsg);
        assert!(plan.reason.contains("veth"), "{plan:?}");
        assert_sound(&snapshot, "by a socket");
        assert!(snapshot.totals.received > scaled(100), "{:?}", snapshot.totals);
    }
}

/// On a VXLAN device, and on a veth whose other end has a large MTU.
#[test]
fn a_device_that_refuses_the_xdp_program_goes_on_with_a_socket() {
    for device in [vxlan as fn(&Line), large_frames] {
        let Some(line) = Line::new() else { return };
        device(&line);
        let _far = line.reflector(AttachMode::Tc);
        // As on a kernel before Linux 6.3, which does not report features.
        let silent = Capabilities {
            volley: Ok(()),
            train: Ok(()),
            sendmmsg: Ok(()),
        };
        let inputs = |mode| PlanInputs {
            mode,
            rate_per_s: Some(5_000),
            ..PlanInputs::default()
        };
        for mode in [Mode::Volley, Mode::Train] {
            let refused = line.near(async || {
                let mut volley = open_as(FAR_V4, &inputs(Some(mode)), &silent, Duration::from_millis(300)).await;
                volley.start(false).await
            });
            let refused = refused.unwrap_err().to_string();
            assert!(
                refused.starts_with("port1 does not take the XDP program in native mode: ")
                    && refused.lines().count() == 1,
                "{mode}: {refused}"
            );
        }
        let (plan, snapshot) = line.near(async || {
            let mut volley = open_as(FAR_V4, &inputs(None), &silent, Duration::from_millis(300)).await;
            assert_eq!(volley.plan().mode, Mode::Volley);
            volley.start(true).await.unwrap();
            while !volley.is_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (volley.plan().clone(), volley.stop(false).await)
        });
        assert_eq!(plan.mode, Mode::Sendmmsg);
        assert!(
            plan.reason
                .starts_with("port1 does not take the XDP program in native mode: "),
            "{plan:?}"
        );
        assert_sound(&snapshot, "by a socket");
        assert!(snapshot.totals.received > 0, "{:?}", snapshot.totals);
    }
}

/// Makes `port1` and `port2` VXLAN devices over the veth pair.
fn vxlan(line: &Line) {
    let ends = [
        (&line.near, "port1", NEAR_V4, "10.1.2.5", "10.1.2.6"),
        (&line.far, "port2", FAR_V4, "10.1.2.6", "10.1.2.5"),
    ];
    for (namespace, port, address, own, other) in ends {
        command(&format!("ip -n {namespace} link set {port} down"));
        command(&format!("ip -n {namespace} link set {port} name lower"));
        command(&format!("ip -n {namespace} address flush dev lower"));
        command(&format!("ip -n {namespace} address add {own}/24 dev lower"));
        command(&format!("ip -n {namespace} link set lower up"));
        command(&format!(
            "ip -n {namespace} link add {port} type vxlan id 5 dstport 4789 local {own} remote {other}"
        ));
        command(&format!("ip -n {namespace} address add {address}/24 dev {port}"));
        command(&format!("ip -n {namespace} link set {port} up"));
    }
}

/// A page has no room for the frames that `port2` may send (`veth_xdp_set` in `drivers/net/veth.c`).
fn large_frames(line: &Line) {
    command(&format!("ip -n {} link set port2 mtu 9000", line.far));
}

#[test]
fn beside_another_xdp_program_only_a_socket_sends() {
    let Some(line) = Line::new() else { return };
    let _far = line.reflector(AttachMode::XdpNative);
    let (able, refused, snapshot) = line.near(async || {
        let _other = other_program();
        let able = capabilities("port1", FAR_V4.parse().unwrap()).await.unwrap();
        let by_volley = PlanInputs {
            mode: Some(Mode::Volley),
            ..PlanInputs::default()
        };
        let refused = plan(&by_volley, None, &able).unwrap_err();
        let inputs = PlanInputs {
            rate_per_s: Some(5_000),
            ..PlanInputs::default()
        };
        let mut volley = open(FAR_V4, &inputs, Duration::from_millis(300)).await;
        volley.start(false).await.unwrap();
        while !volley.is_over() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (able, refused, volley.stop(false).await)
    });
    assert!(reason(&able.volley).contains("is attached there"), "{able:?}");
    assert!(refused.to_string().contains("kstamp_volley_x"), "{refused}");
    assert_sound(&snapshot, "beside another program");
    assert!(snapshot.totals.received > scaled(100), "{:?}", snapshot.totals);
}

/// A program that lets all packets pass, because it has no settings.
fn other_program() -> (VolleyObject, XdpLink) {
    let mut object = VolleyObject::load(4_096).unwrap();
    let program = object.xdp().unwrap();
    let id = program
        .attach_to_if_index(if_nametoindex("port1").unwrap(), XdpMode::Driver)
        .unwrap();
    let link = program.take_link(id).unwrap();
    (object, link)
}

#[test]
fn a_peer_that_does_not_answer_is_named() {
    let Some(line) = Line::new() else { return };
    let refused = line.near(async || {
        let mut volley = open(FAR_V4, &PlanInputs::default(), Duration::from_millis(300)).await;
        volley.start(true).await
    });
    let Err(VolleyError::Refused(refused)) = refused else {
        panic!("{refused:?}")
    };
    assert!(refused.contains("10.1.1.6:862 does not answer by port1"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
}
