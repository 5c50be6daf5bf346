//! On the running kernel, in a network namespace that ends with its thread.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::*;

/// Runs `ip` in the namespace of the calling thread.
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs `body` on a runtime of its own, in a network namespace of its own.
fn in_namespace(body: impl AsyncFnOnce(Netlink) + Send + 'static) {
    if !geteuid().is_root() {
        eprintln!("skipped: making a network namespace needs root");
        return;
    }
    let outcome = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { body(Netlink::open().unwrap()).await });
    });
    outcome.join().unwrap();
}

async fn link(netlink: &Netlink, name: &str) -> Link {
    netlink.link_by_name(name).await.unwrap().unwrap()
}

#[test]
fn a_veth_pair() {
    in_namespace(async |netlink| {
        ip("link add khost0 address 02:00:00:00:00:01 mtu 1400 type veth peer name khost1");
        let (near, far) = (link(&netlink, "khost0").await, link(&netlink, "khost1").await);
        assert_eq!(near.name, "khost0");
        assert_eq!(near.mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!(near.mtu, 1400);
        assert_eq!(near.kind.as_deref(), Some("veth"));
        assert_eq!(near.driver.as_deref(), Some("veth"));
        assert_eq!(near.xdp, None);
        assert_eq!((near.peer_index, far.peer_index), (Some(far.index), Some(near.index)));
        assert!(!near.up && !near.running);
        assert_eq!(netlink.link_by_index(near.index).await.unwrap(), Some(near));

        ip("link set khost0 up");
        let near = link(&netlink, "khost0").await;
        assert!(near.up && !near.running, "the other end is down: {near:?}");

        ip("link set khost1 up");
        // The kernel activates the queues in the background.
        while !link(&netlink, "khost0").await.running {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
}

#[test]
fn a_peer_in_another_namespace_is_no_peer() {
    in_namespace(async |netlink| {
        ip("link add khost0 type veth peer name khost1");
        // A child in a new namespace, which ends with its input.
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; cat"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready).unwrap();
        ip(&format!("link set khost1 netns {}", child.id()));
        let near = link(&netlink, "khost0").await;
        let far = netlink.peer_of(&near).await;
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(near.peer_index, None);
        let far = far.unwrap().unwrap();
        assert_eq!((far.name.as_str(), far.kind.as_deref()), ("khost1", Some("veth")));
    });
}

#[test]
fn other_kinds_have_no_peer() {
    in_namespace(async |netlink| {
        ip("link add khost0 type veth peer name khost1");
        ip("link add link khost0 name khostmv type macvlan");
        ip("link add khostbr type bridge");
        ip("tuntap add khosttap mode tap");
        let table = [("khostmv", "macvlan"), ("khostbr", "bridge"), ("khosttap", "tun")];
        for (name, kind) in table {
            let link = link(&netlink, name).await;
            assert_eq!((link.kind.as_deref(), link.peer_index), (Some(kind), None), "{name}");
            assert!(link.driver.is_some(), "{name}");
        }
        let loopback = link(&netlink, "lo").await;
        assert_eq!((loopback.kind, loopback.mac), (None, [0; 6]));
    });
}

#[test]
fn an_absent_interface_is_none_and_an_impossible_one_an_error() {
    in_namespace(async |netlink| {
        assert_eq!(netlink.link_by_name("khost0").await.unwrap(), None);
        assert_eq!(netlink.link_by_index(4_711).await.unwrap(), None);
        let error = netlink.link_by_name("").await.unwrap_err();
        assert_eq!(error.to_string(), "an interface name cannot be empty");
        assert_eq!(netlink.addresses(4_711).await.unwrap(), []);
    });
}

#[test]
fn a_deleted_interface_comes_back_with_another_index() {
    in_namespace(async |netlink| {
        ip("link add khost0 type veth peer name khost1");
        let before = link(&netlink, "khost0").await;
        ip("link del khost0");
        assert_eq!(netlink.link_by_name("khost0").await.unwrap(), None);
        ip("link add khost0 type veth peer name khost1");
        assert_ne!(link(&netlink, "khost0").await.index, before.index);
    });
}

#[test]
fn addresses_with_their_scopes_and_states() {
    in_namespace(async |netlink| {
        ip("link add khost0 type veth peer name khost1");
        ip("link set khost1 up");
        ip("link set khost0 addrgenmode none up");
        ip("addr add 10.9.0.1/24 dev khost0");
        ip("addr add 10.9.1.1 peer 10.9.1.2/32 dev khost0");
        ip("addr add 169.254.0.1/16 scope link dev khost0");
        ip("addr add 2001:db8::1/64 nodad dev khost0");
        ip("addr add 2001:db8::2/64 nodad preferred_lft 0 dev khost0");
        ip("addr add fe80::1/64 dev khost0");
        ip("addr add 10.9.2.1/24 dev khost1");

        let found = netlink.addresses(link(&netlink, "khost0").await.index).await.unwrap();
        let of = |ip: &str| {
            let ip: IpAddr = ip.parse().unwrap();
            *found
                .iter()
                .find(|address| address.ip == ip)
                .unwrap_or_else(|| panic!("{ip}: {found:?}"))
        };
        assert_eq!(found.len(), 6, "{found:?}");
        assert_eq!((of("10.9.0.1").prefix_len, of("10.9.0.1").scope), (24, Scope::Global));
        assert_eq!(of("10.9.1.1").prefix_len, 32);
        assert_eq!(of("169.254.0.1").scope, Scope::Link);
        assert_eq!(
            (of("2001:db8::1").tentative, of("2001:db8::1").deprecated),
            (false, false)
        );
        assert!(of("2001:db8::2").deprecated);
        assert_eq!((of("fe80::1").scope, of("fe80::1").tentative), (Scope::Link, true));
    });
}

#[test]
fn an_attached_xdp_program_is_seen_with_its_mode_and_id() {
    in_namespace(async |netlink| {
        ip("link add khost0 type veth peer name khost1");
        let index = link(&netlink, "khost0").await.index;
        let program = bpf::load_xdp_pass();
        for (flags, mode) in [
            (bpf::XDP_FLAGS_SKB_MODE, XdpMode::Generic),
            (bpf::XDP_FLAGS_DRV_MODE, XdpMode::Native),
        ] {
            let attached = bpf::attach_xdp(&program, index, flags);
            let xdp = link(&netlink, "khost0").await.xdp.unwrap();
            assert_eq!(xdp.mode, mode);
            assert!(xdp.program_id > 0);
            drop(attached);
            // A child that another test has forked holds the link until its exec.
            let dropped = Instant::now();
            while link(&netlink, "khost0").await.xdp.is_some() {
                assert!(dropped.elapsed() < Duration::from_secs(5), "it is still attached");
            }
        }
    });
}

#[test]
fn of_several_xdp_programs_the_first_to_see_a_packet_is_named() {
    let native = |program_id| {
        Some(XdpAttached {
            mode: XdpMode::Native,
            program_id,
        })
    };
    let table = [
        (vec![], None),
        (vec![LinkXdp::Attached(KernelXdp::None)], None),
        (
            vec![
                LinkXdp::Attached(KernelXdp::Driver),
                LinkXdp::ProgId(3),
                LinkXdp::DrvProgId(3),
            ],
            native(3),
        ),
        (
            vec![
                LinkXdp::Attached(KernelXdp::Multiple),
                LinkXdp::SkbProgId(4),
                LinkXdp::DrvProgId(5),
            ],
            native(5),
        ),
        (
            vec![
                LinkXdp::Attached(KernelXdp::Multiple),
                LinkXdp::DrvProgId(5),
                LinkXdp::HwProgId(6),
            ],
            Some(XdpAttached {
                mode: XdpMode::Offload,
                program_id: 6,
            }),
        ),
    ];
    for (attributes, expected) in table {
        assert_eq!(xdp_from(&attributes), expected, "{attributes:?}");
    }
}

#[test]
fn names_that_no_interface_can_have() {
    let table = [
        ("", "an interface name cannot be empty"),
        (
            "a23456789012345x",
            "'a23456789012345x' is too long for an interface name, which has at most 15 bytes",
        ),
        (
            "a/b",
            "'a/b' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed",
        ),
        (
            "a:b",
            "'a:b' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed",
        ),
        (
            "a b",
            "'a b' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed",
        ),
        (
            "..",
            "'..' cannot be an interface name: '/', ':', spaces, '.' and '..' are not allowed",
        ),
    ];
    for (name, expected) in table {
        assert_eq!(check_name(name).unwrap_err().to_string(), expected);
    }
    for name in ["lo", "eth0.7", "a23456789012345", "vnet-1_x"] {
        check_name(name).unwrap();
    }
}

mod bpf {
    //! The least of bpf(2) that attaches an XDP program, so that this layer's tests need no loader.

    use std::io;
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    pub(super) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    pub(super) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_LINK_CREATE: libc::c_long = 28;
    const BPF_PROG_TYPE_XDP: u32 = 6;
    const BPF_XDP: u32 = 37;

    /// `r0 = XDP_PASS; exit`.
    static PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

    #[repr(C)]
    struct ProgLoad {
        program_type: u32,
        instructions_count: u32,
        instructions: *const u64,
        license: *const libc::c_char,
        rest: [u64; 13],
    }

    #[repr(C)]
    struct LinkCreate {
        program: i32,
        interface: u32,
        attach_type: u32,
        flags: u32,
        rest: [u64; 14],
    }

    pub(super) fn load_xdp_pass() -> OwnedFd {
        bpf(
            BPF_PROG_LOAD,
            &ProgLoad {
                program_type: BPF_PROG_TYPE_XDP,
                instructions_count: 2,
                instructions: PASS.as_ptr(),
                license: c"GPL".as_ptr(),
                rest: [0; 13],
            },
        )
    }

    pub(super) fn attach_xdp(program: &OwnedFd, interface: u32, flags: u32) -> OwnedFd {
        let program = program.as_raw_fd();
        bpf(
            BPF_LINK_CREATE,
            &LinkCreate {
                program,
                interface,
                attach_type: BPF_XDP,
                flags,
                rest: [0; 14],
            },
        )
    }

    fn bpf<T>(command: libc::c_long, attributes: &T) -> OwnedFd {
        // SAFETY: `attributes` is the beginning of a `union bpf_attr` that the command reads, with zeroes behind.
        let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *const T, size_of::<T>()) };
        assert!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
        // SAFETY: the kernel has just returned it, so nothing else owns it.
        unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
    }
}

#[test]
fn notices_are_of_one_interface_and_their_overflow_is_one_change() {
    in_namespace(async |netlink| {
        let changes = Changes::open().unwrap();
        ip("link add khost0 type veth peer name khost1");
        let (near, far) = (
            link(&netlink, "khost0").await.index,
            link(&netlink, "khost1").await.index,
        );
        let noticed = async |index| {
            let changed = tokio::time::timeout(Duration::from_secs(1), changes.changed(Some(index)));
            changed.await.is_ok()
        };
        assert!(noticed(near).await && noticed(far).await);
        assert!(!changes.take_deleted(Some(near)));
        ip("link set khost1 mtu 1400");
        assert!(noticed(far).await);
        assert!(!changes.seen.borrow().concerns(Some(near)));

        changes.take_deleted(None);
        // More than the socket's buffer holds.
        let mtus: String = (0..2_000)
            .map(|number| format!("link set khost1 mtu {}\n", 1_300 + number % 2))
            .collect();
        let batch = std::env::temp_dir().join(format!("kstamp-notices-{}", std::process::id()));
        std::fs::write(&batch, mtus).unwrap();
        ip(&format!("-batch {}", batch.display()));
        std::fs::remove_file(&batch).unwrap();
        assert!(noticed(near).await, "a notice of it may be among those left out");
        assert!(changes.seen.borrow().overflowed);
        assert!(!changes.take_deleted(Some(near)));
        ip("link delete khost0");
        assert!(noticed(near).await && changes.take_deleted(Some(near)));
    });
}
