//! The name of this host.

use nix::unistd::gethostname;

/// The default name of an agent, `hostname:interface`.
pub fn default_agent_name(interface: &str) -> String {
    format!("{}:{interface}", hostname())
}

/// The kernel's default (`include/linux/uts.h`).
const UNNAMED: &str = "(none)";

/// The kernel's host name; `localhost` if none is set.
pub fn hostname() -> String {
    match gethostname() {
        Ok(name) if !name.is_empty() && name != UNNAMED => name.to_string_lossy().into_owned(),
        _ => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_has_host_and_interface() {
        let name = default_agent_name("eth0");
        assert_eq!(name.strip_suffix(":eth0"), Some(hostname().as_str()));
        assert!(!name.starts_with(':'));
    }
}
