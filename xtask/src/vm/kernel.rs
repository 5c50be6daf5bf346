//! Debian's kernel packages, unpacked and not installed, and the modules that the suite uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::exec;
use crate::setup::{self, Closure, Source};

/// Modules that the lab, the tests and kstamp use, and those for a disk. They may also be built into the kernel.
const WANTED: [&str; 18] = [
    "openvswitch",
    "vport_vxlan",
    "vxlan",
    "veth",
    "tun",
    "bridge",
    "8021q",
    "sch_netem",
    "sch_ingress",
    "cls_bpf",
    "cls_matchall",
    "cls_u32",
    "act_gact",
    "act_mirred",
    "virtio_pci",
    "virtio_blk",
    "ext4",
    "af_packet",
];

/// Files beside the modules that `modprobe` reads.
const LISTS: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// A kernel that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's: the oldest that kstamp runs on, without TCX.
    V6_1,
    /// Debian 13's, with TCX.
    V6_12,
}

impl Kernel {
    /// `6.1`, `6.12`.
    pub fn series(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// The name and the number of Debian's release with it.
    pub(super) fn debian(self) -> (&'static str, u8) {
        match self {
            Self::V6_1 => ("bookworm", 12),
            Self::V6_12 => ("trixie", 13),
        }
    }
}

/// A kernel package, unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The file to boot.
    pub(super) image: PathBuf,
    /// `6.1.0-32-cloud-amd64`.
    release: String,
    /// Its `lib/modules/RELEASE`.
    modules: PathBuf,
}

/// Gets `kernel`, from `directory` if it is there already.
pub(super) fn fetch(kernel: Kernel, directory: &Path) -> Result<Unpacked> {
    if let Some(unpacked) = find(directory) {
        return Ok(unpacked);
    }
    setup::unpack(Source::Machine, || package_name(kernel), Closure::Package, directory)?;
    find(directory).with_context(|| format!("{}: no kernel in it", directory.display()))
}

/// The package with the newest kernel of the series. Debian's releases have different metapackages for it.
fn package_name(kernel: Kernel) -> Result<String> {
    let series = kernel.series();
    let metapackages = [
        format!("linux-image-{series}-cloud-amd64"),
        "linux-image-cloud-amd64".to_owned(),
    ];
    for package in &metapackages {
        let depends = exec::run("apt-cache", ["depends", "--important", package]).unwrap_or_default();
        if let Some(name) = dependency(&depends, series) {
            return Ok(name.to_owned());
        }
    }
    bail!(
        "apt knows no Linux {series} (asked for {}): Debian 12 has both, with its updates and security archives",
        metapackages.join(", ")
    );
}

/// The kernel package of `series` in the output of `apt-cache depends`.
fn dependency<'a>(depends: &'a str, series: &str) -> Option<&'a str> {
    let prefix = format!("linux-image-{series}.");
    let mut packages = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    packages.find(|package| package.starts_with(&prefix))
}

/// The kernel in `directory`. Modules are below `lib` or, since Debian 13, `usr/lib`.
fn find(directory: &Path) -> Option<Unpacked> {
    let boot = fs::read_dir(directory.join("boot")).ok()?;
    let mut names = boot.flatten().map(|entry| entry.file_name());
    let release = names.find_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned()))?;
    let libraries = ["lib/modules", "usr/lib/modules"].map(|library| directory.join(library).join(&release));
    Some(Unpacked {
        image: directory.join("boot").join(format!("vmlinuz-{release}")),
        modules: libraries.into_iter().find(|path| path.is_dir())?,
        release,
    })
}

impl Unpacked {
    /// Makes a `lib/modules/RELEASE` below `root` with the wanted modules only. Returns its files, relative to `root`.
    pub(super) fn select_modules(&self, root: &Path) -> Result<Vec<PathBuf>> {
        let to = root.join("lib/modules").join(&self.release);
        // It may hold another kernel's modules.
        let _ = fs::remove_dir_all(root);
        // depmod wants the directory that holds `lib/modules`.
        let base = self.modules.ancestors().nth(3);
        let base = base.with_context(|| format!("{} is no lib/modules/RELEASE", self.modules.display()))?;
        let depmod = |base: &Path| exec::run("depmod", ["-b".as_ref(), base, self.release.as_ref()]);
        depmod(base)?;
        let read = |name: &str| {
            let path = self.modules.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        for module in closure(&read("modules.dep")?, &read("modules.builtin")?)? {
            copy(&self.modules.join(&module), &to.join(&module))?;
        }
        for list in LISTS {
            copy(&self.modules.join(list), &to.join(list))?;
        }
        depmod(root)?;
        files(&to)?
            .into_iter()
            .map(|file| Ok(file.strip_prefix(root)?.to_owned()))
            .collect()
    }
}

/// The files of the wanted modules and of their dependencies.
fn closure(dependencies: &str, built_in: &str) -> Result<BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for line in dependencies.lines() {
        let (module, needs) = line.split_once(':').unwrap_or((line, ""));
        known.insert(module_name(module), (module, needs));
    }
    let built_in: BTreeSet<_> = built_in.lines().map(module_name).collect();
    let mut files = BTreeSet::new();
    for wanted in WANTED {
        match known.get(wanted) {
            // modules.dep names indirect dependencies too.
            Some((module, needs)) => {
                files.insert((*module).to_owned());
                files.extend(needs.split_whitespace().map(str::to_owned));
            }
            None if built_in.contains(wanted) => {}
            None => bail!("this kernel has no module {wanted}"),
        }
    }
    Ok(files)
}

fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_a_dependency_of_the_metapackage() {
        let current = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-32-cloud-amd64\n";
        let newer = "x\n  Depends: linux-image-6.12.9+deb12-cloud-amd64\n";
        for (depends, series, package) in [
            (current, "6.1", Some("linux-image-6.1.0-32-cloud-amd64")),
            (current, "6.12", None),
            // 6.12 is not of the series 6.1.
            (newer, "6.1", None),
            ("", "6.1", None),
        ] {
            assert_eq!(dependency(depends, series), package);
        }
    }

    #[test]
    fn modules_come_with_their_dependencies() {
        let mut dependencies = "kernel/net/openvswitch/openvswitch.ko.xz: kernel/lib/libcrc32c.ko.xz\n\
                                kernel/net/openvswitch/vport-vxlan.ko.xz: kernel/net/openvswitch/openvswitch.ko.xz\n\
                                kernel/drivers/sound.ko.xz:\n"
            .to_owned();
        for module in &WANTED[2..WANTED.len() - 1] {
            dependencies += &format!("kernel/{module}.ko.xz:\n");
        }
        let files = closure(&dependencies, "kernel/net/packet/af_packet.ko\n").unwrap();
        assert!(files.contains("kernel/lib/libcrc32c.ko.xz"));
        assert!(files.contains("kernel/net/openvswitch/vport-vxlan.ko.xz"));
        assert!(!files.contains("kernel/drivers/sound.ko.xz"));
        let refusal = closure(&dependencies, "").unwrap_err().to_string();
        assert!(refusal.contains("af_packet"), "{refusal}");
    }
}
