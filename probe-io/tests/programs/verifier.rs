//! The verifier's effort for each program: printed, so that growth is noticed.

use aya::programs::ProgramInfo;
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::{EGRESS, INGRESS, Object};

use crate::{hops, rig};

/// Instructions that the verifier processes before it gives up (`BPF_COMPLEXITY_LIMIT_INSNS`, `include/linux/bpf.h`).
const LIMIT: u32 = 1_000_000;

#[test]
fn the_verifier_is_far_from_its_limit() {
    if !rig::may_load() {
        return;
    }
    let mut object = Object::load(0, Rings::NONE).unwrap();
    let [out, into, raise, entry, exit] = hops::program_infos();
    let infos = [
        object.xdp().unwrap().info().unwrap(),
        object.classifier(INGRESS).unwrap().info().unwrap(),
        object.classifier(EGRESS).unwrap().info().unwrap(),
        out,
        into,
        raise,
        entry,
        exit,
    ];
    let release = nix::sys::utsname::uname().unwrap();
    for info in infos {
        let (instructions, processed) = (instructions(&info), info.verified_instruction_count().unwrap());
        println!(
            "verifier: Linux {}: {}: {instructions} instructions, {processed} processed",
            release.release().display(),
            info.name_as_str().unwrap()
        );
        assert!(processed >= instructions / 2, "only dead code is left out");
        assert!(processed < LIMIT / 10, "{processed} of {LIMIT}");
    }
}

/// As the kernel runs them, in units of eight bytes: a 64-bit constant counts twice.
fn instructions(info: &ProgramInfo) -> u32 {
    info.size_translated().unwrap() / 8
}
