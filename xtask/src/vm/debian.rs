//! The first process hands a guest over to the systemd of a Debian on a disk ([`disk`](super::disk)), where a unit runs
//! the suite.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::exec;

/// Where the file system of the disk is mounted before it becomes the root.
const DISK: &str = "/root";

/// Where the initial file system, with the suite, stays visible in Debian.
pub(super) const INITIAL: &str = "/initial";

/// systemd starts units of `multi-user.target` by links in this directory.
const UNITS: &str = "run/systemd/system";

const UNIT: &str = "suite.service";

/// How long the disk may take to appear.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// Continues as the systemd of the Debian on the disk, with a unit that runs this program with `arguments`.
pub(super) fn boot(arguments: &str) -> Result<Infallible> {
    exec::run("modprobe", ["-a", "virtio_pci", "virtio_blk", "ext4"])?;
    let device = Path::new("/dev/vda");
    ensure!(exec::wait_until(DISK_TIMEOUT, || device.exists()), "no disk");
    mount(Some(device), DISK, Some("ext4"), MsFlags::empty(), None::<&str>).context("cannot mount the disk")?;
    let disk = Path::new(DISK);
    for (from, to) in [("/", INITIAL), ("/lib/modules", "/lib/modules")] {
        let to = disk.join(to.trim_start_matches('/'));
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        place(from, &to, MsFlags::MS_BIND)?;
    }
    mount(
        Some("run"),
        &disk.join("run"),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .context("cannot mount /run")?;
    let program = env::current_exe().context("cannot find the path of this program")?;
    write_unit(
        &disk.join(UNITS),
        &format!("{INITIAL}{} {arguments}", program.display()),
    )?;
    for directory in ["/dev", "/proc", "/sys"] {
        place(directory, &disk.join(&directory[1..]), MsFlags::MS_MOVE)?;
    }
    chdir(disk).context("cannot enter the disk")?;
    place(".", Path::new("/"), MsFlags::MS_MOVE)?;
    chroot(".").context("cannot change the root")?;
    Err(Command::new("/sbin/init").exec()).context("cannot start systemd")
}

/// Moves a mount, or binds a directory.
fn place(from: &str, to: &Path, how: MsFlags) -> Result<()> {
    mount(Some(from), to, None::<&str>, how, None::<&str>)
        .with_context(|| format!("cannot mount {from} at {}", to.display()))
}

fn write_unit(units: &Path, command: &str) -> Result<()> {
    let text = format!("[Unit]\nDescription=kstamp's tests\n[Service]\nExecStart={command}\n");
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("cannot make {}", wants.display()))?;
    fs::write(units.join(UNIT), text).with_context(|| format!("cannot write {UNIT}"))?;
    symlink(Path::new("..").join(UNIT), wants.join(UNIT)).with_context(|| format!("cannot enable {UNIT}"))
}
