//! Compression of large transactions, part by part: where the disk, and not the processor, is the limit.

use ecsdb_io::compress::{Compressor, Encoding, decompress};
use ecsdb_io::frame::FrameDamage;

/// Smaller transactions are written as they are: of them the disk's latency is the limit.
const PACKED_MIN: u64 = 4 << 10;
/// Bytes of a part before it is compressed, at most: what a reader has to have room for.
const UNPACKED_MAX: usize = 64 << 20;
/// The length that it has unpacked stands before it.
const LEN: usize = size_of::<u32>();

/// Compresses with one context, for as long as the level stays.
#[derive(Default)]
pub(crate) struct Packer {
    compressor: Option<(i32, Compressor)>,
    plain: Vec<u8>,
    compressed: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// From here on with this level, or not at all.
    pub(crate) fn set_level(&mut self, level: Option<i32>) {
        if level == self.compressor.as_ref().map(|(level, _)| *level) {
            return;
        }
        let compressor = level.map(|level| (level, Compressor::new(level)));
        self.compressor = match compressor {
            Some((level, Ok(compressor))) => Some((level, compressor)),
            Some((level, Err(error))) => {
                // It is written as it is then.
                tracing::warn!(level, %error, "the log is not compressed");
                None
            }
            None => None,
        };
    }

    /// Whether a transaction of so many bytes is packed, if it gets smaller by that.
    pub(crate) fn packs(&self, bytes: u64) -> bool {
        self.compressor.is_some() && bytes >= PACKED_MIN
    }

    /// The payload of a part that is packed; `None` where it is to be written as it is.
    pub(crate) fn pack<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> Option<&[u8]> {
        let (_, compressor) = self.compressor.as_mut()?;
        self.plain.clear();
        slices.for_each(|slice| self.plain.extend_from_slice(slice));
        if self.plain.len() > UNPACKED_MAX {
            return None;
        }
        match compressor.compress(&self.plain, &mut self.compressed) {
            Ok(Encoding::Zstd) => {}
            // What does not shrink, or finds no memory, is written as it is.
            Ok(Encoding::Raw) | Err(_) => return None,
        }
        self.packed.clear();
        self.packed.extend_from_slice(&(self.plain.len() as u32).to_le_bytes());
        self.packed.extend_from_slice(&self.compressed);
        Some(&self.packed)
    }
}

/// Puts what a packed part was into `plain` (replacing what was there). O(its length).
pub(crate) fn unpack(packed: &[u8], plain: &mut Vec<u8>) -> Result<(), FrameDamage> {
    let (len, compressed) = packed.split_first_chunk::<LEN>().ok_or(FrameDamage::Unpacked)?;
    let len = u32::from_le_bytes(*len) as usize;
    if len > UNPACKED_MAX {
        return Err(FrameDamage::Unpacked);
    }
    decompress(compressed, len, plain).map_err(|_| FrameDamage::Unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packed(plain: &[u8]) -> Option<Vec<u8>> {
        let mut packer = Packer::default();
        packer.set_level(Some(1));
        packer.pack([plain].into_iter()).map(<[u8]>::to_vec)
    }

    proptest! {
        #[test]
        fn any_bytes_unpack_or_are_damage(
            plain in proptest::collection::vec(0u8..3, 0..5_000), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut out = vec![7];
            if let Some(mut packed) = packed(&plain) {
                unpack(&packed, &mut out).unwrap();
                prop_assert_eq!(&out, &plain);
                prop_assert!(unpack(&packed[..cut.index(packed.len())], &mut out).is_err());
                let at = at.index(packed.len());
                packed[at] = byte;
                // No more is asked for than the bound, whatever the length says.
                prop_assert!(unpack(&packed, &mut out).is_err() || out.len() <= UNPACKED_MAX);
            }
            prop_assert!(unpack(&noise, &mut out).is_err() || out.len() <= UNPACKED_MAX);
            prop_assert!(out.capacity() <= 2 * UNPACKED_MAX);
        }
    }

    #[test]
    fn a_length_beyond_the_bound_is_damage() {
        let mut packed = packed(&[0; 10_000]).unwrap();
        packed[..LEN].copy_from_slice(&(UNPACKED_MAX as u32 + 1).to_le_bytes());
        assert_eq!(unpack(&packed, &mut Vec::new()), Err(FrameDamage::Unpacked));
    }
}
