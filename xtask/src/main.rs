//! Set-up, lab, tests and benches of kstamp.
fn main() {}
