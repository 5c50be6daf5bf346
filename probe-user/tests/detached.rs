//! Programs that others detach, and foreign TC programs before kstamp's.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use aya::programs::{loaded_links, loaded_programs};
use nix::net::if_::if_nametoindex;
use serde_json::Value;
use support::{FAR_V4, Pair, count, has_tcx, in_namespace, run};

/// Commands, types and flags of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 8;

fn bpf(command: libc::c_int, attributes: &mut [u32]) -> io::Result<RawFd> {
    let size = size_of_val(attributes);
    // SAFETY: the attributes are those of the command, and their pointers are of live memory.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as RawFd)
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just opened it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn halves(pointer: *const impl Sized) -> [u32; 2] {
    [pointer as u64 as u32, (pointer as u64 >> 32) as u32]
}

/// Attaches a program that ends the chain with `verdict` before all others at a hook of `port`.
fn attach_foreign(namespace: &str, port: &str, hook: u32, verdict: u32) -> OwnedFd {
    let (namespace, port) = (namespace.to_owned(), port.to_owned());
    let attach = move || {
        in_namespace(&namespace);
        // r0 = verdict; exit
        let code: [u64; 2] = [0xb7 | u64::from(verdict) << 32, 0x95];
        let license = *b"GPL\0";
        let mut load = [0_u32; 16];
        load[0] = BPF_PROG_TYPE_SCHED_CLS;
        load[1] = code.len() as u32;
        load[2..4].copy_from_slice(&halves(code.as_ptr()));
        load[4..6].copy_from_slice(&halves(license.as_ptr()));
        load[12..14].copy_from_slice(&[u32::from_le_bytes(*b"guar"), u32::from_le_bytes(*b"d\0\0\0")]);
        let program = bpf(BPF_PROG_LOAD, &mut load).unwrap();
        let index = if_nametoindex(port.as_str()).unwrap();
        let link = bpf(
            BPF_LINK_CREATE,
            &mut [program.cast_unsigned(), index, hook, BPF_F_BEFORE, 0, 0, 0, 0],
        );
        drop(owned(program));
        owned(link.unwrap())
    };
    std::thread::spawn(attach).join().unwrap()
}

/// Detaches every link of kstamp's program `name` that process `pid` has.
fn detach(name: &str, pid: u32) {
    let ids: Vec<u32> = loaded_programs()
        .flatten()
        .filter(|program| program.name_as_str() == Some(name))
        .map(|program| program.id())
        .collect();
    let of_process = |link: u32| {
        let directory = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
        directory.flatten().any(|file| {
            let info = std::fs::read_to_string(file.path()).unwrap_or_default();
            info.lines()
                .any(|line| line.split_whitespace().eq(["link_id:", &link.to_string()]))
        })
    };
    let links = loaded_links().flatten().filter(|link| ids.contains(&link.program_id()));
    let links: Vec<u32> = links.map(|link| link.id()).filter(|&link| of_process(link)).collect();
    assert!(!links.is_empty(), "{name} has no link");
    for link in links {
        let link = owned(bpf(BPF_LINK_GET_FD_BY_ID, &mut [link, 0]).unwrap());
        bpf(
            BPF_LINK_DETACH,
            &mut [std::os::fd::AsRawFd::as_raw_fd(&link).cast_unsigned(), 0],
        )
        .unwrap();
    }
}

fn answered(record: &Value) -> bool {
    record["type"] == "window" && record["path"] == "unicast" && count(record, "received") > 0
}

#[test]
fn detached_programs_are_attached_again_and_the_time_between_is_no_loss() {
    let Some(pair) = Pair::new() else { return };
    let far = pair.reflector("--family v4");
    let near = pair.started(
        &pair.near,
        &format!("agent --iface port1 --family v4 --peer {FAR_V4} --interval 20ms --timeout 200ms --report 500ms"),
    );
    near.await_record(1, "results", answered);
    let attach = |record: &Value| record["type"] == "attach";
    // The qdisc holds the filters before TCX.
    let steps: &[(&str, &str)] = if has_tcx() {
        &[
            ("kstamp_egress", "the egress program"),
            ("kstamp_xdp", "the receive program"),
        ]
    } else {
        &[("clsact", "the egress program"), ("kstamp_xdp", "the receive program")]
    };
    for (number, (program, what)) in steps.iter().enumerate() {
        if *program == "clsact" {
            run(&format!("tc -n {} qdisc delete dev port1 clsact", pair.near));
        } else {
            detach(program, near.pid());
        }
        let change = near.await_record(number + 1, what, attach);
        let reason = change["reason"].as_str().unwrap();
        assert!(reason.contains(what) || reason.contains("both programs"), "{change:#}");
        let before = near.records().iter().filter(|record| answered(record)).count();
        near.await_record(before + 2, "results after it", answered);
    }
    detach("kstamp_xdp", far.pid());
    far.await_record(1, "the reflector's program", attach);
    let before = near.records().iter().filter(|record| answered(record)).count();
    near.await_record(before + 2, "results after the reflector's", answered);
    let (status, records, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let summary = support::summary(&records, FAR_V4, "unicast");
    let detached = summary["send_failed_by"]["detached"].as_u64().unwrap_or(0);
    assert!(detached > 0, "{summary:#}\n{stderr}");
}

#[test]
fn a_foreign_program_that_ends_the_chain_is_named() {
    if !has_tcx() {
        println!("SKIPPED: a program before ours needs TCX");
        return;
    }
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--family v4");
    let probing = format!("--peer {FAR_V4} --family v4 --interval 20ms --timeout 200ms --report 500ms");
    let near = pair.started(&pair.near, &format!("agent --iface port1 --attach tc {probing}"));
    near.await_record(1, "results", answered);
    const TCX_PASS: u32 = 0;
    let foreign = attach_foreign(&pair.near, "port1", BPF_TCX_EGRESS, TCX_PASS);
    let taken = |record: &Value| {
        record["send_failed_by"]["program"]
            .as_u64()
            .is_some_and(|taken| taken > 0)
    };
    near.await_record(2, "windows whose probes were taken", taken);
    drop(foreign);
    let foreign = attach_foreign(&pair.near, "port1", BPF_TCX_INGRESS, TCX_PASS);
    let named = || near.stderr().contains("at TC ingress of port1, ");
    assert!(
        (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            named()
        }),
        "{}",
        near.stderr()
    );
    drop(foreign);
    let before = near.records().iter().filter(|record| answered(record)).count();
    near.await_record(before + 2, "results after it", answered);
    let (status, _, stderr) = near.stop();
    assert!(status.success(), "{stderr}");
    let named = stderr.lines().filter(|line| line.contains("took it: ")).count();
    assert!((1..=2).contains(&named), "{stderr}");
}

#[test]
fn ping_attaches_its_programs_again() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("--family v4");
    let ping = pair.started(
        &pair.near,
        &format!("ping {FAR_V4} -p 1910 -i 50ms -W 300ms --engine ebpf"),
    );
    let ok = |record: &Value| record["type"] == "sample" && record["state"] == "ok";
    ping.await_record(3, "replies", ok);
    if has_tcx() {
        detach("kstamp_egress", ping.pid());
    } else {
        run(&format!("tc -n {} qdisc delete dev port1 clsact", pair.near));
    }
    ping.await_record(1, "a probe without a program", |record: &Value| {
        record["type"] == "sample" && record["reason"] == "detached"
    });
    let before = ping.records().iter().filter(|record| ok(record)).count();
    ping.await_record(before + 3, "replies after it", ok);
    let (status, _, stderr) = ping.stop();
    assert!(status.success(), "{stderr}");
    assert!(
        stderr.contains("others had detached kstamp's programs; opened again"),
        "{stderr}"
    );
}
