//! The items that every object needs beside its programs. A file of its own, so that an object can have them without the
//! library, which would bring its maps.

/// The licence, which the kernel asks for, and a panic handler, which the verifier refuses in any program that reaches it.
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
