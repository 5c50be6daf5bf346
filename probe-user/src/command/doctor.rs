//! `kstamp doctor`: whether kstamp can run here, and what to do if it cannot.

use anyhow::{Result, bail};
use clap::Args;
use probe_common::stamp;
use probe_core::rings::Rings;
use probe_host::netfilter;
use probe_host::preflight::{Facts, check};
use probe_io::backend::ebpf::object::Object;
use probe_io::hops::{self, HopError};
use probe_io::port::Port;

use crate::command::shared::values::{self, AGENT_PORT, ConfigError};
use crate::output::file::print;
use crate::output::quantity::count;

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Also check this interface
    #[arg(long, value_name = "IFACE")]
    pub iface: Option<String>,

    /// Look for firewall rules for this UDP port and for 862, STAMP's own
    #[arg(long, value_name = "PORT", default_value_t = AGENT_PORT.to_string())]
    pub port: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorConfig {
    pub interface: Option<String>,
    pub port: u16,
}

pub fn validate(args: DoctorArgs) -> Result<DoctorConfig, ConfigError> {
    args.iface.as_deref().map(values::interface).transpose()?;
    Ok(DoctorConfig {
        interface: args.iface,
        port: values::port(&args.port)?,
    })
}

/// Prints what was checked and what is missing; an error if something is.
pub async fn run(config: DoctorConfig) -> Result<()> {
    let facts = Facts::collect()?;
    let findings = check(&facts);
    for finding in &findings {
        print(&format!("missing: {finding}\n"))?;
    }
    if !findings.is_empty() {
        bail!("{} missing", count(findings.len() as u64, "requirement"));
    }
    print(&format!("ok: kernel {}, BTF, privileges\n", facts.kernel_release))?;
    match hops::examine() {
        Ok(devices) => print(&format!("ok: {devices}\n"))?,
        Err(error @ HopError::Netns(_)) => print(&format!(
            "note: {error}; without --host-netns, --hops observes the network namespace of the port alone\n"
        ))?,
        Err(error) => return Err(error.into()),
    }
    Object::load(0, Rings::NONE)?;
    print("ok: the kernel accepts the programs\n")?;
    if let Some(interface) = config.interface {
        print(&format!("ok: {}\n", Port::examine(&interface).await?))?;
    }
    for rule in netfilter::rules_for(&[stamp::PORT, config.port]) {
        print(&format!(
            "warning: netfilter has the rule `{rule}`: at input it does not stop answers, as XDP and TC come first; at \
             output it stops probes\n"
        ))?;
    }
    Ok(())
}
