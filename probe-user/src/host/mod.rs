//! Facts about this machine: its clocks, interfaces, name, and whether kstamp can run here. Nothing is changed.

mod driver;

pub mod clock;
pub mod identity;
pub mod link;
pub mod preflight;
pub mod privileges;
pub mod wall;
