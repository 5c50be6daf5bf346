//! kstamp's kernel side, one module per step that a packet takes. The programs themselves are in `main.rs`.

#![no_std]
#![feature(asm_experimental_arch)]

pub mod clock;
pub mod collect;
pub mod count;
pub mod egress;
pub mod hook;
pub mod maps;
pub mod receive;
pub mod reflect;

/// What every object needs beside its programs: the licence that the kernel asks for, and a panic handler, which the
/// verifier would refuse if a program could reach it.
#[macro_export]
macro_rules! object_needs {
    () => {
        #[unsafe(link_section = "license")]
        #[unsafe(no_mangle)]
        static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

        #[cfg(not(test))]
        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }
    };
}
