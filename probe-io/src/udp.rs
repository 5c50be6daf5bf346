//! UDP sockets, and the stamps that the kernel gives them.

pub mod batch;
pub(crate) mod membership;
pub(crate) mod options;
pub(crate) mod sending;
pub mod sockets;
pub mod stamped;
pub(crate) mod strays;
pub mod target;
pub mod watched;
