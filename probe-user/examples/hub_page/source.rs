//! The trait by which the page finds the state of a fleet.

pub use probe_user::command::hub::site::Source;
