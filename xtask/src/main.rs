//! `cargo xtask`: reads the arguments, does what they say, turns the outcome into an exit status.

use std::{env, process::ExitCode};

use clap::Parser as _;

fn main() -> ExitCode {
    reach_system_programs();
    match xtask::cli::Arguments::parse().run() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Not everybody's `PATH` names the directories of system programs, `ovs-vswitchd` among them.
fn reach_system_programs() {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if let Ok(path) = env::join_paths(directories) {
        // SAFETY: no other thread runs yet.
        unsafe { env::set_var("PATH", path) };
    }
}
