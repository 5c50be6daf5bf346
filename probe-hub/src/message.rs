//! What agents and hubs tell each other.

pub mod assignment;
pub mod event;
pub mod heartbeat;
pub mod presence;
pub mod windows;
