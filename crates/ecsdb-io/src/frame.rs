//! The frame: the unit of checking shared by the log, the snapshot and the manifest.
//!
//! A frame is a header of 24 bytes, a payload, and zeros up to the next multiple of 8 bytes. All numbers are
//! little-endian.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | payload length |
//! | 4 | 4 | header checksum: CRC-32C, started from the salt, of bytes 0..4 and 8..24 |
//! | 8 | 4 | payload checksum: CRC-32C, started from the salt, of the payload |
//! | 12 | 4 | link: the header checksum of the frame before (0 for the first) |
//! | 16 | 6 | sequence number: the LSN in a log, the position in other files |
//! | 22 | 1 | kind |
//! | 23 | 1 | flags |
//!
//! The header checksum is verified before the length is believed; since it covers the payload checksum and the
//! link, a frame vouches for all frames before it.

use crate::checksum::{checksum, checksum_append};

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 24;
/// Frames start at multiples of this many bytes from the start of their file.
pub const ALIGN: usize = 8;
/// The largest sequence number (48 bits).
pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// A decoded frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub len: u32,
    /// CRC-32C of the payload, started from the salt.
    pub payload_sum: u32,
    /// Header checksum of the frame before.
    pub link: u32,
    /// LSN or position, at most [`SEQUENCE_MAX`].
    pub sequence: u64,
    /// What the payload is; each format numbers its own kinds, from 1.
    pub kind: u8,
    /// Each format's own flags.
    pub flags: u8,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameDamage {
    /// All 24 bytes are zero: never written.
    #[error("no frame was ever written here")]
    Blank,
    /// Fewer than 24 bytes are left.
    #[error("the file ends within a frame header")]
    HeaderCut,
    /// The header checksum does not match.
    #[error("the frame header's checksum does not match")]
    Header,
    /// The header is whole, but its payload goes on beyond the end of what there is.
    #[error("the payload of {len} bytes goes on beyond the {available} bytes that are there")]
    PayloadCut {
        /// Bytes the header declares.
        len: u32,
        /// Bytes there are.
        available: u64,
    },
    /// The payload checksum does not match.
    #[error("the payload's checksum does not match")]
    Payload,
    /// The payload is whole, but is not what its compressed form can be.
    #[error("the payload does not decompress")]
    Unpacked,
}

impl FrameHeader {
    /// The header's 24 bytes. Its checksum, the next frame's link, is in bytes 4..8; see [`header_sum`].
    pub fn encode(&self, salt: u32) -> [u8; HEADER_LEN] {
        debug_assert!(self.sequence <= SEQUENCE_MAX);
        let mut bytes = [0; HEADER_LEN];
        bytes[0..4].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_sum.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.link.to_le_bytes());
        bytes[16..22].copy_from_slice(&self.sequence.to_le_bytes()[..6]);
        bytes[22] = self.kind;
        bytes[23] = self.flags;
        let sum = sum_of_header(salt, &bytes);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Decodes and verifies a header. The payload is not looked at.
    ///
    /// # Errors
    /// [`FrameDamage::Blank`], [`FrameDamage::HeaderCut`] or [`FrameDamage::Header`].
    pub fn decode(bytes: &[u8], salt: u32) -> Result<FrameHeader, FrameDamage> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else { return Err(FrameDamage::HeaderCut) };
        if *bytes == [0; HEADER_LEN] {
            return Err(FrameDamage::Blank);
        }
        if header_sum(bytes) != sum_of_header(salt, bytes) {
            return Err(FrameDamage::Header);
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut sequence = [0; 8];
        sequence[..6].copy_from_slice(&bytes[16..22]);
        Ok(FrameHeader {
            len: word(0),
            payload_sum: word(8),
            link: word(12),
            sequence: u64::from_le_bytes(sequence),
            kind: bytes[22],
            flags: bytes[23],
        })
    }

    /// Bytes from this frame's start to the next one's.
    pub fn frame_len(&self) -> u64 {
        frame_len(self.len as u64)
    }

    /// Verifies a payload against the header.
    ///
    /// # Errors
    /// [`FrameDamage::Payload`].
    pub fn verify(&self, payload: &[u8], salt: u32) -> Result<(), FrameDamage> {
        if payload.len() == self.len as usize && checksum(salt, payload) == self.payload_sum {
            Ok(())
        } else {
            Err(FrameDamage::Payload)
        }
    }
}

