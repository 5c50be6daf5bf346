//! The guest's file system: the suite's binaries, their programs, libraries and kernel modules.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::exec;
use crate::vm::archive::Archive;
use crate::vm::guest;
use crate::vm::kernel::Unpacked;
use crate::vm::suite::Suite;

/// Programs that the lab, the tests and kstamp call.
const PROGRAMS: [&str; 22] = [
    "ip",
    "tc",
    "bridge",
    "ping",
    "modprobe",
    "sysctl",
    "setpriv",
    "kill",
    "pgrep",
    "id",
    "cat",
    "cp",
    "sleep",
    "ls",
    "sh",
    "ovs-vswitchd",
    "ovs-vsctl",
    "ovs-ofctl",
    "ovs-appctl",
    "ovs-dpctl",
    "ovsdb-server",
    "ovsdb-tool",
];

/// Data that programs read: Open vSwitch's schema, and netem's distributions.
const DATA: [&str; 2] = [
    "/usr/share/openvswitch/vswitch.ovsschema",
    "/usr/lib/x86_64-linux-gnu/tc",
];

/// `/etc/passwd` and `/etc/group`, as Debian has them: `kstamp --user nobody` is tested.
const USERS: &[u8] = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUPS: &[u8] = b"root:x:0:\nnogroup:x:65534:\n";

/// Writes the archive with the modules of `unpacked` and with `suite` to `path`.
pub(super) fn write(path: &Path, unpacked: &Unpacked, suite: &Suite) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut image = Image {
        archive: Archive::new(BufWriter::new(file)),
    };
    image.skeleton()?;
    for program in PROGRAMS {
        let path = which::which(program).with_context(|| format!("no program {program} here"))?;
        image.program(&path, &path)?;
    }
    for data in DATA {
        image.data(Path::new(data))?;
    }
    let root = directory.join("modules");
    for module in unpacked.select_modules(&root)? {
        image
            .archive
            .file(&inside(&Path::new("/").join(&module)), &root.join(&module))?;
    }
    for binary in suite.binaries() {
        image.program(&binary.path, &binary.stripped)?;
    }
    image
        .archive
        .link(Path::new("/init"), &suite.first_process().display().to_string())?;
    image.archive.bytes(Path::new(guest::SUITE), &suite.description()?)?;
    for package in suite.packages() {
        let name = package.file_name().unwrap_or_default();
        image
            .archive
            .file(&Path::new(guest::PACKAGES_DIRECTORY).join(name), package)?;
    }
    image
        .archive
        .finish()
        .with_context(|| format!("cannot write {}", path.display()))
}

struct Image<W> {
    archive: Archive<W>,
}

impl<W: Write> Image<W> {
    fn skeleton(&mut self) -> Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            self.archive.directory(&Path::new("/usr").join(name))?;
            self.archive.link(&Path::new("/").join(name), &format!("usr/{name}"))?;
        }
        for directory in ["/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/log", "/etc"] {
            self.archive.directory(Path::new(directory))?;
        }
        self.archive.link(Path::new("/var/run"), "../run")?;
        self.archive.bytes(Path::new("/etc/passwd"), USERS)?;
        self.archive.bytes(Path::new("/etc/group"), GROUPS)?;
        Ok(())
    }

    /// Adds the file `source` as `path`, and the libraries that it is linked with.
    fn program(&mut self, path: &Path, source: &Path) -> Result<()> {
        self.archive
            .file(&inside(path), source)
            .with_context(|| format!("cannot copy {}", source.display()))?;
        // ldd fails for a script or a static program.
        let libraries = exec::run("ldd", [source]).unwrap_or_default();
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let library = Path::new(library);
            if !self.archive.contains(&inside(library)) {
                self.archive
                    .file(&inside(library), library)
                    .with_context(|| format!("cannot copy {}", library.display()))?;
            }
        }
        Ok(())
    }

    /// Adds a file, or all files in a directory.
    fn data(&mut self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            return self
                .archive
                .file(&inside(path), path)
                .with_context(|| format!("cannot copy {}", path.display()));
        }
        for entry in fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
            let file = entry?.path();
            if file.is_file() {
                self.data(&file)?;
            }
        }
        Ok(())
    }
}

/// The path inside the guest of a file of this machine. The guest has libraries and programs below `/usr` only.
fn inside(path: &Path) -> PathBuf {
    let moved = ["/bin", "/sbin", "/lib", "/lib64"];
    match moved.iter().any(|directory| path.starts_with(directory)) {
        true => Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path)),
        false => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_programs_go_below_usr() {
        for (here, in_guest) in [
            ("/lib64/ld.so", "/usr/lib64/ld.so"),
            ("/usr/sbin/ip", "/usr/sbin/ip"),
            ("/libexec/x", "/libexec/x"),
        ] {
            assert_eq!(inside(Path::new(here)), Path::new(in_guest));
        }
    }
}
