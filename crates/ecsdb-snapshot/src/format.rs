//! The fixed parts of a snapshot file: header, block header, footer.

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use ecsdb_core::Lsn;
use ecsdb_io::{checksum, frame};

use crate::error::{Error, Result};

pub(crate) const MAGIC: [u8; 8] = *b"ECSDBSNP";
pub(crate) const END_MAGIC: [u8; 8] = *b"ECSDBEND";
/// The format version written, and the newest one read.
pub(crate) const VERSION: u32 = 3;
/// The oldest version that is read. Its directory says of other files no more than their numbers.
pub(crate) const VERSION_MIN: u32 = 2;

/// Frame kinds.
pub(crate) const BLOCK: u8 = 1;
pub(crate) const SCHEMA: u8 = 2;
pub(crate) const RESOURCES: u8 = 3;
pub(crate) const ALLOCATORS: u8 = 4;
pub(crate) const DIRECTORY: u8 = 5;

/// Largest block before compression: what a decompressor may allocate.
pub(crate) const RAW_LEN_MAX: usize = 64 << 20;

/// In [`BlockHeader::component`]: the column of entity ids.
pub(crate) const ENTITY_IDS: u32 = u32::MAX;

/// The first bytes of a snapshot file. 96 bytes, little-endian.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
    pub(crate) salt: u32,
    pub(crate) database: [u8; 16],
    pub(crate) sequence: u64,
    pub(crate) lsn: u64,
    pub(crate) created_unix_ns: u64,
    pub(crate) parent: u64,
    pub(crate) reserved: [u8; 28],
    pub(crate) checksum: u32,
}

const _: () = assert!(size_of::<RawHeader>() == 96);
const _: () = assert!(std::mem::offset_of!(RawHeader, database) == 16);
const _: () = assert!(std::mem::offset_of!(RawHeader, parent) == 56);
const _: () = assert!(std::mem::offset_of!(RawHeader, checksum) == 92);
const _: () = assert!(size_of::<RawHeader>().is_multiple_of(frame::ALIGN));

/// What the head of a snapshot file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The database it belongs to.
    pub database: u128,
    /// Its number among the snapshot files of that database.
    pub sequence: u64,
    /// LSN of the last transaction in it.
    pub lsn: u64,
    /// When it was begun, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// The number of the file whose blocks it points to, directly or through that one's directory; 0 for a full
    /// snapshot.
    pub parent: u64,
    /// What its frames' checksums start from: no two files have the same, but by a chance of one in four billion.
    pub salt: u32,
    /// Format version.
    pub version: u32,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; 96] {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: self.version,
            salt: self.salt,
            database: self.database.to_le_bytes(),
            sequence: self.sequence,
            lsn: self.lsn,
            created_unix_ns: self.created_unix_ns,
            parent: self.parent,
            reserved: [0; 28],
            checksum: 0,
        };
        raw.checksum = checksum(0, &bytemuck::bytes_of(&raw)[..92]);
        bytemuck::cast(raw)
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8; 96]) -> Result<Header> {
        let raw: RawHeader = bytemuck::pod_read_unaligned(bytes);
        if raw.magic != MAGIC {
            return Err(Error::damaged(path, 0, "this is no snapshot file: the magic bytes are missing"));
        }
        if raw.checksum != checksum(0, &bytes[..92]) {
            return Err(Error::damaged(path, 0, "the header's checksum does not match"));
        }
        if !(VERSION_MIN..=VERSION).contains(&raw.version) {
            Error::check_version(path, raw.version, VERSION)?;
        }
        if !Lsn(raw.lsn).is_reachable() {
            return Err(Error::damaged(path, 40, "the header has an LSN that no database comes to"));
        }
        Ok(Header {
            database: u128::from_le_bytes(raw.database),
            sequence: raw.sequence,
            lsn: raw.lsn,
            created_unix_ns: raw.created_unix_ns,
            parent: raw.parent,
            salt: raw.salt,
            version: raw.version,
        })
    }
}

/// The first 32 bytes of a block frame's payload: what the stored bytes after it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockHeader {
    /// The chunk's number.
    pub chunk: u64,
    /// LSN of the column's last change.
    pub changed: u64,
    /// The component, or `u32::MAX` for the column of entity ids.
    pub component: u32,
    /// Rows.
    pub rows: u32,
    /// Bytes before compression.
    pub raw_len: u32,
    /// 0 raw, 1 zstd.
    pub encoding: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<BlockHeader>() == 32);

/// The last 32 bytes of a snapshot file.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Footer {
    /// Where the directory frame begins.
    pub(crate) directory: u64,
    /// Bytes of the whole file.
    pub(crate) file_len: u64,
    /// Low 32 bits of the file's sequence number, so that a footer of another file does not validate.
    pub(crate) sequence: u32,
    /// CRC-32C, started from the salt, of the bytes before.
    pub(crate) checksum: u32,
    pub(crate) magic: [u8; 8],
}

const _: () = assert!(size_of::<Footer>() == 32);

impl Footer {
    pub(crate) fn encode(directory: u64, file_len: u64, header: &Header) -> [u8; 32] {
        let mut raw =
            Footer { directory, file_len, sequence: header.sequence as u32, checksum: 0, magic: END_MAGIC };
        raw.checksum = checksum(header.salt, &bytemuck::bytes_of(&raw)[..20]);
        bytemuck::cast(raw)
    }

    pub(crate) fn decode(path: &Path, bytes: &[u8; 32], file_len: u64, header: &Header) -> Result<Footer> {
        let raw: Footer = bytemuck::pod_read_unaligned(bytes);
        let fits = raw.magic == END_MAGIC
            && raw.checksum == checksum(header.salt, &bytes[..20])
            && raw.file_len == file_len
            && raw.sequence == header.sequence as u32;
        if fits {
            Ok(raw)
        } else {
            Err(Error::damaged(
                path,
                file_len.saturating_sub(32),
                "the file is cut short: it has no valid footer",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's bits have flipped: the checksum holds.
    #[test]
    fn an_lsn_that_no_database_comes_to_is_damage() {
        let with = |lsn| {
            let header = Header {
                database: 1,
                sequence: 1,
                lsn,
                created_unix_ns: 1,
                parent: 0,
                salt: 9,
                version: VERSION,
            };
            Header::decode(Path::new("s"), &header.encode())
        };
        let highest = (1 << 48) - (1 << 40) - 1;
        assert!(with(highest).is_ok());
        for lsn in [highest + 1, 1 << 48, u64::MAX] {
            assert!(matches!(with(lsn), Err(Error::Damaged { .. })), "{lsn:#x}");
        }
    }
}
