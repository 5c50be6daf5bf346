//! Addresses of both IP versions in one form.

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291 §2.5.5.2), as its bytes lie in memory.
///
/// Words and not bytes: the verifier allows only aligned access to the stack, and the compiler keeps to the alignment
/// of words.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    first: u64,
    last: u64,
}

impl Address {
    /// No address.
    pub const NONE: Self = Self { first: 0, last: 0 };
    /// ::1.
    pub const V6_LOOPBACK: Self = Self::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// From network order.
    #[inline(always)]
    pub const fn from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]: [u8; 16]) -> Self {
        Self {
            first: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            last: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
        }
    }

    /// From two words as they lie in memory.
    #[inline(always)]
    pub const fn from_words(first: u64, last: u64) -> Self {
        Self { first, last }
    }

    /// As two words, as they lie in memory.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        [self.first, self.last]
    }

    /// Whether this is an IPv4 address mapped into IPv6.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [e, f, g, h, ..] = self.last.to_ne_bytes();
        self.first == 0 && matches!([e, f, g, h], [0, 0, 0xff, 0xff])
    }

    /// In network order.
    #[inline(always)]
    pub const fn bytes(&self) -> [u8; 16] {
        let [a, b, c, d, e, f, g, h] = self.first.to_ne_bytes();
        let [i, j, k, l, m, n, o, p] = self.last.to_ne_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// ::ffff:a.b.c.d.
    #[inline(always)]
    pub const fn from_v4([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            first: 0,
            last: u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d]),
        }
    }

    /// ::ffff:a.b.c.d, from a word as it lies in memory.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self::from_v4(word.to_ne_bytes())
    }

    /// The last four bytes, which are the address if it is a mapped one.
    #[inline(always)]
    pub const fn v4(&self) -> [u8; 4] {
        let [.., a, b, c, d] = self.last.to_ne_bytes();
        [a, b, c, d]
    }

    /// Whether this is a multicast address of either version.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        let [first, ..] = self.first.to_ne_bytes();
        let [.., v4_first, _, _, _] = self.last.to_ne_bytes();
        first == 0xff || (self.is_v4() && v4_first >= 224 && v4_first < 240)
    }
}

#[cfg(feature = "user")]
impl From<core::net::IpAddr> for Address {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::from_bytes(v6.octets()),
        }
    }
}

#[cfg(feature = "user")]
impl From<Address> for core::net::IpAddr {
    fn from(address: Address) -> Self {
        core::net::Ipv6Addr::from(address.bytes()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_addresses_are_mapped() {
        let address = Address::from_v4([10, 1, 1, 5]);
        assert_eq!(address.bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 1, 5]);
        assert_eq!(address.v4(), [10, 1, 1, 5]);
        assert_eq!(Address::from_bytes(address.bytes()), address);
    }

    #[test]
    fn multicast_of_both_versions() {
        let table = [
            ("224.0.0.1", true),
            ("239.255.255.250", true),
            ("223.255.255.255", false),
            ("240.0.0.1", false),
            ("10.1.1.5", false),
            ("ff0e::10", true),
            ("fe80::1", false),
            ("::e000:1", false),
        ];
        for (text, multicast) in table {
            let address = match text.parse().unwrap() {
                std::net::IpAddr::V4(v4) => Address::from_v4(v4.octets()),
                std::net::IpAddr::V6(v6) => Address::from_bytes(v6.octets()),
            };
            assert_eq!(address.is_multicast(), multicast, "{text}");
        }
    }
}
