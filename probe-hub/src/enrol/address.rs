//! Where agents connect to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Longest name of a host (RFC 1035 §2.3.4).
const MAX_LEN: usize = 253;

/// A name or an IP address, with a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Reads `HOST`, `HOST:PORT`, an address, or an address with a port. `port` is that of a text without one.
    pub fn parse(text: &str, port: u16) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then(|| Self::new(address));
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::new(SocketAddr::new(address, port)));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (text, port),
        };
        let is_label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        (host.len() <= MAX_LEN && host.split('.').all(is_label)).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    pub fn new(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_canonical().to_string(),
            port: address.port(),
        }
    }

    /// As `tls://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("tls://{self}")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read_with_a_port_and_without() {
        for (text, expected) in [
            ("hub", Some("hub:4222")),
            ("hub.example.org:4333", Some("hub.example.org:4333")),
            ("10.0.0.1", Some("10.0.0.1:4222")),
            ("10.0.0.1:1", Some("10.0.0.1:1")),
            ("fd77::1", Some("[fd77::1]:4222")),
            ("[fd77::1]", Some("[fd77::1]:4222")),
            ("[fd77::1]:1", Some("[fd77::1]:1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1:4222")),
            ("", None),
            ("hub:", None),
            ("hub:0", None),
            ("hub:70000", None),
            ("10.0.0.1:0", None),
            ("a/b", None),
            ("a b", None),
            ("a..b", None),
            ("hub\n", None),
        ] {
            let read = Address::parse(text, 4222).map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
