//! The fixed parts of a segment: its header page, its frame kinds, the payload of a group frame.

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use ecsdb_io::frame::frame_len;
use ecsdb_io::{checksum, checksum_append};

use crate::error::LogError;
use crate::options::SegmentEnd;
use crate::reader::Damage;
use ecsdb_id::Lsn;

pub(crate) const MAGIC: [u8; 8] = *b"ECSDBLOG";
pub(crate) const VERSION: u32 = 3;
/// The oldest version that is read: segments in it have no [`FOLLOWED`] frame.
const VERSION_OLDEST: u32 = 2;
/// Segments are written in pages of this many bytes; the header takes the first.
pub(crate) const PAGE: u64 = 4096;

/// Frame kinds.
pub(crate) const GROUP: u8 = 1;
pub(crate) const TRANSACTION: u8 = 2;
pub(crate) const CLOSE: u8 = 3;
/// The next segment has its header on stable storage.
pub(crate) const FOLLOWED: u8 = 4;
/// Flag of a [`TRANSACTION`] frame: more parts follow.
pub(crate) const CONTINUES: u8 = 1;
/// Flag of a [`TRANSACTION`] frame: the payload is compressed.
pub(crate) const PACKED: u8 = 2;

/// The first 128 bytes of a segment; the rest of its first page is zero.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RawHeader {
    magic: [u8; 8],
    version: u32,
    salt: u32,
    database: [u8; 16],
    incarnation: u64,
    sequence: u64,
    first_lsn: u64,
    previous_sequence: u64,
    previous_last_lsn: u64,
    previous_end: u64,
    bytes: u64,
    created_unix_ns: u64,
    previous_link: u32,
    prepared_pages: u32,
    reserved: [u8; 20],
    checksum: u32,
}

pub(crate) const HEADER_BYTES: usize = 128;
const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(RawHeader, incarnation) == 32);
const _: () = assert!(std::mem::offset_of!(RawHeader, previous_link) == 96);
const _: () = assert!(std::mem::offset_of!(RawHeader, prepared_pages) == 100);
const _: () = assert!(std::mem::offset_of!(RawHeader, checksum) == 124);

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The version of the format that it is written in.
    pub version: u32,
    /// The database it belongs to.
    pub database: u128,
    /// The opening for writing in which it was made.
    pub incarnation: u64,
    /// Its number.
    pub sequence: u64,
    /// A random number that keeps bytes of other files from validating here.
    pub salt: u32,
    /// LSN of its first transaction.
    pub first_lsn: Lsn,
    /// The valid end of the segment before it.
    pub previous: SegmentEnd,
    /// Bytes that its writer means to use at most.
    pub bytes: u64,
    /// When it was begun, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Bytes that the file had on stable storage when it was begun; 0 when that is not known.
    pub prepared_bytes: u64,
}

impl SegmentHeader {
    /// Stands for one that cannot be read.
    pub(crate) fn unknown() -> Self {
        SegmentHeader {
            version: VERSION,
            database: 0,
            incarnation: 0,
            sequence: 0,
            salt: 0,
            first_lsn: Lsn::ZERO,
            previous: SegmentEnd::default(),
            bytes: 0,
            created_unix_ns: 0,
            prepared_bytes: 0,
        }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = RawHeader {
            magic: MAGIC,
            version: self.version,
            salt: self.salt,
            database: self.database.to_le_bytes(),
            incarnation: self.incarnation,
            sequence: self.sequence,
            first_lsn: self.first_lsn.0,
            previous_sequence: self.previous.segment,
            previous_last_lsn: self.previous.last_lsn.0,
            previous_end: self.previous.offset,
            bytes: self.bytes,
            created_unix_ns: self.created_unix_ns,
            previous_link: self.previous.link,
            // Only whole pages are promised; what is too large to be said is not.
            prepared_pages: u32::try_from(self.prepared_bytes / PAGE).unwrap_or(0),
            reserved: [0; 20],
            checksum: 0,
        };
        raw.checksum = checksum(0, &bytemuck::bytes_of(&raw)[..124]);
        bytemuck::cast(raw)
    }

