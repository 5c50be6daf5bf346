//! `cargo xtask package`: a Debian package, an RPM, a tarball and an OCI image of one tree of files.

mod changelog;
mod contents;
mod copyright;
mod deb;
mod image;
mod program;
mod rpm;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

#[cfg(test)]
pub(crate) use crate::package::changelog::parse_sections;
pub(crate) use crate::package::changelog::{Section, sections};
use crate::package::contents::stage;
pub(crate) use crate::package::program::{scratch, sha256, tarball};
pub(crate) use crate::package::tree::epoch;
use crate::{exec, setup, workspace};

/// The version of kstamp, and of xtask.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What to package, and how.
#[derive(Clone, Debug, Args)]
pub struct PackageArguments {
    /// Only these formats, separated by commas.
    #[arg(long, value_enum, value_name = "FORMATS", value_delimiter = ',')]
    format: Vec<Format>,
    /// Directory for the packages [default: target/package].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Package this kstamp instead of a release build.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For Debian and its derivatives.
    Deb,
    /// For Fedora, RHEL and others.
    Rpm,
    /// The same files for any other system.
    Tar,
    /// An image for containers: the program and its libraries.
    Oci,
}

impl Format {
    pub const ALL: [Self; 4] = [Self::Deb, Self::Rpm, Self::Tar, Self::Oci];
}

/// A kstamp to package.
#[derive(Clone, Debug)]
pub struct Package {
    pub binary: PathBuf,
    pub version: String,
    /// Where the packages go.
    pub output: PathBuf,
}

impl PackageArguments {
    /// Builds the packages and prints their paths, sizes and hashes.
    pub fn run(&self) -> Result<ExitCode> {
        let output = self
            .output
            .clone()
            .unwrap_or_else(|| workspace::target_directory().join("package"));
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => release_build()?,
        };
        let formats = if self.format.is_empty() {
            &Format::ALL[..]
        } else {
            &self.format
        };
        for package in Package::of_this_version(binary, output)?.build(formats)? {
            let size = fs::metadata(&package).map_or(0, |metadata| metadata.len());
            println!(
                "{}  {}  {:.1} MB",
                sha256(&package)?,
                package.display(),
                size as f64 / 1e6
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Package {
    /// Fails if the binary is one of another version.
    pub fn of_this_version(binary: PathBuf, output: PathBuf) -> Result<Self> {
        let binary = binary
            .canonicalize()
            .with_context(|| format!("there is no {}", binary.display()))?;
        let reported = exec::run(&binary.to_string_lossy(), ["--version"])?;
        let reported = reported.trim();
        ensure!(
            reported == format!("kstamp {VERSION}"),
            "{} is {reported}, and this source is kstamp {VERSION}",
            binary.display()
        );
        let version = VERSION.to_owned();
        Ok(Self {
            binary,
            version,
            output,
        })
    }

    /// Builds packages of these formats. Returns their paths.
    pub fn build(&self, formats: &[Format]) -> Result<Vec<PathBuf>> {
        setup::prepare_for_packages()?;
        fs::create_dir_all(&self.output).with_context(|| format!("cannot make {}", self.output.display()))?;
        let output = self.output.canonicalize().context("cannot find the output directory")?;
        let tree = stage(&self.binary, &self.version)?;
        let build = |format: &Format| match format {
            Format::Deb => deb::build(&tree, &output),
            Format::Rpm => rpm::build(&tree, &output),
            Format::Tar => {
                let name = format!("kstamp-{}-{}-linux", tree.version, env::consts::ARCH);
                tarball(tree.root(), tree.epoch, &name, &output)
            }
            Format::Oci => image::build(&tree, &output),
        };
        formats.iter().map(build).collect()
    }
}

/// Builds the release binary, without paths of this machine.
pub(crate) fn release_build() -> Result<PathBuf> {
    let home = env::var("HOME").unwrap_or_default();
    let cargo_home = env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    let flags = [
        format!("--remap-path-prefix={cargo_home}=/cargo"),
        format!("--remap-path-prefix={}=/kstamp", workspace::root().display()),
    ];
    let mut command = workspace::cargo();
    command
        .args(["build", "--release", "--quiet", "--package", "probe-user"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    ensure!(
        command.status().context("cannot start cargo")?.success(),
        "kstamp does not build"
    );
    Ok(workspace::kstamp_binary())
}
