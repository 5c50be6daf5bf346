//! Invented machines, each with a missing requirement.

use super::*;

const ALL: u64 = 0x1ff_ffff_ffff;

fn good() -> Facts {
    Facts {
        kernel_release: "6.1.0-32-amd64".to_owned(),
        btf: true,
        capabilities: ALL,
        memory: None,
        initial_user_namespace: true,
    }
}

fn without(numbers: &[u32]) -> u64 {
    numbers.iter().fold(ALL, |all, number| all & !(1 << number))
}

fn findings(facts: &Facts) -> Vec<String> {
    check(facts).iter().map(Finding::to_string).collect()
}

#[test]
fn a_good_machine_has_no_findings() {
    for kernel_release in ["6.1.0-32-amd64", "6.18.44-fc-v657", "6.1", "7.0.0-rc1+", "10.0"] {
        assert_eq!(
            findings(&Facts {
                kernel_release: kernel_release.to_owned(),
                ..good()
            }),
            [""; 0]
        );
    }
}

#[test]
fn each_missing_thing_is_one_clear_line() {
    let table = [
        (
            Facts {
                memory: Some(MemoryLimit {
                    bytes: 40 << 20,
                    set_by: "`ulimit -v`",
                }),
                ..good()
            },
            "this process may have 40 MiB of memory: loading the programs needs 104 MiB; raise `ulimit -v` to 104 MiB or more",
        ),
        (
            Facts {
                kernel_release: "5.10.0".to_owned(),
                ..good()
            },
            "kernel 5.10.0 is too old: kstamp needs 6.1 (bpf_xdp_load_bytes, XDP links, BTF); \
             boot a newer kernel (Debian 12 has 6.1)",
        ),
        (
            Facts {
                kernel_release: "6.0.19-generic".to_owned(),
                ..good()
            },
            "kernel 6.0.19-generic is too old: kstamp needs 6.1 (bpf_xdp_load_bytes, XDP links, BTF); \
             boot a newer kernel (Debian 12 has 6.1)",
        ),
        (
            Facts {
                kernel_release: "unknown".to_owned(),
                ..good()
            },
            "kernel release 'unknown' has no version in it: kstamp needs 6.1 (bpf_xdp_load_bytes, XDP links, \
             BTF); boot a newer kernel (Debian 12 has 6.1)",
        ),
        (
            Facts { btf: false, ..good() },
            "/sys/kernel/btf/vmlinux is missing: the kernel does not describe its types, so that eBPF programs \
             cannot be checked against it; boot a kernel built with CONFIG_DEBUG_INFO_BTF=y (distribution kernels \
             are), or mount /sys",
        ),
        (
            Facts {
                initial_user_namespace: false,
                ..good()
            },
            "this process is in a user namespace: the kernel loads no eBPF programs from there, not even \
             for root; run kstamp outside of it (not in a rootless container)",
        ),
        (
            Facts {
                capabilities: 0,
                ..good()
            },
            "not privileged, CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW are missing: needed for loading eBPF \
             programs, reading packets in eBPF, attaching to an interface, binding to an interface; run kstamp as \
             root (sudo kstamp …), or its container with --cap-add CAP_BPF --cap-add CAP_PERFMON --cap-add \
             CAP_NET_ADMIN --cap-add CAP_NET_RAW",
        ),
        (
            Facts {
                capabilities: without(&[13]),
                ..good()
            },
            "CAP_NET_RAW is missing: needed for binding to an interface; run kstamp as root (sudo kstamp …), or \
             its container with --cap-add CAP_NET_RAW",
        ),
        (
            Facts {
                capabilities: without(&[12, 21]),
                ..good()
            },
            "CAP_NET_ADMIN is missing: needed for attaching to an interface; run kstamp as root (sudo kstamp …), \
             or its container with --cap-add CAP_NET_ADMIN",
        ),
        (
            Facts {
                capabilities: without(&[21, 38, 39]),
                ..good()
            },
            "CAP_BPF, CAP_PERFMON are missing: needed for loading eBPF programs, reading packets in eBPF; run \
             kstamp as root (sudo kstamp …), or its container with --cap-add CAP_BPF --cap-add CAP_PERFMON",
        ),
    ];
    for (facts, expected) in table {
        assert_eq!(findings(&facts), [expected]);
    }
}

#[test]
fn cap_sys_admin_includes_the_capabilities_split_off_from_it() {
    assert_eq!(
        check(&Facts {
            capabilities: without(&[38, 39]),
            ..good()
        }),
        []
    );
    assert_eq!(
        check(&Facts {
            capabilities: without(&[21]),
            ..good()
        }),
        []
    );
    assert_eq!(
        check(&Facts {
            capabilities: 1 << CAP_SYS_ADMIN,
            ..good()
        })
        .len(),
        1
    );
}

#[test]
fn all_missing_requirements_are_found() {
    let facts = Facts {
        kernel_release: "5.4.0".to_owned(),
        btf: false,
        capabilities: 0,
        memory: Some(MemoryLimit {
            bytes: 0,
            set_by: "`ulimit -v`",
        }),
        initial_user_namespace: false,
    };
    assert_eq!(check(&facts).len(), 5);
}

#[test]
fn capabilities_are_read_from_proc() {
    let status = "Name:\tkstamp\nCapPrm:\t0000000000000001\nCapEff:\t000001fffeffffff\n";
    assert_eq!(effective_capabilities(status), Some(0x1ff_feff_ffff));
    assert_eq!(effective_capabilities("Name:\tkstamp\n"), None);
    assert_eq!(effective_capabilities("CapEff:\tnone\n"), None);
}

#[test]
fn only_the_identity_map_is_the_initial_namespace() {
    assert!(is_initial_map("         0          0 4294967295\n"));
    assert!(!is_initial_map("         0       1000          1\n"));
    assert!(!is_initial_map("         0     100000      65536\n"));
}

#[test]
fn the_facts_of_this_machine_can_be_collected() {
    let facts = Facts::collect().unwrap();
    assert!(version(&facts.kernel_release).is_some(), "{facts:?}");
}
