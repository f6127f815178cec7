//! CRC-32C, the one checksum of every format.

/// CRC-32C of `bytes`, started from `salt`: the same bytes under another salt never give the same sum, so a
/// record of another segment, another file or another life of this file does not validate. O(n).
#[inline]
pub fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(salt, bytes)
}

/// Continues a checksum over the next part of the same bytes. O(n).
#[inline]
pub fn checksum_append(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}
