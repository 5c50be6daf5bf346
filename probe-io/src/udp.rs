//! UDP sockets, and the stamps that the kernel gives them.

pub(crate) mod membership;
pub mod sockets;
pub mod stamped;
pub mod watched;
