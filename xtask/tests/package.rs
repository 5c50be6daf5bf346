//! Packages: each build gives the same ones, checkers accept them, and clean Debian trees, an empty root and a container take
//! them and give them back.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::stat::{Mode, umask};
use support::{can_have, can_run, kstamp, run, start};
use tempfile::TempDir;
use xtask::exec::KillOnDrop;
use xtask::package::{Format, Package, VERSION};
use xtask::setup::{Foreign, ensure_debian};
use xtask::workspace;

/// Exposure as `systemd-analyze security` rates it, times ten: it calls 20 to 49 OK.
const MAX_EXPOSURE: u32 = 30;

/// From the package to the first table.
const FIRST_TABLE: Duration = Duration::from_secs(60);

/// A directory below the target directory, which has room.
fn directory() -> TempDir {
    tempfile::tempdir_in(workspace::target_directory()).unwrap()
}

fn build(version: &str, output: &Path, formats: &[Format]) -> Vec<PathBuf> {
    let package = Package {
        binary: kstamp(),
        version: version.to_owned(),
        output: output.to_owned(),
    };
    package.build(formats).unwrap()
}

/// The packages of this version, built once.
fn package(format: Format) -> &'static Path {
    static PACKAGES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        build(
            VERSION,
            &workspace::target_directory().join("package-tests"),
            &Format::ALL,
        )
    });
    &packages[Format::ALL.iter().position(|each| *each == format).unwrap()]
}

#[test]
fn each_build_gives_the_same_packages() {
    if !can_run() {
        return;
    }
    let first = Format::ALL.map(package);
    let output = directory();
    // Modes and order of files depend on neither.
    let usual = umask(Mode::from_bits_truncate(0o077));
    let second = build(VERSION, output.path(), &Format::ALL);
    umask(usual);
    for (first, second) in first.iter().zip(second) {
        assert!(
            fs::read(first).unwrap() == fs::read(&second).unwrap(),
            "{} differs",
            second.display()
        );
    }
}

#[test]
fn a_binary_of_another_version_is_refused() {
    let output = directory();
    let binary = output.path().join("kstamp");
    fs::write(&binary, "#!/bin/sh\necho kstamp 0.0.1\n").unwrap();
    run(Command::new("chmod").arg("+x").arg(&binary));
    let error = Package::of_this_version(binary.clone(), output.path().to_owned()).unwrap_err();
    let want = format!(
        "{} is kstamp 0.0.1, and this source is kstamp {VERSION}",
        binary.display()
    );
    assert_eq!(error.to_string(), want);
}

#[test]
fn checkers_accept_the_packages() {
    if !can_run() {
        return;
    }
    if can_have(Foreign::Lintian) {
        let mut lintian = Command::new("lintian");
        lintian.args(["--fail-on", "error,warning", "--allow-root"]);
        let found = run(lintian.arg(package(Format::Deb)));
        assert_eq!(found, "");
    }
    let rpm = package(Format::Rpm);
    assert!(run(Command::new("rpm").arg("-K").arg(rpm)).ends_with("digests OK\n"));
    if can_have(Foreign::Rpmlint) {
        let configuration = workspace::root().join("deploy/package/rpmlint.toml");
        run(Command::new("rpmlint")
            .arg("--strict")
            .arg("-c")
            .arg(configuration)
            .arg(rpm));
    }
}

#[test]
fn the_sandbox_of_each_service_is_rated_ok() {
    if which::which("systemd-analyze").is_err() {
        println!("SKIPPED: no systemd-analyze");
        return;
    }
    let units = workspace::root().join("deploy/systemd");
    for unit in [
        "kstamp-agent@.service",
        "kstamp-reflect@.service",
        "kstamp-controller.service",
        "kstamp-hub.service",
    ] {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", &format!("--threshold={MAX_EXPOSURE}")]);
        run(analyze.arg(units.join(unit)));
    }
}

#[test]
fn an_rpm_is_installed_into_an_empty_root_and_removed() {
    if !can_run() {
        return;
    }
    let root = directory();
    let rpm = |arguments: &[&str]| {
        let mut command = Command::new("rpm");
        run(command.arg("--root").arg(root.path()).args(arguments))
    };
    rpm(&["--initdb"]);
    let package = package(Format::Rpm).to_str().unwrap();
    rpm(&["--install", "--nodeps", "--noscripts", package]);
    assert_eq!(rpm(&["--verify", "--nodeps", "kstamp"]), "");
    let version = run(Command::new(root.path().join("usr/bin/kstamp")).arg("--version"));
    assert_eq!(version, format!("kstamp {VERSION}\n"));
    rpm(&["--erase", "--noscripts", "kstamp"]);
    let left = run(Command::new("find").arg(root.path()).args(["-name", "*kstamp*"]));
    assert_eq!(left, "");
}

