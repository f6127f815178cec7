//! The manifest: which snapshots and log segments are live, and how far every allocator has come.
//!
//! Each change publishes a new generation under a new name; the one before is kept, so that a damaged newest one
//! is no loss. A file is deleted only after the manifest that no longer needs it is durable (CKP-3, CKP-4).

use std::path::Path;

use bytemuck::{Pod, Zeroable};
use ecsdb_core::Lsn;
use ecsdb_io::frame::{self, FrameHeader};
use ecsdb_io::{
    FileKind, FileOp, IoError, Layout, Vfs, may_be_left_over, numbered_files, publish, read_file,
};

use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::format::Header;

const MAGIC: [u8; 8] = *b"ECSDBMAN";
const VERSION: u32 = 5;
/// The oldest version that is read. It has no [`Kept`], and nothing is being set aside.
const VERSION_MIN: u32 = 2;
const KIND: u8 = 1;
/// Largest manifest that is read: over a million snapshots.
const BYTES_MAX: u64 = 64 << 20;
/// Generations kept.
const KEPT: u64 = 2;

/// One generation of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The database.
    pub database: u128,
    /// Counts the manifests; names the file.
    pub generation: u64,
    /// Counts the openings for writing.
    pub incarnation: u64,
    /// The next snapshot file's number: never used twice.
    pub next_snapshot: u64,
    /// The oldest log segment that is still needed: older files in the log directory are garbage.
    pub first_segment: u64,
    /// The oldest archived segment that is kept.
    pub first_archived: u64,
    /// The number after the last segment that was archived: what lies in the archive from there on, and is not the log's yet, is none of this log's, which
    /// has archived nothing under those numbers (CKP-11).
    pub archive_end: u64,
    /// Archived segments that were given up: the only ones that are deleted (CKP-11).
    pub archive_gone: Numbers,
    /// At least this number of the next log segment: never used twice.
    pub next_segment: u64,
    /// An LSN that was durable when this was written: a log that ends below it has lost something.
    pub durable_lsn: u64,
    /// The highest LSN ever seen, in whatever was cut off the log, too: the next one is above it (WAL-7).
    pub seen_lsn: u64,
    /// When this was written, in nanoseconds since 1970-01-01 UTC.
    pub written_unix_ns: u64,
    /// What of the past is kept, as it was said last.
    pub kept: Kept,
    /// The incarnation whose salvage is under way: until it is done, what this manifest has no use for is set aside, not deleted
    /// (REC-17). 0 for none.
    pub salvage: u64,
    /// Log segments below this number are of before a salvage, which had set aside all that it found: one that turns up is set aside, too.
    pub salvaged_segments: u64,
    /// Number and salt of a log segment that had a durable transaction when this was written: a segment of that number with another salt is
    /// of another life of the database (REC-13). (0, 0) when none is known.
    pub log_mark: (u64, u32),
    /// The live snapshots, oldest first.
    pub snapshots: Vec<SnapshotEntry>,
    /// Snapshots that were not where they should be, oldest first: live again once they are (CKP-11).
    pub away: Vec<SnapshotEntry>,
    /// Snapshots that were given up: the only ones whose files are deleted, and then forgotten (CKP-11).
    pub gone: Vec<SnapshotEntry>,
}

/// The numbers from one to another, which is not among them. 16 bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Numbers {
    /// The first.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

impl Numbers {
    /// True when `number` is among them.
    pub fn contains(self, number: u64) -> bool {
        (self.from..self.to).contains(&number)
    }
}

/// What of the past is kept. It holds until something else is said, since a setting that is not given gives nothing up (CKP-11).
/// 40 bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Kept {
    /// At most so many snapshots; 0 for no such limit.
    pub snapshots_max: u64,
    /// Nothing that is only good for going back further than so many nanoseconds; 0 for no such limit.
    pub age_max_ns: u64,
    /// At most so many bytes of snapshots and archived log; 0 for no such limit.
    pub bytes_max: u64,
    /// 1 if log that recovery does not need goes to an archive; 0 if not.
    pub archive: u64,
    /// zstd level of archived segments; 0 for segments as they are.
    pub archive_level: u64,
}

