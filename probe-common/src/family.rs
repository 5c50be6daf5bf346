//! The IP version, one type for all crates.

use core::fmt;
use core::net::IpAddr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_family_and_each_family_its_name() {
        for (address, family, name) in [
            ("10.1.1.5", Family::V4, "IPv4"),
            ("fd01::5", Family::V6, "IPv6"),
            ("::ffff:10.1.1.5", Family::V6, "IPv6"),
        ] {
            assert_eq!(Family::of(address.parse().unwrap()), family, "{address}");
            assert_eq!(family.to_string(), name);
        }
    }
}
