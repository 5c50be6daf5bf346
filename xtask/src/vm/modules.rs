//! The kernel modules that the suite uses, with those they depend on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Unpacked;
use crate::exec;

/// What the lab, the tests and kstamp ask for; a module that is built in is as good.
const WANTED: [&str; 13] = [
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
    "act_gact",
    "af_packet",
];

/// Files beside the modules that `modprobe` reads.
const LISTS: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Makes a directory below `root` with only what is wanted, as `lib/modules/RELEASE`; the files in it, relative to `root`.
pub(super) fn select(kernel: &Unpacked, root: &Path) -> Result<Vec<PathBuf>> {
    let under = Path::new("lib/modules").join(&kernel.release);
    let to = root.join(&under);
    // Of another kernel, perhaps.
    let _ = fs::remove_dir_all(root);
    let base = base(&kernel.modules)?;
    exec::run("depmod", ["-b", &base.display().to_string(), &kernel.release])?;
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    for module in closure(&read("modules.dep")?, &read("modules.builtin")?)? {
        copy(&kernel.modules.join(&module), &to.join(&module))?;
    }
    for list in LISTS {
        copy(&kernel.modules.join(list), &to.join(list))?;
    }
    exec::run("depmod", ["-b", &root.display().to_string(), &kernel.release])?;
    files(&to)?
        .into_iter()
        .map(|file| Ok(file.strip_prefix(root)?.to_owned()))
        .collect()
}

/// What depmod calls the base: the directory that holds `lib/modules`, or `usr` with it.
fn base(modules: &Path) -> Result<&Path> {
    modules
        .ancestors()
        .nth(3)
        .with_context(|| format!("{} is no lib/modules/RELEASE", modules.display()))
}

/// The files of the wanted modules and of all that they depend on.
fn closure(dependencies: &str, built_in: &str) -> Result<BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for line in dependencies.lines() {
        let (module, needs) = line.split_once(':').unwrap_or((line, ""));
        known.insert(name(module), (module, needs));
    }
    let built_in: BTreeSet<_> = built_in.lines().map(name).collect();
    let mut files = BTreeSet::new();
    for wanted in WANTED {
        match known.get(wanted) {
            // The list is complete: it names indirect dependencies too.
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

/// A module's name, from its file's.
fn name(path: &str) -> String {
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

/// All files below `directory`.
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
    fn what_is_wanted_comes_with_what_it_needs() {
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
