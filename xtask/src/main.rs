//! `cargo xtask`: exit code 2 for an error in the command line, 1 for a failure.

use std::env;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    add_system_directories();
    match xtask::cli::Arguments::parse().run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if error.is::<xtask::UsageError>() { 2 } else { 1 })
        }
    }
}

/// Adds the directories of system programs such as `ovs-vswitchd` to `PATH`: a user's `PATH` may lack them.
fn add_system_directories() {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if let Ok(path) = env::join_paths(directories) {
        // SAFETY: no other thread runs yet.
        unsafe { env::set_var("PATH", path) };
    }
}
