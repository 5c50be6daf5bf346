//! The kernel programs, each run packet by packet by the kernel's own `BPF_PROG_TEST_RUN`, attached to nothing.
//!
//! Needs root, or `CAP_BPF` and `CAP_NET_ADMIN`; otherwise every test prints `SKIPPED` and passes.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod collect;
mod egress;
mod hops;
mod legacy;
mod mutation;
mod packet;
mod padded;
mod peers;
mod policy;
mod pool;
mod reflect;
mod refuse;
mod rig;
mod slots;
mod tagged;
mod tap;
mod upcalls;

mod verifier;

#[test]
fn the_verifier_accepts_every_log_level() {
    if rig::may_load() {
        for level in [0, 1, 2, 3, 4, 5, u8::MAX] {
            probe_io::backend::ebpf::object::Object::load(level, probe_core::rings::Rings::NONE).unwrap();
        }
    }
}
