//! The `kstamp` binary.
fn main() {}
