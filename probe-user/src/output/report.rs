//! `kstamp report`: saved records of one or several agents, put together.

pub mod model;
pub mod page;
mod plots;
pub mod record;
pub mod session;
mod timeline;

#[cfg(test)]
mod tests;
