//! Names of hosts and of their measured ports, and how subjects spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a host (RFC 1035 §2.3.4: of a label).
pub const MAX_HOST_LEN: usize = 63;
/// Longest name of an interface (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE_LEN: usize = 15;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the host name {0:?} is not 1 to {MAX_HOST_LEN} letters, digits, `-` or `_`")]
    Host(String),
    #[error("{0:?} is not HOST/INTERFACE")]
    Port(String),
}

/// The name under which a host is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// The first label of a machine's name, with `-` for what names of the fleet cannot have; `hub` if nothing is left.
    pub fn of_machine(name: &str) -> Self {
        let label = name.split('.').next().unwrap_or_default();
        let usable = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
        let name: String = label
            .chars()
            .map(|char| if usable(char) { char } else { '-' })
            .take(MAX_HOST_LEN)
            .collect();
        if name.is_empty() {
            Self("hub".to_owned())
        } else {
            Self(name)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        let is_valid = (1..=MAX_HOST_LEN).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if is_valid {
            Ok(Self(name))
        } else {
            Err(NameError::Host(name))
        }
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        name.to_owned().try_into()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A measured port: an interface of a host. Written `HOST/INTERFACE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName {
    pub host: HostName,
    pub interface: String,
}

impl PortName {
    /// The two last tokens of its subjects, `HOST.INTERFACE`.
    pub fn tokens(&self) -> String {
        let mut tokens = format!("{}.", self.host);
        for byte in self.interface.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
                tokens.push(byte.into());
            } else {
                tokens.push_str(&format!("={byte:02X}"));
            }
        }
        tokens
    }

    /// Reads the two last tokens of a subject or key; `None` if no port is spelled so.
    pub fn from_tokens(subject: &str) -> Option<Self> {
        let (rest, interface) = subject.rsplit_once('.')?;
        let host = rest.rsplit_once('.').map_or(rest, |(_, host)| host).parse().ok()?;
        let mut bytes = Vec::new();
        let mut pieces = interface.split('=');
        bytes.extend(pieces.next()?.bytes());
        for piece in pieces {
            bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
            bytes.extend(piece[2..].bytes());
        }
        let interface = String::from_utf8(bytes).ok()?;
        let name = Self { host, interface };
        let spelled = name.tokens();
        (is_interface(&name.interface) && subject.ends_with(&spelled)).then_some(name)
    }
}

fn is_interface(name: &str) -> bool {
    (1..=MAX_INTERFACE_LEN).contains(&name.len())
        && !name.contains(['/', ':'])
        && !name.chars().any(|char| char.is_whitespace() || char.is_control())
}

impl TryFrom<String> for PortName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match name.split_once('/') {
            Some((host, interface)) if is_interface(interface) => Ok(Self {
                host: host.parse()?,
                interface: interface.to_owned(),
            }),
            _ => Err(NameError::Port(name.to_owned())),
        }
    }
}

impl From<PortName> for String {
    fn from(name: PortName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_subjects_cannot_have_are_refused() {
        for host in ["", "a.b", "a b", "a*", "a>", "ä", &"x".repeat(64)] {
            assert!(host.parse::<HostName>().is_err(), "{host}");
        }
        for port in ["h", "h/", "/p", "h/a/b", "h/a:b", "h/a b", "h/sixteen-letters1"] {
            assert!(port.parse::<PortName>().is_err(), "{port}");
        }
        for subject in ["", "h", "h.", "h.=", "h.=2", "h.=zz", "h.=41", "h.a=2fb"] {
            assert_eq!(PortName::from_tokens(subject), None, "{subject}");
        }
    }

    #[test]
    fn each_machine_has_a_name_in_the_fleet() {
        for (machine, name) in [("h1.example.org", "h1"), ("a b", "a-b"), ("", "hub"), (".x", "hub")] {
            assert_eq!(HostName::of_machine(machine).as_str(), name);
        }
        let long = HostName::of_machine(&"ä".repeat(70));
        assert_eq!(HostName::try_from(long.as_str().to_owned()), Ok(long));
    }

    proptest! {
        #[test]
        fn a_port_is_read_from_its_subject(host in "[A-Za-z0-9_-]{1,63}", interface in "[!-.0-9;-~]{1,15}") {
            let name: PortName = format!("{host}/{interface}").parse().unwrap();
            let tokens = name.tokens();
            prop_assert_eq!(tokens.matches('.').count(), 1);
            prop_assert!(!tokens.contains(['*', '>', ' ']));
            prop_assert_eq!(PortName::from_tokens(&tokens), Some(name.clone()));
            prop_assert_eq!(PortName::from_tokens(&format!("kstamp.window.{tokens}")), Some(name));
        }
    }
}
