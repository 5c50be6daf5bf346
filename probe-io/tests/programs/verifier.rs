//! The verifier's effort for each program: printed, and limited, so that growth is noticed.

use aya::programs::ProgramInfo;
use probe_core::rings::Rings;
use probe_io::backend::ebpf::object::{EGRESS, INGRESS, Object};
use probe_io::volley::object as volley;

use crate::{hops, rig};

/// Instructions that the verifier may process for each program on Linux 6.18 and newer: 15 % more than it did when this was
/// written. State the reason when you raise one.
const CEILINGS: [(&str, u32); 11] = [
    ("kstamp_xdp", 33_500),
    ("kstamp_ingress", 36_900),
    ("kstamp_egress", 4_920),
    ("kstamp_hops_out", 56_200),
    ("kstamp_hops_in", 56_300),
    ("kstamp_rx_raise", 25),
    ("kstamp_rx_entry", 66),
    ("kstamp_rx_exit", 25),
    ("kstamp_volley_xdp", 26_000),
    ("kstamp_volley_ingress", 24_700),
    ("kstamp_volley_egress", 4_290),
];

/// Older kernels may process so many times more, up to [`LIMIT`]. Linux 6.1 was seen to process 1.35 to 1.4 times as many
/// instructions of XDP and of the observers of hops, and 1.6 times as many of earlier programs. The ratio depends on the code,
/// and kernels in between were not measured, so the factor is generous. Growth is noticed on newer kernels.
const OLDER: u32 = 3;

/// For each program on any kernel: a tenth of what the verifier processes before it gives up (`BPF_COMPLEXITY_LIMIT_INSNS`,
/// `include/linux/bpf.h`).
const LIMIT: u32 = 100_000;

/// The kernel on which the ceilings were measured.
const MEASURED: (u32, u32) = (6, 18);

/// Characters of a name that the kernel keeps (`BPF_OBJ_NAME_LEN` with its terminator).
const NAME_LEN: usize = 15;

#[test]
fn the_verifier_processes_no_more_instructions_than_before() {
    if !rig::may_load() {
        return;
    }
    let mut object = Object::load(0, Rings::NONE).unwrap();
    let mut volleys = volley::VolleyObject::load(4_096).unwrap();
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
        volleys.xdp().unwrap().info().unwrap(),
        volleys.classifier(volley::INGRESS).unwrap().info().unwrap(),
        volleys.classifier(volley::EGRESS).unwrap().info().unwrap(),
    ];
    let names = nix::sys::utsname::uname().unwrap();
    let release = names.release().to_str().unwrap();
    let factor = if version(release) < MEASURED { OLDER } else { 1 };
    let mut wrong = Vec::new();
    for (info, (name, ceiling)) in infos.iter().zip(CEILINGS) {
        assert_eq!(info.name_as_str(), name.get(..NAME_LEN).or(Some(name)));
        let ceiling = LIMIT.min(ceiling * factor);
        let (instructions, processed) = (instructions(info), info.verified_instruction_count().unwrap());
        println!(
            "verifier: Linux {release}: {name}: {instructions} instructions, {processed} processed, {ceiling} allowed"
        );
        assert!(processed >= instructions / 2, "only dead code is left out");
        if processed > ceiling {
            wrong.push(format!("{name}: {processed} processed, {ceiling} allowed"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// As the kernel runs them, in units of eight bytes: a 64-bit constant counts twice.
fn instructions(info: &ProgramInfo) -> u32 {
    info.size_translated().unwrap() / 8
}

/// The first two numbers of a release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