#[test]
fn the_tarball_has_the_files_of_the_package() {
    if !can_run() {
        return;
    }
    let root = directory();
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(package(Format::Tar));
    run(tar.args(["--strip-components=1", "--directory"]).arg(root.path()));
    let version = run(Command::new(root.path().join("usr/bin/kstamp")).arg("--version"));
    assert_eq!(version, format!("kstamp {VERSION}\n"));
    for file in ["usr/share/man/man1/kstamp-agent.1.gz", "usr/share/doc/kstamp/copyright"] {
        assert!(root.path().join(file).is_file(), "{file}");
    }
}

#[test]
fn the_image_has_what_kstamp_needs_and_no_more() {
    if !can_run() || !can_have(Foreign::Buildah) {
        return;
    }
    let store = directory();
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        for place in ["root", "runroot"] {
            command.arg(format!("--{place}")).arg(store.path().join(place));
        }
        run(command.args(["--storage-driver", "vfs"]).args(arguments))
    };
    let image = format!("oci-archive:{}", package(Format::Oci).display());
    // What `kstamp doctor` asks for. Buildah's own filter of system calls does not know CAP_BPF.
    let capabilities = "--cap-add=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN,CAP_NET_RAW";
    buildah(&[
        "from",
        "--name=k",
        capabilities,
        "--security-opt=seccomp=unconfined",
        &image,
    ]);
    let names = buildah(&["images", "--format={{.Name}}:{{.Tag}}"]);
    assert_eq!(names, format!("localhost/kstamp:{VERSION}\n"));
    let root = buildah(&["mount", "k"]);
    let files = run(Command::new("find").args([root.trim(), "-type", "f", "-printf", "%P\n"]));
    for file in files.lines() {
        let is_library = file.starts_with("lib") && file.contains(".so");
        let is_needed = file == "usr/bin/kstamp" || is_library || file.ends_with("/copyright");
        assert!(is_needed, "{file}");
    }
    buildah(&["umount", "k"]);
    let inside = |arguments: &[&str]| {
        buildah(&[&["run", "--isolation=chroot", "k", "--", "/usr/bin/kstamp"], arguments].concat())
    };
    assert_eq!(inside(&["--version"]), format!("kstamp {VERSION}\n"));
    let healthy = inside(&["doctor"]);
    assert!(healthy.ends_with("ok: the kernel accepts the programs\n"), "{healthy}");
    buildah(&["rm", "k"]);
}

#[test]
fn debian_12_takes_the_package_and_gives_it_back() {
    life_of_the_package("bookworm");
}

#[test]
fn debian_13_takes_the_package_and_gives_it_back() {
    life_of_the_package("trixie");
}

fn life_of_the_package(release: &str) {
    if !can_run() {
        return;
    }
    let Some(debian) = Debian::start(release) else { return };
    let before = debian.state();

    let older = directory();
    let older = build("0.0.9", older.path(), &[Format::Deb]);
    debian.install(&older[0]);
    let configuration = debian.path("etc/kstamp/agent.toml");
    let changed = fs::read_to_string(&configuration).unwrap() + "# This line is the user's.\n";
    fs::write(&configuration, &changed).unwrap();

    let newer = package(Format::Deb);
    let begun = Instant::now();
    debian.install(newer);
    let table = debian.first_table();
    let elapsed = begun.elapsed();
    println!("{release}: from the package to the first table {elapsed:.1?}\n{table}");
    assert!(elapsed < FIRST_TABLE, "{elapsed:?}");

    let version = debian.sh("dpkg-query --show --showformat '${Version}' kstamp");
    assert_eq!(version, VERSION);
    assert_eq!(
        fs::read_to_string(&configuration).unwrap(),
        changed,
        "the user's configuration is kept"
    );
    let healthy = debian.sh("kstamp doctor");
    assert!(healthy.ends_with("ok: the kernel accepts the programs\n"), "{healthy}");
    assert_eq!(debian.sh(COMPLETE), "reflect report\n");
    let page = debian.sh("man --pager=cat kstamp-agent");
    assert!(page.contains("kstamp-agent"), "{page}");

    // As `systemctl enable` and a service that writes a log would.
    let wants = "/etc/systemd/system/sys-subsystem-net-devices-port1.device.wants";
    debian.sh(&format!(
        "mkdir -p {wants} /var/log/kstamp && touch /var/log/kstamp/agent.jsonl && ln -s \
         /usr/lib/systemd/system/kstamp-agent@.service {wants}/kstamp-agent@port1.service"
    ));
    debian.sh("apt-get --quiet purge --yes kstamp");
    let after = debian.state();
    let changes: Vec<_> = before.symmetric_difference(&after).collect();
    assert!(changes.is_empty(), "{changes:#?}");
}

