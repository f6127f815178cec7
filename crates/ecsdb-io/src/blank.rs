//! What was never written: files are prepared as zeros, and a record is never only zeros.

/// Bytes looked at at once.
const STRIDE: usize = 64;

/// The first of `bytes` that is not zero, if any. O(n), at memory's speed over zeros.
///
/// ```
/// let mut bytes = [0; 1000];
/// assert_eq!(ecsdb_io::first_nonzero(&bytes), None);
/// bytes[777] = 1;
/// assert_eq!(ecsdb_io::first_nonzero(&bytes), Some(777));
/// ```
pub fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    // Without an early end within a stride, which the compiler cannot look at as a vector.
    let blank = |stride: &&[u8]| stride.iter().fold(0, |all, byte| all | byte) == 0;
    let skipped = bytes.chunks(STRIDE).take_while(blank).count() * STRIDE;
    let rest = bytes.get(skipped..)?;
    Some(skipped + rest.iter().position(|&byte| byte != 0)?)
}
