//! `kstamp report`: saved records of one or several agents, put together.

mod hops;
pub mod model;
pub mod page;
mod plots;
pub mod record;
pub mod session;
mod split;
mod timeline;

#[cfg(test)]
mod tests;