/// What bash offers after `kstamp re`.
const COMPLETE: &str = "bash -c '. /usr/share/bash-completion/bash_completion; _completion_loader kstamp; complete -p kstamp \
                        >/dev/null; COMP_WORDS=(kstamp re) COMP_CWORD=1; _kstamp kstamp re kstamp; echo ${COMPREPLY[@]}'";

/// A clean Debian in namespaces of its own. Its changes are in memory and go with it, like its processes.
struct Debian {
    pid: u32,
    _holder: KillOnDrop,
    _mount_point: TempDir,
}

impl Debian {
    /// Prints why there is none.
    fn start(release: &str) -> Option<Self> {
        let tree = match ensure_debian(release) {
            Ok(tree) => tree,
            Err(error) => {
                println!("SKIPPED: no clean {release}: {error:#}");
                return None;
            }
        };
        let mount_point = directory();
        let script = format!(
            "set -e; cd {}; mount -t tmpfs none .; cd \"$PWD\"; mkdir upper work root; mount -t overlay -o \
             lowerdir={},upperdir=upper,workdir=work none root; mount -t proc none root/proc; mount -t sysfs none root/sys; \
             mount --rbind /dev root/dev; mount -t tmpfs none root/run; mount -t tmpfs none root/tmp; exec chroot root sh -c \
             'echo ready; exec sleep infinity'",
            mount_point.path().display(),
            tree.display()
        );
        let mut command = Command::new("unshare");
        command
            .args("--mount --net --pid --fork --kill-child sh -c".split(' '))
            .arg(script);
        let mut holder = start(command.stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "no tree was mounted");
        let id = holder.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        Some(Self {
            pid: children.trim().parse().unwrap(),
            _holder: holder,
            _mount_point: mount_point,
        })
    }

    /// A path in it, from outside.
    fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{path}", self.pid))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        command
            .args("--mount --net --pid --root --wd sh -c".split(' '))
            .arg(script);
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("LC_ALL", "C.UTF-8"),
        ]);
        command
    }

    /// Runs a script, which must succeed.
    fn sh(&self, script: &str) -> String {
        run(&mut self.command(script))
    }

    fn install(&self, package: &Path) {
        fs::copy(package, self.path("tmp/kstamp.deb")).unwrap();
        self.sh("apt-get --quiet install --yes /tmp/kstamp.deb");
    }

    /// Everything that a package can leave: files with owners and modes, the contents of `/etc` (users, among others), queueing
    /// disciplines, and programs of interfaces.
    fn state(&self) -> BTreeSet<String> {
        let state = self.sh(
            "find / -xdev \\( -path /var/cache -o -path /var/lib/apt -o -path /var/lib/dpkg -o -path /var/log/apt \\) -prune -o \
             -printf '%y %m %u:%g %p\\n'; find /var/lib/dpkg -name '*kstamp*'; find /etc -type f -exec md5sum {} +; tc qdisc \
             show; ip -brief link show; dpkg-query --list",
        );
        let logs = ["/var/log/alternatives.log", "/var/log/dpkg.log"];
        state
            .lines()
            .filter(|line| !logs.iter().any(|log| line.ends_with(log)))
            .map(str::to_owned)
            .collect()
    }

    /// The first table of an agent that probes a reflector over a veth, both of the package. Leaves no interface.
    fn first_table(&self) -> String {
        self.sh(
            "ip netns add far; ip link add port1 type veth peer name port2 netns far; ip link set port1 up; ip -n far link set \
             port2 up; ip address add 192.0.2.1/24 dev port1; ip -n far address add 192.0.2.2/24 dev port2",
        );
        let reflector = start(
            self.command("exec ip netns exec far kstamp reflect --iface port2")
                .stdout(Stdio::null()),
        );
        let table =
            self.sh("kstamp agent --iface port1 --no-group --peer 192.0.2.2 --interval 100ms --report 1s --count 20");
        assert!(table.lines().any(|line| line.contains("192.0.2.2")), "{table}");
        let attached = self.sh("tc filter show dev port1 ingress; tc filter show dev port1 egress; ip link show port1");
        assert!(
            !attached.contains("kstamp") && !attached.contains("prog/xdp"),
            "{attached}"
        );
        drop(reflector);
        self.sh("ip link delete port1; pkill -x kstamp; ip netns delete far");
        table
    }
}
