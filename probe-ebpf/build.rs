//! Tells the linker which loads the target machine allows.

fn main() {
    // Packet memory has no alignment that a program may rely on. The kernels' verifiers accept unaligned loads from it
    // wherever the processor does them well (x86-64, arm64), and one load is an eighth of eight and their shifts.
    println!("cargo:rustc-link-arg-bins=--cpu-features=+allows-misaligned-mem-access");
}
