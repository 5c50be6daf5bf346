//! A Debian package, made by `dpkg-deb`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::exec;
use crate::package::program::{filled, scratch};
use crate::package::tree::Tree;

pub(super) const MAINTAINER: &str = "kstamp developers <kstamp@packages.invalid>";

const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub(super) fn build(tree: &Tree, output: &Path) -> Result<PathBuf> {
    let architecture = exec::run("dpkg", ["--print-architecture"])?;
    let architecture = architecture.trim();
    let work = scratch()?;
    let root = work.path().join("root");
    exec::run("cp", ["-a".as_ref(), tree.root(), &root])?;

    let control = root.join("DEBIAN");
    fs::create_dir(&control)
        .and_then(|()| fs::set_permissions(&control, Permissions::from_mode(0o755)))
        .context("cannot make DEBIAN")?;
    let write = |name: &str, text: &str, mode: u32| {
        let path = control.join(name);
        fs::write(&path, text)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    let fields = [
        ("VERSION", tree.version.clone()),
        ("ARCHITECTURE", architecture.to_owned()),
        ("MAINTAINER", MAINTAINER.to_owned()),
        ("SIZE", tree.kibibytes()?.to_string()),
        ("LIBRARIES", libraries(&root, work.path())?),
    ];
    write("control", &filled("control", &fields)?, 0o644)?;
    let configuration: String = tree.configuration()?.iter().map(|path| format!("/{path}\n")).collect();
    write("conffiles", &configuration, 0o644)?;
    let sums = exec::capture(Command::new("md5sum").args(tree.find()?).current_dir(tree.root()))?;
    write("md5sums", &sums, 0o644)?;
    for script in SCRIPTS {
        write(script, &filled(script, &[])?, 0o755)?;
    }

    let package = output.join(format!("kstamp_{}_{architecture}.deb", tree.version));
    let mut command = Command::new("dpkg-deb");
    // Level 1 takes a ninth of the time of level 9, and a fifth more space. More threads would change the result.
    command
        .args(["--root-owner-group", "-Zxz", "-z1", "--threads-max=1", "--build"])
        .args([&root, &package])
        .env("SOURCE_DATE_EPOCH", tree.epoch.to_string());
    exec::capture(&mut command)?;
    Ok(package)
}

/// The packages that have the libraries which the binary is linked to.
fn libraries(root: &Path, work: &Path) -> Result<String> {
    // It demands a source package.
    let source = work.join("debian");
    fs::create_dir(&source)
        .and_then(|()| {
            fs::write(
                source.join("control"),
                "Source: kstamp\n\nPackage: kstamp\nArchitecture: any\n",
            )
        })
        .with_context(|| format!("cannot write {}", source.display()))?;
    let binary = root.join("usr/bin/kstamp");
    let mut command = Command::new("dpkg-shlibdeps");
    command.arg("-O").arg(binary).current_dir(work);
    let found = exec::capture(&mut command)?;
    let found = found.trim().strip_prefix("shlibs:Depends=");
    Ok(found.context("dpkg-shlibdeps names no packages")?.to_owned())
}
