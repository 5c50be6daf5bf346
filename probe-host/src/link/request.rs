//! Requests to the kernel that block for the whole answer, for callers that cannot await.

use std::io;

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Asks the kernel, with `flags` beside `NLM_F_REQUEST`: `NLM_F_ACK`, `NLM_F_DUMP`, or none for a single answer.
pub fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        if take(&bytes, &mut answers)? || flags == 0 {
            return Ok(answers);
        }
    }
}

/// Takes the messages of one datagram. Returns whether it ends the answer.
pub(super) fn take<T: NetlinkDeserializable>(mut bytes: &[u8], answers: &mut Vec<T>) -> io::Result<bool> {
    while !bytes.is_empty() {
        let message = NetlinkMessage::<T>::deserialize(bytes).map_err(io::Error::other)?;
        // Each begins at a multiple of four bytes.
        let length = (message.header.length as usize).next_multiple_of(4);
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return error.code.map_or(Ok(true), |_| Err(error.to_io())),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(false)
}
