//! What every object needs beside its programs. A file, so that an object can have it without the prober's maps, which
//! come with the library.

/// The licence that the kernel asks for, and a panic handler, which the verifier would refuse if a program could reach
/// it.
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
