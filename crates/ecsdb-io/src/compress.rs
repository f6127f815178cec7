//! Block compression: zstd where it pays, the bytes themselves where it does not.

use std::cell::RefCell;
use std::io;

/// How a block's bytes are stored. The numbers are the formats' encoding byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    Raw = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Encoding {
    /// The encoding of a format's byte, or `None` for one this version does not know.
    pub fn from_byte(byte: u8) -> Option<Encoding> {
        match byte {
            0 => Some(Encoding::Raw),
            1 => Some(Encoding::Zstd),
            _ => None,
        }
    }
}

/// Compresses block after block with one reused context.
pub struct Compressor {
    context: zstd::bulk::Compressor<'static>,
}

impl Compressor {
    /// A compressor of zstd `level` (1 to 22).
    ///
    /// # Errors
    /// When the level is out of range or there is no memory for the context.
    pub fn new(level: i32) -> io::Result<Self> {
        Ok(Compressor { context: zstd::bulk::Compressor::new(level)? })
    }

    /// Puts the compressed form of `raw` into `out` (replacing what was there) when it is at least an eighth
    /// smaller, and says which encoding was chosen. For [`Encoding::Raw`], `out` is left empty: store `raw`.
    ///
    /// # Errors
    /// When zstd reports an internal error.
    pub fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<Encoding> {
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        self.context.compress_to_buffer(raw, out)?;
        if out.len() <= raw.len() - raw.len() / 8 && out.len() < raw.len() {
            Ok(Encoding::Zstd)
        } else {
            out.clear();
            Ok(Encoding::Raw)
        }
    }
}

thread_local! {
    /// One context per thread: making one costs as much as some blocks, and a directory has many small files.
    static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses `stored`, which must give exactly `raw_len` bytes, into `out` (replacing what was there). O(`raw_len`).
///
/// `raw_len` must come from a checked header and be bounded by the caller: it is what is allocated.
///
/// # Errors
/// When the bytes are no zstd frame, or give another length, or there is no memory for a context.
pub fn decompress(stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    out.reserve_exact(raw_len);
    let n = CONTEXT.with_borrow_mut(|context| match context {
        Some(context) => context.decompress_to_buffer(stored, out),
        None => context.insert(zstd::bulk::Decompressor::new()?).decompress_to_buffer(stored, out),
    })?;
    if n == raw_len {
        Ok(())
    } else {
        let what = format!("it decompresses to {n} bytes where {raw_len} were to come");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitive_blocks_shrink_and_random_ones_stay_raw() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut out = Vec::new();
        let raw = vec![7u8; 16 * 1024];
        assert_eq!(compressor.compress(&raw, &mut out).unwrap(), Encoding::Zstd);
        let mut back = Vec::new();
        decompress(&out, raw.len(), &mut back).unwrap();
        assert_eq!(back, raw);
        for wrong in [raw.len() + 1, raw.len() - 1] {
            assert!(decompress(&out, wrong, &mut back).is_err());
        }
        decompress(&out, raw.len(), &mut back).unwrap();

        let mut x = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .take(16 * 1024)
        .collect();
        assert_eq!(compressor.compress(&noise, &mut out).unwrap(), Encoding::Raw);
        assert_eq!(compressor.compress(&[], &mut out).unwrap(), Encoding::Raw);
    }
}