impl Kept {
    /// What holds where it is not known what was said, and there is an archive.
    pub const EVERYTHING: Kept =
        Kept { snapshots_max: u64::MAX, age_max_ns: 0, bytes_max: 0, archive: 1, archive_level: 3 };
}

/// A snapshot. 56 bytes in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SnapshotEntry {
    /// The file's number.
    pub sequence: u64,
    /// LSN of the last transaction in it.
    pub lsn: u64,
    /// When it was begun, in nanoseconds since 1970-01-01 UTC.
    pub created_unix_ns: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// The file it is an increment of; 0 for a full one.
    pub parent: u64,
    /// The oldest file that it has blocks in: every snapshot file from that one to this one is kept (CKP-5).
    pub base: u64,
    /// The file's salt, or [`SnapshotEntry::ANY_SALT`].
    pub salt: u64,
}

/// The same before version 4.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SnapshotEntry3 {
    sequence: u64,
    lsn: u64,
    created_unix_ns: u64,
    bytes: u64,
    parent: u64,
    base: u64,
}

impl From<SnapshotEntry3> for SnapshotEntry {
    fn from(old: SnapshotEntry3) -> Self {
        let SnapshotEntry3 { sequence, lsn, created_unix_ns, bytes, parent, base } = old;
        SnapshotEntry { sequence, lsn, created_unix_ns, bytes, parent, base, salt: SnapshotEntry::ANY_SALT }
    }
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct FileHeader {
    magic: [u8; 8],
    version: u32,
    salt: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields {
    database: [u8; 16],
    generation: u64,
    incarnation: u64,
    next_snapshot: u64,
    first_segment: u64,
    first_archived: u64,
    next_segment: u64,
    durable_lsn: u64,
    seen_lsn: u64,
    written_unix_ns: u64,
    snapshots: u64,
}

/// What version 3 has between the fields and the snapshots.
#[derive(Clone, Copy, Pod, Zeroable, Default)]
#[repr(C)]
struct Fields3 {
    kept: Kept,
    salvage: u64,
}

/// What version 4 has behind that.
#[derive(Clone, Copy, Pod, Zeroable, Default)]
#[repr(C)]
struct Fields4 {
    salvaged_segments: u64,
    log_segment: u64,
    log_salt: u64,
    away: u64,
    gone: u64,
}

/// What version 5 has behind that.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Fields5 {
    archive_end: u64,
    archive_gone: Numbers,
}

const _: () = assert!(size_of::<FileHeader>() == 16 && size_of::<Fields>() == 96);
const _: () = assert!(size_of::<Fields3>() == 48 && size_of::<Fields4>() == 40 && size_of::<Fields5>() == 24);
const _: () = assert!(size_of::<SnapshotEntry>() == 56 && size_of::<SnapshotEntry3>() == 48);

impl SnapshotEntry {
    /// Stands for a salt that is not known.
    pub const ANY_SALT: u64 = u64::MAX;

    /// The empty world, before the first transaction: no file.
    pub const EMPTY: SnapshotEntry = SnapshotEntry {
        sequence: 0,
        lsn: 0,
        created_unix_ns: 0,
        bytes: 0,
        parent: 0,
        base: 0,
        salt: SnapshotEntry::ANY_SALT,
    };

    /// This one, with the salt of `other` where its own is not known.
    pub(crate) fn with_salt_of(self, other: &SnapshotEntry) -> Self {
        let salt = if self.salt == SnapshotEntry::ANY_SALT { other.salt } else { self.salt };
        SnapshotEntry { salt, ..self }
    }

    /// The files `first` to `last`, of which nothing else is known.
    pub const fn files(first: u64, last: u64) -> Self {
        SnapshotEntry { sequence: last, base: first, ..SnapshotEntry::EMPTY }
    }

    /// True when it is a number that was given to a snapshot file, of which nothing was known yet but its salt.
    pub fn is_reserved(&self) -> bool {
        self.bytes == 0 && self.salt != SnapshotEntry::ANY_SALT
    }

    /// True when it has blocks in snapshot file `sequence`, or may have.
    pub fn uses(&self, sequence: u64) -> bool {
        (self.base..=self.sequence).contains(&sequence)
    }