    /// Decodes the head of a segment file.
    ///
    /// # Errors
    /// [`LogError::Damaged`] when it is no whole header, [`LogError::NewerVersion`], or [`LogError::OlderVersion`].
    pub fn decode(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<SegmentHeader, LogError> {
        let raw: RawHeader = bytemuck::pod_read_unaligned(bytes);
        let damaged = |what: &str| LogError::Damaged(Damage::new(path, 0, Lsn::ZERO, what));
        if raw.magic != MAGIC {
            return Err(damaged("this is no log segment: the magic bytes are missing"));
        }
        if raw.checksum != checksum(0, &bytes[..124]) {
            return Err(damaged("the segment header's checksum does not match"));
        }
        if raw.version > VERSION {
            return Err(LogError::NewerVersion { path: path.into(), found: raw.version, supported: VERSION });
        }
        if raw.version < VERSION_OLDEST {
            return Err(LogError::OlderVersion { path: path.into(), found: raw.version, supported: VERSION });
        }
        let (first, before) = (Lsn(raw.first_lsn), Lsn(raw.previous_last_lsn));
        // What goes by these numbers need not ask whether they go up.
        let goes_back = before >= first || raw.previous_sequence >= raw.sequence;
        if goes_back || !first.is_reachable() || !Lsn(raw.incarnation).is_reachable() {
            return Err(damaged("the segment header has numbers that no log comes to"));
        }
        Ok(SegmentHeader {
            version: raw.version,
            database: u128::from_le_bytes(raw.database),
            incarnation: raw.incarnation,
            sequence: raw.sequence,
            salt: raw.salt,
            first_lsn: Lsn(raw.first_lsn),
            previous: SegmentEnd {
                segment: raw.previous_sequence,
                last_lsn: Lsn(raw.previous_last_lsn),
                offset: raw.previous_end,
                link: raw.previous_link,
            },
            bytes: raw.bytes,
            created_unix_ns: raw.created_unix_ns,
            prepared_bytes: u64::from(raw.prepared_pages) * PAGE,
        })
    }

    /// What the checksums of this segment's frames start from: bytes of another database, life or segment never
    /// validate (WAL-11).
    pub(crate) fn frame_salt(&self) -> u32 {
        let mut sum = checksum(self.salt, &self.database.to_le_bytes());
        sum = checksum_append(sum, &self.incarnation.to_le_bytes());
        checksum_append(sum, &self.sequence.to_le_bytes())
    }

    /// The frame salt of a header that does not validate as a whole, as far as its bytes are still what they were.
    pub(crate) fn salt_of_damaged(bytes: &[u8; HEADER_BYTES]) -> u32 {
        let raw: RawHeader = bytemuck::pod_read_unaligned(bytes);
        let mut sum = checksum(raw.salt, &raw.database);
        sum = checksum_append(sum, &raw.incarnation.to_le_bytes());
        checksum_append(sum, &raw.sequence.to_le_bytes())
    }

    /// What the first frame links to: the header's own checksum.
    pub(crate) fn link(&self) -> u32 {
        let bytes = self.encode();
        u32::from_le_bytes([bytes[124], bytes[125], bytes[126], bytes[127]])
    }
}

/// Bytes of every frame but a transaction's.
pub(crate) const GROUP_BYTES: u64 = frame_len(size_of::<GroupInfo>() as u64);

/// The payload of every frame but a transaction's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GroupInfo {
    /// When it was written, in nanoseconds since 1970-01-01 UTC.
    pub(crate) unix_ns: u64,
    /// LSN up to which everything was known to be durable then.
    pub(crate) durable: u64,
}

impl GroupInfo {
    pub(crate) fn decode(payload: &[u8]) -> Option<GroupInfo> {
        bytemuck::try_pod_read_unaligned(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody's bits have flipped: the checksum holds.
    #[test]
    fn numbers_that_no_log_comes_to_are_damage() {
        let numbered = |incarnation, (segment, before), (sequence, first)| {
            let previous = SegmentEnd { segment, last_lsn: Lsn(before), ..SegmentEnd::default() };
            let first_lsn = Lsn(first);
            let header =
                SegmentHeader { incarnation, sequence, previous, first_lsn, ..SegmentHeader::unknown() };
            SegmentHeader::decode(Path::new("s"), &header.encode())
        };
        let with = |incarnation, before, first| numbered(incarnation, (0, before), (1, first));
        let highest = (1 << 48) - (1 << 40) - 1;
        assert!(with(1, 0, 1).is_ok() && with(highest, highest - 1, highest).is_ok());
        let odd = [
            (highest + 1, 0, 1),
            (u64::MAX, 0, 1),
            (1, 0, highest + 1),
            (1, 0, u64::MAX),
            // A log that goes back, or stands still.
            (1, 0, 0),
            (1, 5, 5),
            (1, 6, 5),
            (1, u64::MAX, 5),
        ];
        for (incarnation, before, first) in odd {
            let found = with(incarnation, before, first);
            assert!(matches!(found, Err(LogError::Damaged(_))), "{incarnation:#x} {before:#x} {first:#x}");
        }
        // A segment that follows itself, or a later one.
        assert!(numbered(1, (2, 5), (3, 6)).is_ok() && numbered(1, (0, 5), (u64::MAX, 6)).is_ok());
        for (segment, sequence) in [(0, 0), (3, 3), (4, 3), (1 << 40, 3), (u64::MAX, 3), (u64::MAX, u64::MAX)]
        {
            let found = numbered(1, (segment, 5), (sequence, 6));
            assert!(matches!(found, Err(LogError::Damaged(_))), "{segment} {sequence}");
        }
    }
}
