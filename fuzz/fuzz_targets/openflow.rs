//! Whatever a switch sends: see `probe-user/tests/openflow/stream.rs`, which the tests run too.

#![no_main]

#[path = "../../probe-user/tests/openflow/stream.rs"]
mod stream;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| stream::check(bytes));
