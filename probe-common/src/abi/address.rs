//! Addresses of both IP versions in one form.

use core::net::{IpAddr, Ipv6Addr};

use crate::family::Family;

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
    pub const NONE: Self = Self { first: 0, last: 0 };
    const V6_LOOPBACK: Self = Self::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

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

    /// Of either version.
    #[inline(always)]
    pub const fn is_multicast(&self) -> bool {
        let [first, ..] = self.first.to_ne_bytes();
        let [.., v4_first, _, _, _] = self.last.to_ne_bytes();
        first == 0xff || (self.is_v4() && v4_first >= 224 && v4_first < 240)
    }

    /// fe80::/10.
    #[inline(always)]
    pub const fn is_v6_link_local(&self) -> bool {
        let [first, second, ..] = self.first.to_ne_bytes();
        first == 0xfe && second & 0xc0 == 0x80
    }

    /// Whether one host of `family` can be behind this source address, so that a reflector may answer it: it is not
    /// multicast, broadcast, unspecified or loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5 and §2.7), nor an IPv4 address in
    /// an IPv6 header.
    #[inline(always)]
    pub fn is_answerable(&self, family: Family) -> bool {
        match family {
            Family::V4 => !matches!(self.v4()[0], 0 | 127 | 224..),
            Family::V6 => *self != Self::NONE && *self != Self::V6_LOOPBACK && !self.is_multicast() && !self.is_v4(),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self::from_bytes(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from(address.bytes()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn v4_addresses_are_mapped() {
        let v4 = address("10.1.1.5");
        assert_eq!(v4.bytes(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 1, 5]);
        assert_eq!(v4.v4(), [10, 1, 1, 5]);
        assert_eq!(v4, Address::from_v4_word(u32::from_ne_bytes([10, 1, 1, 5])));
    }

    #[test]
    fn addresses_of_both_versions_are_distinguished() {
        // is_v4, is_multicast, is_v6_link_local
        let table = [
            ("224.0.0.1", true, true, false),
            ("239.255.255.250", true, true, false),
            ("223.255.255.255", true, false, false),
            ("240.0.0.1", true, false, false),
            ("10.1.1.5", true, false, false),
            ("ff0e::10", false, true, false),
            ("::e000:1", false, false, false),
            ("::fffe:e000:1", false, false, false),
            ("1::ffff:e000:1", false, false, false),
            ("fe80::1", false, false, true),
            ("febf::1", false, false, true),
            ("fec0::1", false, false, false),
            ("ff80::1", false, true, false),
            ("fd80::1", false, false, false),
        ];
        for (text, v4, multicast, link_local) in table {
            let address = address(text);
            assert_eq!(
                (address.is_v4(), address.is_multicast(), address.is_v6_link_local()),
                (v4, multicast, link_local),
                "{text}"
            );
        }
    }

    #[test]
    fn only_hosts_are_answered() {
        let table = [
            ("10.1.1.5", true),
            ("1.0.0.1", true),
            ("126.255.255.255", true),
            ("128.0.0.1", true),
            ("223.255.255.1", true),
            ("0.0.0.0", false),
            ("0.0.0.1", false),
            ("127.0.0.1", false),
            ("224.0.0.1", false),
            ("239.255.255.250", false),
            ("255.255.255.255", false),
            ("fd00::5", true),
            ("fe80::5", true),
            ("::2", true),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
        ];
        for (text, answerable) in table {
            let ip = text.parse::<IpAddr>().unwrap();
            assert_eq!(Address::from(ip).is_answerable(Family::of(ip)), answerable, "{text}");
        }
        assert!(!address("10.1.1.5").is_answerable(Family::V6), "IPv4 in an IPv6 header");
    }

    proptest! {
        #[test]
        fn every_form_is_the_same_address(bytes: [u8; 16]) {
            let address = Address::from_bytes(bytes);
            let [first, last] = address.words();
            prop_assert_eq!(address.bytes(), bytes);
            prop_assert_eq!(Address::from_words(first, last), address);
            prop_assert_eq!(Address::from(IpAddr::from(address)), address);
            prop_assert_eq!(&address.v4()[..], &bytes[12..]);
        }
    }
}
