//! The kernel programs, each run packet by packet by the kernel's own `BPF_PROG_TEST_RUN`, attached to nothing.
//!
//! Needs root, or `CAP_BPF` and `CAP_NET_ADMIN`; without, every test prints `SKIPPED` and passes.

mod collect;
mod egress;
mod mutation;
mod packet;
mod reflect;
mod refuse;
mod rig;
