//! `kstamp hub`: coordinates a fleet of agents, takes their results and shows them.

pub mod site;
