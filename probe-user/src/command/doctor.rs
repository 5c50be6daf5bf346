//! `kstamp doctor`: whether kstamp can run here, and what to do if it cannot.

use anyhow::{Result, bail};
use probe_host::preflight::{Facts, check};
use probe_io::backend::ebpf::Port;
use probe_io::backend::ebpf::object::Object;

use crate::command::config::DoctorConfig;

/// Prints what was looked at and what was found; an error if something is missing.
pub async fn run(config: DoctorConfig) -> Result<()> {
    let facts = Facts::collect()?;
    let findings = check(&facts);
    for finding in &findings {
        println!("missing: {finding}");
    }
    if !findings.is_empty() {
        bail!("{} of the things that kstamp needs are missing", findings.len());
    }
    println!("ok: kernel {}, BTF, privileges", facts.kernel_release);
    Object::load(0)?;
    println!("ok: the kernel accepts the programs");
    if let Some(interface) = config.interface {
        println!("ok: {}", Port::examine(&interface).await?);
    }
    Ok(())
}
