//! Facts about this machine: clocks, CPU time, interfaces, privileges, and whether kstamp can run here.

mod driver;

pub mod clock;
pub mod cpu;
pub mod hostname;
pub mod limits;
pub mod link;
pub mod netfilter;
pub mod netns;
pub mod ovs;
pub mod preflight;
pub mod privileges;
pub mod process;
pub mod timer;
pub mod wall;