/// The header checksum stored in an encoded header: what the next frame links to.
pub fn header_sum(header: &[u8; HEADER_LEN]) -> u32 {
    u32::from_le_bytes([header[4], header[5], header[6], header[7]])
}

/// Bytes that a frame with `payload_len` bytes of payload takes, with its padding.
pub const fn frame_len(payload_len: u64) -> u64 {
    (HEADER_LEN as u64 + payload_len).next_multiple_of(ALIGN as u64)
}

/// Appends a whole frame, padding included, to `out` and returns its header checksum.
///
/// `header.len` and `header.payload_sum` are filled in here. The caller keeps payloads below 4 GiB.
pub fn write_frame(out: &mut Vec<u8>, mut header: FrameHeader, payload: &[u8], salt: u32) -> u32 {
    debug_assert!(u32::try_from(payload.len()).is_ok());
    header.len = payload.len() as u32;
    header.payload_sum = checksum(salt, payload);
    let bytes = header.encode(salt);
    let end = out.len() + header.frame_len() as usize;
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload);
    out.resize(end, 0);
    header_sum(&bytes)
}

/// Decodes the frame at the start of `bytes`: its header and its payload, both verified. Nothing is allocated.
///
/// # Errors
/// What is wrong with it.
pub fn read_frame(bytes: &[u8], salt: u32) -> Result<(FrameHeader, &[u8]), FrameDamage> {
    let header = FrameHeader::decode(bytes, salt)?;
    let rest = &bytes[HEADER_LEN..];
    let Some(payload) = rest.get(..header.len as usize) else {
        return Err(FrameDamage::PayloadCut { len: header.len, available: rest.len() as u64 });
    };
    header.verify(payload, salt)?;
    Ok((header, payload))
}

fn sum_of_header(salt: u32, bytes: &[u8; HEADER_LEN]) -> u32 {
    checksum_append(checksum(salt, &bytes[0..4]), &bytes[8..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(sequence: u64, kind: u8, flags: u8, link: u32) -> FrameHeader {
        FrameHeader { len: 0, payload_sum: 0, link, sequence, kind, flags }
    }

    proptest! {
        #[test]
        fn a_frame_reads_back_and_any_flipped_bit_is_seen(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            salt: u32, link: u32, kind in 1u8.., flags: u8, sequence in 0..=SEQUENCE_MAX, flip: prop::sample::Index,
        ) {
            let mut bytes = Vec::new();
            let sum = write_frame(&mut bytes, header(sequence, kind, flags, link), &payload, salt);
            let (back, body) = read_frame(&bytes, salt).unwrap();
            prop_assert_eq!((back.sequence, back.kind, back.flags, back.link), (sequence, kind, flags, link));
            prop_assert_eq!(body, &payload[..]);
            prop_assert_eq!(header_sum(bytes.first_chunk().unwrap()), sum);
            prop_assert_eq!(bytes.len() as u64, back.frame_len());

            let checked = HEADER_LEN + payload.len();
            let bit = flip.index(checked * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read_frame(&bytes, salt).is_err());
        }

        #[test]
        fn another_salt_never_validates(payload in proptest::collection::vec(any::<u8>(), 0..64), a: u32, b: u32) {
            prop_assume!(a != b);
            let mut bytes = Vec::new();
            write_frame(&mut bytes, header(1, 1, 0, 0), &payload, a);
            prop_assert_eq!(read_frame(&bytes, b), Err(FrameDamage::Header));
        }
    }

    #[test]
    fn blank_and_cut_frames_are_told_apart() {
        assert_eq!(read_frame(&[0; 64], 7), Err(FrameDamage::Blank));
        assert_eq!(read_frame(&[0; 23], 7), Err(FrameDamage::HeaderCut));
        let mut bytes = Vec::new();
        write_frame(&mut bytes, header(1, 1, 0, 0), &[9; 100], 7);
        assert_eq!(read_frame(&bytes[..80], 7), Err(FrameDamage::PayloadCut { len: 100, available: 56 }));
    }
}
