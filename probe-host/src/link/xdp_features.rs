//! The XDP features of a device, from the generic netlink family `netdev` (`linux/netdev.h`, since Linux 6.3).

use std::io;

use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

/// `GENL_ID_CTRL`, and the numbers of its commands and attributes (`linux/genetlink.h`).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `NETDEV_CMD_DEV_GET`, and the numbers of its attributes.
const DEVICE_GET: u8 = 1;
const INTERFACE: u16 = 1;
const FEATURES: u16 = 3;

/// `NETDEV_XDP_ACT_BASIC`: the driver runs XDP programs.
const BASIC: u64 = 1;
/// `NETDEV_XDP_ACT_NDO_XMIT`: the device sends frames of XDP programs.
const TRANSMIT: u64 = 1 << 2;

const NLM_F_REQUEST: u16 = 1;
/// Lengths of the netlink header, and of the generic header behind it.
const HEADER_LEN: usize = 16;
const GENERIC_LEN: usize = 4;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpFeatures {
    /// The driver runs XDP programs.
    pub native: bool,
    /// The device sends frames of XDP programs. Some drivers report it only while a program is attached to them, and a veth
    /// only while one is attached to its peer.
    pub transmit: bool,
}

/// The features of the interface of index `index`; `None` before Linux 6.3, where the kernel does not report
/// them.
pub fn xdp_features(index: u32) -> io::Result<Option<XdpFeatures>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let Some(family) = ask(&mut socket, CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0", FAMILY_ID)? else {
        return Ok(None);
    };
    let family = u16::from_ne_bytes(fixed(&family)?);
    let features = ask(
        &mut socket,
        family,
        DEVICE_GET,
        INTERFACE,
        &index.to_ne_bytes(),
        FEATURES,
    )?;
    let Some(features) = features else {
        return Ok(None);
    };
    let features = u64::from_ne_bytes(fixed(&features)?);
    Ok(Some(XdpFeatures {
        native: features & BASIC != 0,
        transmit: features & TRANSMIT != 0,
    }))
}

/// Sends one command with one attribute. Returns the attribute `wanted` of the answer; `None` if it is missing, or if the
/// kernel does not know the family.
fn ask(
    socket: &mut Socket,
    family: u16,
    command: u8,
    attribute: u16,
    value: &[u8],
    wanted: u16,
) -> io::Result<Option<Vec<u8>>> {
    socket.send(&message(family, command, attribute, value), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match attribute_of(&answer, wanted) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        result => result,
    }
}

fn message(family: u16, command: u8, attribute: u16, value: &[u8]) -> Vec<u8> {
    const VERSION: u8 = 1;
    let attribute_len = 4 + value.len();
    let length = HEADER_LEN + GENERIC_LEN + attribute_len.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, VERSION, 0, 0]);
    message.extend((attribute_len as u16).to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value);
    message.resize(length, 0);
    message
}

/// The attribute `wanted` of an answer; `None` if there is none.
fn attribute_of(answer: &[u8], wanted: u16) -> io::Result<Option<Vec<u8>>> {
    let short = || io::Error::other("an answer of the kernel is cut short");
    let word = |bytes: &[u8], at: usize| {
        bytes
            .get(at..at + 2)
            .and_then(|word| fixed(word).ok())
            .map(u16::from_ne_bytes)
    };
    if word(answer, 4).ok_or_else(short)? == ERROR {
        let code = answer.get(HEADER_LEN..HEADER_LEN + 4).ok_or_else(short)?;
        return Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(fixed(code)?)));
    }
    let mut rest = answer.get(HEADER_LEN + GENERIC_LEN..).ok_or_else(short)?;
    while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length).ok_or_else(short)?;
        if kind == wanted {
            return Ok(Some(value.to_vec()));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

fn fixed<const N: usize>(bytes: &[u8]) -> io::Result<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| io::Error::other("an attribute has another length than expected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_is_found_behind_others() {
        let first = message(7, 1, 9, &[1, 2, 3]);
        let mut answer = first.clone();
        answer.extend([12, 0, 3, 0]);
        answer.extend(5u64.to_ne_bytes());
        assert_eq!(
            attribute_of(&answer, FEATURES).unwrap(),
            Some(5u64.to_ne_bytes().to_vec())
        );
        assert_eq!(attribute_of(&answer, 9).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(attribute_of(&answer, 8).unwrap(), None);
        for length in 0..HEADER_LEN {
            assert!(
                attribute_of(&answer[..length], 9).is_err() || length >= 6,
                "{length} bytes"
            );
        }
    }

    #[test]
    fn a_refusal_is_an_error() {
        let mut answer = message(ERROR, 0, 0, &[]);
        answer.splice(HEADER_LEN..HEADER_LEN + 4, (-libc::ENODEV).to_ne_bytes());
        let error = attribute_of(&answer, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn loopback_takes_no_frames_of_programs() {
        let features = xdp_features(1).unwrap();
        assert!(features.is_none_or(|features| !features.transmit && !features.native));
    }
}
