//! Code that several subcommands share.

pub mod args;
pub mod asking;
pub mod credentials;
pub mod endpoint;
pub mod families;
pub mod hops;
pub mod host;
pub mod introductions;
pub mod key_file;
pub mod ovs;
pub mod reflector;
pub mod reload;
pub mod replies;
pub mod reporter;
pub mod responder;
pub mod shutdown;
pub mod unsent;
pub mod update;
pub mod values;