    /// The entry of a snapshot file of `bytes` bytes.
    pub fn new(header: &Header, directory: &Directory, bytes: u64) -> Self {
        SnapshotEntry {
            sequence: header.sequence,
            lsn: header.lsn,
            created_unix_ns: header.created_unix_ns,
            bytes,
            parent: header.parent,
            base: directory.numbers().min().unwrap_or(header.sequence).min(header.sequence),
            salt: header.salt.into(),
        }
    }
}

impl Manifest {
    /// The manifest of a new database with an identity of its own.
    pub fn with_new_identity(vfs: &dyn Vfs) -> Self {
        Manifest::new(u128::from(vfs.random_u64()) << 64 | u128::from(vfs.random_u64()))
    }

    /// The manifest of a new database.
    pub fn new(database: u128) -> Self {
        Manifest {
            database,
            generation: 0,
            incarnation: 0,
            next_snapshot: 1,
            first_segment: 1,
            first_archived: 1,
            archive_end: 1,
            archive_gone: Numbers { from: 1, to: 1 },
            next_segment: 1,
            durable_lsn: 0,
            seen_lsn: 0,
            written_unix_ns: 0,
            kept: Kept::default(),
            salvage: 0,
            salvaged_segments: 0,
            log_mark: (0, 0),
            snapshots: Vec::new(),
            away: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// True when a snapshot that is live, or away, has blocks in snapshot file `sequence`, or may have.
    pub fn uses(&self, sequence: u64) -> bool {
        self.snapshots.iter().chain(&self.away).any(|entry| entry.uses(sequence))
    }

    /// The number of the first segment that counts in the archive; where none does, that of the first one that will. What was archived before a salvage
    /// leads to nothing that has been since.
    pub fn archived_from(&self) -> u64 {
        let salvaged = if self.salvage == 0 { self.salvaged_segments } else { 0 };
        match self.first_archived.max(salvaged) {
            from if from < self.archive_end => from,
            from => from.max(self.first_segment),
        }
    }

    /// Whether segment `number` should be in the archive.
    pub fn is_archived(&self, number: u64) -> bool {
        (self.archived_from()..self.archive_end).contains(&number)
    }

    /// True when snapshot file `sequence` with this salt was given up: nothing uses it, and something that is [`Manifest::gone`] did.
    pub fn has_given_up(&self, sequence: u64, salt: u32) -> bool {
        let is_it = |entry: &SnapshotEntry| {
            entry.uses(sequence)
                && (entry.sequence != sequence
                    || [SnapshotEntry::ANY_SALT, salt.into()].contains(&entry.salt))
        };
        self.gone.iter().any(is_it) && !self.uses(sequence)
    }

    /// Notes that what was archived ends before number `end`.
    pub fn note_archived(&mut self, end: u64) {
        if end <= self.archive_end {
            return;
        }
        if self.archived_from() >= self.archive_end {
            // It begins anew: what was before is another archive, or none.
            self.first_archived = self.first_archived.max(self.first_segment);
        }
        self.archive_end = end;
    }

    /// Gives up the archived segments before number `first`, as far as this log has archived them.
    pub fn give_up_archive_before(&mut self, first: u64) {
        let first = first.min(self.archive_end);
        if first > self.first_archived {
            let gone = self.archive_gone;
            let from = if gone.to == self.first_archived { gone.from } else { self.first_archived };
            self.archive_gone = Numbers { from, to: first };
            self.first_archived = first;
        }
    }

    /// Gives up all snapshots before file `sequence`.
    pub fn give_up_before(&mut self, sequence: u64) {
        for list in [&mut self.snapshots, &mut self.away] {
            self.gone.extend(list.extract_if(.., |entry| entry.sequence < sequence));
        }
    }

    /// Whether the file of this name in `dir` is one that was about to be published when its writer was killed.
    ///
    /// # Errors
    /// When a file operation fails.
    pub fn is_left_over(vfs: &dyn Vfs, dir: &Path, name: &str) -> Result<bool> {
        let is_named = name.strip_suffix(".tmp").is_some_and(|name| FileKind::Manifest.parse(name).is_some());
        Ok(is_named && may_be_left_over(vfs, &dir.join(name), &MAGIC)?)
    }

    /// Publishes this as the next generation and removes all but the newest two.
    ///
    /// # Errors
    /// When a file operation fails; the generation before is live then. After an error of the removal, the new one
    /// is live, and the next publication tries again.
    pub fn publish(&mut self, vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
        let mut next =
            Manifest { generation: self.generation + 1, written_unix_ns: vfs.now_unix_ns(), ..self.clone() };
        let mut path = layout.file(FileKind::Manifest, next.generation);
        // CKP-10: what somebody has put there stays, and an attempt that failed may have.
        while vfs.file_len(&path).map_err(Error::Io)?.is_some() {
            next.generation += 1;
            path = layout.file(FileKind::Manifest, next.generation);
        }
        let bytes = next.encode(vfs.random_u64() as u32);
        publish(vfs, &path, |file| file.write_at(&bytes, 0)).map_err(Error::Io)?;
        // Read back: what cannot be read must not be what deletions rely on (CKP-2).
        next = Manifest::read(vfs, &path)?;
        *self = next;
        let older =
            Manifest::generations(vfs, layout)?.into_iter().rev().filter(|old| *old < self.generation);
        let mut kept = 1;
        for old in older {
            let path = layout.file(FileKind::Manifest, old);
            // CKP-10: what is another database's, or cannot be read, is left alone, and nothing to fall back to.
            if Manifest::read(vfs, &path).is_ok_and(|old| old.database == self.database) {
                kept += 1;
                if kept > KEPT {
                    vfs.remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses a directory in which this one, which was published there, is not: it was moved or unmounted, and its name leads to what is in its
    /// place.
    ///
    /// # Errors
    /// When it is not that directory. A file that cannot be read is no word about that.
    pub fn check_there(&self, vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
        let path = layout.file(FileKind::Manifest, self.generation);
        let what = match Manifest::read(vfs, &path) {
            Err(Error::Io(e)) if e.is_not_found() => {
                "it was moved, or is not mounted any more: the newest manifest is not there"
            }
            Ok(other) if other.database != self.database => "by now it is another database's",
            _ => return Ok(()),
        };
        Err(IoError::new(FileOp::Lock, layout.root(), std::io::Error::other(what)).into())
    }

    /// The generations that are there, oldest first.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn generations(vfs: &dyn Vfs, layout: &Layout) -> Result<Vec<u64>> {
        let files = numbered_files(vfs, layout.dir_of(FileKind::Manifest), &[FileKind::Manifest])?;
        Ok(files.into_iter().map(|file| file.number).collect())
    }

    /// Reads and verifies a manifest file.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, of another generation than its name says, or of a newer version.
    pub fn read(vfs: &dyn Vfs, path: &Path) -> Result<Manifest> {
        let manifest = Manifest::decode(path, &read_file(vfs, path, BYTES_MAX)?)?;
        let number = path.file_name().and_then(|name| FileKind::Manifest.parse(&name.to_string_lossy()));
        if number.is_some_and(|number| number != manifest.generation) {
            // A copy under another number would be taken for a newer one.
            let what = format!("it is the manifest of generation {}", manifest.generation);
            return Err(Error::damaged(path, 16, what));
        }
        Ok(manifest)
    }

    fn encode(&self, salt: u32) -> Vec<u8> {
        let header = FileHeader { magic: MAGIC, version: VERSION, salt };
        let fields = Fields {
            database: self.database.to_le_bytes(),
            generation: self.generation,
            incarnation: self.incarnation,
            next_snapshot: self.next_snapshot,
            first_segment: self.first_segment,
            first_archived: self.first_archived,
            next_segment: self.next_segment,
            durable_lsn: self.durable_lsn,
            seen_lsn: self.seen_lsn,
            written_unix_ns: self.written_unix_ns,
            snapshots: self.snapshots.len() as u64,
        };
        let mut payload = bytemuck::bytes_of(&fields).to_vec();
        payload.extend_from_slice(bytemuck::bytes_of(&Fields3 { kept: self.kept, salvage: self.salvage }));
        payload.extend_from_slice(bytemuck::bytes_of(&Fields4 {
            salvaged_segments: self.salvaged_segments,
            log_segment: self.log_mark.0,
            log_salt: self.log_mark.1.into(),
            away: self.away.len() as u64,
            gone: self.gone.len() as u64,
        }));
        let Manifest { archive_end, archive_gone, .. } = *self;
        payload.extend_from_slice(bytemuck::bytes_of(&Fields5 { archive_end, archive_gone }));
        for list in [&self.snapshots, &self.away, &self.gone] {
            payload.extend_from_slice(bytemuck::cast_slice(list));
        }
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        // The header of the file is not a frame of its own: its sum is the link that the frame vouches for.
        let frame = FrameHeader {
            len: 0,
            payload_sum: 0,
            link: ecsdb_io::checksum(0, &bytes),
            sequence: self.generation,
            kind: KIND,
            flags: 0,
        };
        frame::write_frame(&mut bytes, frame, &payload, salt);
        bytes
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Manifest> {
        let Some((head, rest)) = bytes.split_at_checked(size_of::<FileHeader>()) else {
            return Err(Error::damaged(path, 0, "the file is shorter than its header"));
        };
        let header: FileHeader = bytemuck::pod_read_unaligned(head);
        if header.magic != MAGIC {
            return Err(Error::damaged(path, 0, "this is no manifest: the magic bytes are missing"));
        }
        let (frame, payload) =
            frame::read_frame(rest, header.salt).map_err(|damage| Error::frame(path, 16, damage))?;
        if frame.kind != KIND || frame.link != ecsdb_io::checksum(0, head) {
            return Err(Error::damaged(path, 16, "the frame is not of this file"));
        }
        // The version is believed once its checksum is; versions to come keep the frame (REC-1, REC-10).
        if !(VERSION_MIN..=VERSION).contains(&header.version) {
            Error::check_version(path, header.version, VERSION)?;
        }
        let mut rest = payload;
        let fields: Fields = take(path, &mut rest)?;
        let more: Fields3 = if header.version < 3 { Fields3::default() } else { take(path, &mut rest)? };
        let lists: Fields4 = if header.version < 4 { Fields4::default() } else { take(path, &mut rest)? };
        let Fields5 { archive_end, archive_gone } = match header.version {
            // It did not say: what is before the log is the archive, if any of it is kept, and what is before that was given up, where there is one.
            0..5 => {
                let first = fields.first_archived;
                let from = if more.kept.archive != 0 { 0 } else { first };
                let archive_gone = Numbers { from, to: first };
                Fields5 { archive_end: fields.first_segment.max(first), archive_gone }
            }
            _ => take(path, &mut rest)?,
        };
        let counts = [fields.snapshots, lists.away, lists.gone];
        let entries = counts.iter().try_fold(0u64, |sum, count| sum.checked_add(*count));
        let entry_bytes =
            if header.version < 4 { size_of::<SnapshotEntry3>() } else { size_of::<SnapshotEntry>() };
        if Some(rest.len() as u64) != entries.and_then(|all| all.checked_mul(entry_bytes as u64)) {
            return Err(Error::damaged(path, 16, "the number of snapshots does not fit the length"));
        }
        let mut entries = rest.chunks_exact(entry_bytes).map(|bytes| match header.version {
            0..4 => SnapshotEntry::from(bytemuck::pod_read_unaligned::<SnapshotEntry3>(bytes)),
            _ => bytemuck::pod_read_unaligned(bytes),
        });
        let mut list = |count: u64| entries.by_ref().take(count as usize).collect::<Vec<_>>();
        let [snapshots, away, mut gone] = counts.map(&mut list);
        if header.version < 4 {
            // It did not say: what it has no use for was given up, or never finished.
            gone.push(SnapshotEntry::files(0, u64::MAX));
        }
        let numbers = [fields.durable_lsn, fields.seen_lsn, fields.incarnation];
        let lsns = snapshots.iter().chain(&away).map(|entry| entry.lsn);
        if !lsns.chain(numbers).all(|number| Lsn(number).is_reachable()) {
            return Err(Error::damaged(path, 16, "it has numbers that no database comes to"));
        }
        if frame.sequence != fields.generation {
            return Err(Error::damaged(path, 16, "the generation stands there twice, and differs"));
        }
        Ok(Manifest {
            database: u128::from_le_bytes(fields.database),
            generation: fields.generation,
            incarnation: fields.incarnation,
            next_snapshot: fields.next_snapshot,
            first_segment: fields.first_segment,
            first_archived: fields.first_archived,
            archive_end,
            archive_gone,
            next_segment: fields.next_segment,
            durable_lsn: fields.durable_lsn,
            seen_lsn: fields.seen_lsn,
            written_unix_ns: fields.written_unix_ns,
            kept: match header.version {
                // It did not say, but there is an archive (CKP-11).
                2 if fields.first_archived < fields.first_segment => Kept::EVERYTHING,
                _ => more.kept,
            },
            salvage: more.salvage,
            salvaged_segments: lists.salvaged_segments,
            log_mark: (lists.log_segment, lists.log_salt as u32),
            snapshots,
            away,
            gone,
        })
    }
}

fn take<T: Pod>(path: &Path, rest: &mut &[u8]) -> Result<T> {
    let short = || Error::damaged(path, 16, "the manifest is shorter than its fields");
    let (head, tail) = rest.split_at_checked(size_of::<T>()).ok_or_else(short)?;
    *rest = tail;
    Ok(bytemuck::pod_read_unaligned(head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecsdb_io::Disk;

    #[test]
    fn generations_follow_one_another_and_the_last_two_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let mut manifest = Manifest::new(42);
        for i in 1..=5 {
            manifest.next_snapshot = i + 10;
            manifest.snapshots.push(SnapshotEntry {
                sequence: i,
                lsn: i,
                created_unix_ns: 1,
                bytes: 2,
                parent: 0,
                base: i,
                salt: i,
            });
            manifest.publish(&Disk, &layout).unwrap();
        }
        assert_eq!(Manifest::generations(&Disk, &layout).unwrap(), [4, 5]);
        let back = Manifest::read(&Disk, &layout.file(FileKind::Manifest, 5)).unwrap();
        assert_eq!(back, manifest);
        assert_eq!((back.database, back.next_snapshot, back.snapshots.len()), (42, 15, 5));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut manifest = Manifest::new(7);
        manifest.generation = 3;
        manifest.snapshots = (1..4).map(|i| SnapshotEntry::files(i, i)).collect();
        manifest.away = vec![SnapshotEntry::files(4, 5)];
        manifest.gone = (6..8).map(|i| SnapshotEntry::files(i, i)).collect();
        let good = manifest.encode(99);
        assert_eq!(Manifest::decode(Path::new("m"), &good).unwrap(), manifest);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(Path::new("m"), &bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Manifest::decode(Path::new("m"), &good[..len]).is_err(), "cut to {len}");
        }
    }

    /// Nobody's bits have flipped: the checksum holds.
    #[test]
    fn numbers_that_no_database_comes_to_are_damage() {
        type Set = fn(&mut Manifest, u64);
        let sets: [Set; 5] = [
            |manifest, number| manifest.incarnation = number,
            |manifest, number| manifest.durable_lsn = number,
            |manifest, number| manifest.seen_lsn = number,
            |manifest, number| manifest.snapshots[0].lsn = number,
            |manifest, number| manifest.away[0].lsn = number,
        ];
        let highest = (1 << 48) - (1 << 40) - 1;
        for set in sets {
            let with = |number| {
                let mut manifest = Manifest::new(7);
                manifest.snapshots = vec![SnapshotEntry::files(1, 1)];
                manifest.away = vec![SnapshotEntry::files(2, 2)];
                set(&mut manifest, number);
                Manifest::decode(Path::new("m"), &manifest.encode(99))
            };
            assert!(with(highest).is_ok());
            for number in [highest + 1, 1 << 48, u64::MAX] {
                assert!(matches!(with(number), Err(Error::Damaged { .. })), "{number:#x}");
            }
        }
    }
}
