//! Fixed-size fields at offsets that the caller knows to lie within the bytes; any other offset panics.

#[inline(always)]
pub fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut chunk = [0; N];
    chunk.copy_from_slice(&bytes[at..at + N]);
    chunk
}

#[inline(always)]
pub fn put<const N: usize>(bytes: &mut [u8], at: usize, chunk: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&chunk);
}
