//! An image for containers, as an archive of an OCI layout (image-spec 1.1): the program and its libraries.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::exec;
use crate::package::program::{date, gzip, scratch, sha256, tar};
use crate::package::tree::Tree;

/// Of the package, only these are in the image.
const FILES: [&str; 2] = ["usr/bin/kstamp", "usr/share/doc/kstamp/copyright"];

/// Copyright of the libraries, which come from this machine.
const COPYRIGHT: [&str; 2] = ["usr/share/doc/libc6/copyright", "usr/share/doc/libgcc-s1/copyright"];

pub(super) fn build(tree: &Tree, output: &Path) -> Result<PathBuf> {
    let work = scratch()?;
    let (root, layout) = (work.path().join("root"), work.path().join("layout"));
    fill(&root, tree)?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;

    let layer = work.path().join("layer.tar");
    tar(&root, tree.epoch, "s,^\\./,,", &layer)?;
    let uncompressed = sha256(&layer)?;
    let layer = descriptor("layer.v1.tar+gzip", &gzip(&layer)?, &blobs)?;

    let created = date(&format!("@{}", tree.epoch), "+%Y-%m-%dT%H:%M:%SZ")?;
    let architecture = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let write = |name: &str, value: &Value| {
        let path = work.path().join(name);
        fs::write(&path, value.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let labels = json!({
        "org.opencontainers.image.title": "kstamp",
        "org.opencontainers.image.version": tree.version,
        "org.opencontainers.image.licenses": tree.licences.join(" AND "),
    });
    let config = json!({
        "created": created,
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/kstamp"],
            "Cmd": ["--help"],
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{uncompressed}")]},
    });
    let config = descriptor("config.v1+json", &write("config", &config)?, &blobs)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
        "annotations": labels,
    });
    let mut manifest = descriptor("manifest.v1+json", &write("manifest", &manifest)?, &blobs)?;
    // podman and buildah name the image after it.
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": format!("kstamp:{}", tree.version)});
    write(
        "layout/index.json",
        &json!({"schemaVersion": 2, "manifests": [manifest]}),
    )?;
    write("layout/oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;

    let archive = output.join(format!("kstamp-{}-{architecture}.oci.tar", tree.version));
    tar(&layout, tree.epoch, "s,^\\./,,", &archive)?;
    Ok(archive)
}

/// Copies what the image contains.
fn fill(root: &Path, tree: &Tree) -> Result<()> {
    let binary = tree.root().join(FILES[0]);
    let libraries = exec::run("ldd", [&binary])?;
    let libraries = linked(&libraries).chain(COPYRIGHT.map(str::to_owned));
    let libraries = libraries.map(|library| (Path::new("/"), library));
    let own = FILES.map(|file| (tree.root(), file.to_owned()));
    for (from, file) in own.into_iter().chain(libraries) {
        let to = root.join(&file);
        let copy = || {
            fs::create_dir_all(to.parent().unwrap_or(root))?;
            fs::copy(from.join(&file), &to)
        };
        copy().with_context(|| format!("cannot copy {}", from.join(&file).display()))?;
    }
    Ok(())
}

/// The libraries that `ldd` lists, from the root.
fn linked(ldd: &str) -> impl Iterator<Item = String> {
    let paths = ldd
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(|path| path.trim_start_matches('/').to_owned())
}

/// Moves a file to the blobs, and describes it.
fn descriptor(kind: &str, file: &Path, blobs: &Path) -> Result<Value> {
    let digest = sha256(file)?;
    let size = fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    fs::rename(file, blobs.join(&digest)).with_context(|| format!("cannot move {}", file.display()))?;
    let media_type = format!("application/vnd.oci.image.{kind}");
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x2)\n\t\
                   /lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let want = ["lib/x86_64-linux-gnu/libm.so.6", "lib64/ld-linux-x86-64.so.2"];
        assert_eq!(linked(ldd).collect::<Vec<_>>(), want);
    }
}
