//! Reading a snapshot: opening checks header, footer and directory; loading checks every block it uses.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_core::parts::{ColumnLoader, LoadedColumn, WorldBuilder};
use ecsdb_core::{ComponentId, World};
use ecsdb_io::compress::{Encoding, decompress};
use ecsdb_io::frame::{self, FrameDamage, FrameHeader};
use ecsdb_io::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use ecsdb_io::sync::{Mutex, help, thread};
use ecsdb_io::{FileKind, OpenMode, Urgency, Vfs, VfsFile};

use crate::directory::{ColumnEntry, Directory, FileRef};
use crate::encode::each;
use crate::error::{Error, Result};
use crate::format::{
    ALLOCATORS, BLOCK, BlockHeader, DIRECTORY, ENTITY_IDS, Footer, Header, RAW_LEN_MAX, RESOURCES, SCHEMA,
};
use crate::manifest::SnapshotEntry;
use crate::output::Stopped;
use crate::own_blocks::{OTHER_BLOCK, OwnBlocks};
use crate::window::Window;

/// Bytes that are read back in one step.
const MEGABYTE: u64 = 1 << 20;
/// Bytes of blocks side by side that are read at once: they are still in a core's own cache when they are verified, and when they are copied.
const RUN_BYTES: u64 = 256 << 10;
/// Bytes of blocks that the operating system is asked to have ready.
const READ_AHEAD_BYTES: u64 = 8 << 20;

/// An opened snapshot: its header, footer and directory hold.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    header: Header,
    directory: Directory,
    directory_at: u64,
    bytes: u64,
}

/// How a snapshot is loaded.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Threads that read, verify and decompress; 1 does everything on the calling thread.
    pub threads: usize,
    /// Load columns as the Rust types of this program, where it has them; otherwise as bare bytes.
    pub register: bool,
}

/// A loaded snapshot.
pub struct Loaded {
    /// The world in it.
    pub world: World,
    /// Bytes read, of all files.
    pub bytes_read: u64,
    /// Bytes of all columns, decompressed.
    pub raw_bytes: u64,
}

/// A file that has blocks, and what its frames' checksums start from.
pub(crate) struct Source {
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    salt: u32,
    len: u64,
}

impl Snapshot {
    /// Opens a snapshot file. O(bytes of the directory).
    ///
    /// # Errors
    /// When a file operation fails, or the file is damaged, cut short, or of a newer version.
    pub fn open(vfs: &dyn Vfs, path: &Path) -> Result<Snapshot> {
        let file = vfs.open(path, OpenMode::Read)?;
        let bytes = file.len()?;
        let header = read_header(&*file, path)?;
        if bytes < (size_of::<Footer>() + 96) as u64 {
            return Err(Error::damaged(path, bytes, "the file is cut short: it has no valid footer"));
        }
        let mut footer = [0; 32];
        file.read_exact_at(&mut footer, bytes - 32)?;
        let footer = Footer::decode(path, &footer, bytes, &header)?;
        let (frame, payload) = read_frame(&*file, path, footer.directory, bytes - 32, header.salt)?;
        if frame.kind != DIRECTORY {
            return Err(Error::damaged(
                path,
                footer.directory,
                "the footer points to a frame that is no directory",
            ));
        }
        let directory = Directory::decode(path, footer.directory, &payload, header.version)?;
        Ok(Snapshot { path: path.into(), file, header, directory, directory_at: footer.directory, bytes })
    }

    /// What the header of a snapshot file says, whatever has become of the rest: an increment needs no more of the files that it has blocks in. O(1).
    ///
    /// # Errors
    /// As [`Snapshot::open`], of the header alone.
    pub fn header_of(vfs: &dyn Vfs, path: &Path) -> Result<Header> {
        read_header(&*vfs.open(path, OpenMode::Read)?, path)
    }

    /// What its header says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Checks that this is the file which a manifest means.
    ///
    /// # Errors
    /// When it is of another database, or another snapshot.
    pub fn expect(&self, database: u128, entry: &SnapshotEntry) -> Result<()> {
        let header = &self.header;
        if header.database != database {
            let path = self.path.clone();
            return Err(Error::OtherDatabase { path, found: header.database, expected: database });
        }
        let found = SnapshotEntry::new(header, &self.directory, self.bytes);
        if found != entry.with_salt_of(&found) {
            return Err(Error::damaged(
                &self.path,
                0,
                "the header is of another snapshot than the manifest names",
            ));
        }
        Ok(())
    }

    /// Its directory.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The numbers of the other snapshot files it needs.
    pub fn needs(&self) -> impl Iterator<Item = u64> + '_ {
        self.directory.numbers().filter(|&file| file != self.header.sequence)
    }

    /// Looks at the heads of the files that it has blocks in: whether they are there, and those that it was written with.
    ///
    /// # Errors
    /// When one is not, or cannot be read.
    pub fn check_files(&self, vfs: &dyn Vfs) -> Result<()> {
        self.sources(vfs).map(drop)
    }

    /// Reads and verifies every frame of this file, in order, up to the directory, and from the disk itself where the platform can. O(bytes of
    /// the file).
    ///
    /// # Errors
    /// The first damage found.
    pub fn verify_own(&self) -> Result<()> {
        self.read_back(&Urgency::of_caller(), &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Snapshot::verify_own`]; `progress` is told how many bytes were read, about once a megabyte.
    ///
    /// # Errors
    /// The first damage found, or [`Error::Cancelled`].
    pub fn read_back(
        &self,
        urgency: &Urgency,
        progress: &mut (dyn FnMut(u64) -> ControlFlow<Stopped> + Send),
    ) -> Result<()> {
        self.file.pass_cache_by();
        let mut at = 96;
        let (mut position, mut link) = (0, 0);
        let (mut window, mut raw) = (Window::default(), Vec::new());
        let mut blocks = OwnBlocks::of(&self.directory, self.header.sequence);
        let mut after_blocks = [SCHEMA, RESOURCES, ALLOCATORS, DIRECTORY].into_iter();
        let mut frames = |megabyte: u64| -> Result<()> {
            while at <= self.directory_at.min(megabyte) {
                let (header, payload) =
                    frame_at(&mut window, &*self.file, &self.path, at, self.bytes - 32, self.header.salt)?;
                if (header.sequence, header.link) != (position, link) {
                    return Err(Error::damaged(
                        &self.path,
                        at,
                        "a frame does not follow from the one before",
                    ));
                }
                if header.kind == BLOCK {
                    let (block, stored) = split_block(&self.path, at, payload)?;
                    if !blocks.take(at, &header, &block) {
                        return Err(Error::damaged(&self.path, at, OTHER_BLOCK));
                    }
                    unpack(&self.path, at, &block, stored, &mut raw)?;
                } else if !blocks.were_all() || after_blocks.next() != Some(header.kind) {
                    let what = "there is something else than the directory says";
                    return Err(Error::damaged(&self.path, at, what));
                }
                position += 1;
                // The link is the header checksum, which follows from the fields that were just verified.
                link = frame::header_sum(&header.encode(self.header.salt));
                at += header.frame_len();
            }
            match progress(at) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(Stopped) => Err(Error::Cancelled),
            }
        };
        each(urgency, (self.directory_at / MEGABYTE) as usize + 1, |i| frames((i as u64 + 1) * MEGABYTE))
    }

    /// Loads the world. The files it points to lie beside it. O(bytes), in parallel.
    ///
    /// # Errors
    /// When a file is missing, a block is damaged, or the parts make no world; [`Error::is_damage`] tells whether
    /// another snapshot may do.
    pub fn load(&self, vfs: &dyn Vfs, options: LoadOptions) -> Result<Loaded> {
        let meta = |cause| Error::World { path: self.path.clone(), offset: self.directory_at, cause };
        let mut builder = WorldBuilder::new();
        let metadata = self.metadata()?;
        builder.schema(&metadata.schema).map_err(meta)?;
        if options.register {
            builder.register_linked().map_err(meta)?;
        }
        let sources = self.sources(vfs)?;
        let read = AtomicU64::new(self.bytes - self.directory_at);
        let raw = AtomicU64::new(0);
        let columns = self.load_columns(&sources, &builder.columns(), options.threads, &read, &raw)?;
        let mut columns = columns.into_iter();
        // Archetypes that differed in transient components only become one: with room for the largest chunks.
        let mut rows_max: rustc_hash::FxHashMap<&[u32], u32> = rustc_hash::FxHashMap::default();
        for (rows_log2, components) in &self.directory.archetypes {
            let most = rows_max.entry(components).or_default();
            *most = (*most).max(*rows_log2);
        }
        for chunk in &self.directory.chunks {
            let (_, components) = &self.directory.archetypes[chunk.archetype as usize];
            let rows_log2 = &rows_max[&**components];
            let components: Vec<ComponentId> = components.iter().map(|&id| ComponentId(id)).collect();
            let own: Vec<LoadedColumn> = columns.by_ref().take(components.len() + 1).collect();
            builder.chunk(chunk.uid, *rows_log2, &components, own).map_err(meta)?;
        }
        self.load_resources(&mut builder, &metadata.resources)?;
        let world = builder.finish(ecsdb_core::Lsn(self.header.lsn), &metadata.allocators).map_err(meta)?;
        Ok(Loaded { world, bytes_read: read.into_inner(), raw_bytes: raw.into_inner() })
    }

    fn load_columns(
        &self,
        sources: &[Source],
        loader: &ColumnLoader,
        threads: usize,
        read: &AtomicU64,
        raw: &AtomicU64,
    ) -> Result<Vec<LoadedColumn>> {
        /// Columns that a thread takes at once.
        const BATCH: usize = 64;
        let owners: Vec<(u64, u32)> = self.directory.owners().collect();
        let columns = &self.directory.columns;
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Vec<LoadedColumn>)>> = Mutex::new(Vec::new());
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            let (mut window, mut raw_bytes) = (Window::default(), Vec::new());
            loop {
                let start = next.fetch_add(BATCH, Ordering::Relaxed);
                if start >= columns.len() || failed.lock().is_some() {
                    return;
                }
                let mut batch = Vec::with_capacity(BATCH);
                let end = (start + BATCH).min(columns.len());
                let mut read_to = start;
                for i in start..end {
                    let source = &sources[columns[i].file as usize];
                    let loaded = (|| {
                        if i == read_to {
                            read_to += source.read_run(&columns[i..end], &mut window)?;
                        }
                        load_column(source, &columns[i], owners[i], loader, &mut window, &mut raw_bytes)
                    })();
                    match loaded {
                        Ok((column, raw_len)) => {
                            read.fetch_add(u64::from(columns[i].len), Ordering::Relaxed);
                            raw.fetch_add(raw_len, Ordering::Relaxed);
                            batch.push(column);
                        }
                        Err(e) => {
                            failed.lock().get_or_insert(e);
                            return;
                        }
                    }
                }
                done.lock().push((start, batch));
            }
        };
        thread::scope(|scope| {
            for _ in 1..threads.max(1) {
                help(scope, work);
            }
            work();
        });
        if let Some(e) = failed.into_inner() {
            return Err(e);
        }
        let mut done = done.into_inner();
        done.sort_by_key(|(start, _)| *start);
        Ok(done.into_iter().flat_map(|(_, batch)| batch).collect())
    }

    fn load_resources(&self, builder: &mut WorldBuilder, bytes: &[u8]) -> Result<()> {
        let short = || Error::damaged(&self.path, self.directory_at, "the resources are cut short");
        let mut rest = bytes;
        let mut take = |n: usize| -> Result<&[u8]> {
            let (head, tail) = rest.split_at_checked(n).ok_or_else(short)?;
            rest = tail;
            Ok(head)
        };
        let n: u32 = bytemuck::pod_read_unaligned(take(4)?);
        for _ in 0..n {
            let component: u32 = bytemuck::pod_read_unaligned(take(4)?);
            let len: u32 = bytemuck::pod_read_unaligned(take(4)?);
            let changed: u64 = bytemuck::pod_read_unaligned(take(8)?);
            let value = take(len as usize)?;
            builder.resource(ComponentId(component), changed, value).map_err(|cause| Error::World {
                path: self.path.clone(),
                offset: self.directory_at,
                cause,
            })?;
        }
        Ok(())
    }

    /// The frames before the directory that hold no blocks.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let end = self.directory_at;
        // They lie right before the directory; blocks end where the last one of this file does.
        let own = self.directory.numbers().position(|file| file == self.header.sequence);
        let mut at = self
            .directory
            .columns
            .iter()
            .filter(|column| Some(column.file as usize) == own)
            .map(ColumnEntry::end)
            .max()
            .unwrap_or(96);
        let mut next = |kind: u8| -> Result<Vec<u8>> {
            let (header, payload) = read_frame(&*self.file, &self.path, at, end, self.header.salt)?;
            if header.kind != kind {
                return Err(Error::damaged(
                    &self.path,
                    at,
                    format!("expected frame kind {kind}, found {}", header.kind),
                ));
            }
            at += header.frame_len();
            Ok(payload)
        };
        Ok(Metadata { schema: next(SCHEMA)?, resources: next(RESOURCES)?, allocators: next(ALLOCATORS)? })
    }

    pub(crate) fn sources(&self, vfs: &dyn Vfs) -> Result<Vec<Source>> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let open = |&FileRef { sequence, salt, salt_known }: &FileRef| {
            if sequence == self.header.sequence {
                return Ok(Source {
                    file: self.file.clone(),
                    path: self.path.clone(),
                    salt: self.header.salt,
                    len: self.bytes,
                });
            }
            let path = dir.join(FileKind::Snapshot.name(sequence));
            let file = vfs.open(&path, OpenMode::Read).map_err(|e| {
                if e.is_not_found() {
                    Error::MissingParent { path: self.path.clone(), missing: path.clone() }
                } else {
                    e.into()
                }
            })?;
            let header = read_header(&*file, &path)?;
            if header.database != self.header.database
                || header.sequence != sequence
                || (salt_known != 0 && header.salt != salt)
            {
                return Err(Error::damaged(&path, 0, "the header is of another file than the name"));
            }
            let len = file.len()?;
            Ok(Source { file, path, salt: header.salt, len })
        };
        self.directory.files.iter().map(open).collect()
    }
}

impl Source {
    /// Reads blocks at the start of `entries` that lie side by side in this file, with one read, and says how many.
    fn read_run(&self, entries: &[ColumnEntry], window: &mut Window) -> Result<usize> {
        let first = &entries[0];
        let follows = |pair: &&[ColumnEntry]| {
            pair[1].file == first.file
                && pair[1].offset == pair[0].end()
                && pair[1].end() - first.offset <= RUN_BYTES
        };
        let n = 1 + entries.windows(2).take_while(follows).count();
        let end = entries[n - 1].end();
        if end > self.len {
            return Err(Error::damaged(
                &self.path,
                first.offset,
                "a block goes on beyond the end of the file",
            ));
        }
        window.read(&*self.file, first.offset, (end - first.offset) as usize)?;
        self.file.will_need(end, READ_AHEAD_BYTES);
        Ok(n)
    }

    /// A block of a directory entry, the one at `at`, verified: its header, its stored bytes with the header before them, and
    /// where the next one begins.
    fn block<'w>(
        &self,
        entry: &ColumnEntry,
        at: u64,
        (uid, rows): (u64, u32),
        window: &'w mut Window,
    ) -> Result<(BlockHeader, &'w [u8], u64)> {
        let Source { file, path, salt, len } = self;
        // The directory's checksum vouches for the length; it is still held against the file's.
        if entry.end() > *len {
            return Err(Error::damaged(path, at, "a block goes on beyond the end of the file"));
        }
        let (header, payload) = frame_at(window, &**file, path, at, entry.end(), *salt)?;
        let (block, _) = split_block(path, at, payload)?;
        let expected = (BLOCK, uid, entry.changed, entry.component, rows);
        if (header.kind, block.chunk, block.changed, block.component, block.rows) != expected
            || (at == entry.offset && header.len != entry.len)
        {
            return Err(Error::damaged(path, at, OTHER_BLOCK));
        }
        Ok((block, payload, at + header.frame_len()))
    }

    /// All blocks of a directory entry, one after the other, as [`Source::block`] gives them.
    pub(crate) fn each_block(
        &self,
        entry: &ColumnEntry,
        owner: (u64, u32),
        window: &mut Window,
        mut each: impl FnMut(&BlockHeader, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = entry.offset;
        while at < entry.end() {
            let (block, payload, next) = self.block(entry, at, owner, window)?;
            each(&block, payload)?;
            at = next;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
pub(crate) struct Metadata {
    pub(crate) schema: Vec<u8>,
    pub(crate) resources: Vec<u8>,
    pub(crate) allocators: Vec<u8>,
}

fn read_header(file: &dyn VfsFile, path: &Path) -> Result<Header> {
    let mut bytes = [0; 96];
    file.read_exact_at(&mut bytes, 0)?;
    Header::decode(path, &bytes)
}

/// Reads one frame. Its length is believed once the header's checksum holds, and only up to `end` (REC-1).
fn frame_at<'w>(
    window: &'w mut Window,
    file: &dyn VfsFile,
    path: &Path,
    at: u64,
    end: u64,
    salt: u32,
) -> Result<(FrameHeader, &'w [u8])> {
    let room = end.saturating_sub(at);
    if room < frame::HEADER_LEN as u64 {
        return Err(Error::frame(path, at, FrameDamage::HeaderCut));
    }
    let head = window.get(file, at, frame::HEADER_LEN, end)?;
    let header = FrameHeader::decode(head, salt).map_err(|damage| Error::frame(path, at, damage))?;
    let available = room - frame::HEADER_LEN as u64;
    if u64::from(header.len) > available {
        return Err(Error::frame(path, at, FrameDamage::PayloadCut { len: header.len, available }));
    }
    let payload = window.get(file, at + frame::HEADER_LEN as u64, header.len as usize, end)?;
    header.verify(payload, salt).map_err(|damage| Error::frame(path, at, damage))?;
    Ok((header, payload))
}

/// As [`frame_at`], for a single frame.
fn read_frame(
    file: &dyn VfsFile,
    path: &Path,
    at: u64,
    end: u64,
    salt: u32,
) -> Result<(FrameHeader, Vec<u8>)> {
    let mut window = Window::default();
    let (header, payload) = frame_at(&mut window, file, path, at, end, salt)?;
    Ok((header, payload.to_vec()))
}

fn split_block<'a>(path: &Path, at: u64, payload: &'a [u8]) -> Result<(BlockHeader, &'a [u8])> {
    match payload.split_at_checked(size_of::<BlockHeader>()) {
        Some((head, stored)) => Ok((bytemuck::pod_read_unaligned(head), stored)),
        None => Err(Error::damaged(path, at, "a block is shorter than its header")),
    }
}

/// The raw bytes of a block: `stored` itself, or what it decompresses to, in `into`.
fn unpack<'a>(
    path: &Path,
    at: u64,
    block: &BlockHeader,
    stored: &'a [u8],
    into: &'a mut Vec<u8>,
) -> Result<&'a [u8]> {
    match Encoding::from_byte(block.encoding) {
        Some(Encoding::Raw) if stored.len() == block.raw_len as usize => Ok(stored),
        Some(Encoding::Zstd) if block.raw_len as usize <= RAW_LEN_MAX => {
            decompress(stored, block.raw_len as usize, into)
                .map_err(|e| Error::damaged(path, at, format!("a block does not decompress: {e}")))?;
            Ok(into)
        }
        _ => Err(Error::damaged(path, at, "a block has an unknown encoding or a wrong length")),
    }
}

fn load_column(
    source: &Source,
    entry: &ColumnEntry,
    owner: (u64, u32),
    loader: &ColumnLoader,
    window: &mut Window,
    raw_bytes: &mut Vec<u8>,
) -> Result<(LoadedColumn, u64)> {
    let (path, at, rows) = (&source.path, entry.offset, owner.1);
    let (block, payload, mut next) = source.block(entry, at, owner, window)?;
    let mut raw = unpack(path, at, &block, &payload[size_of::<BlockHeader>()..], raw_bytes)?;
    let mut all;
    if next < entry.end() {
        all = raw.to_vec();
        while next < entry.end() {
            let (part, payload, after) = source.block(entry, next, owner, window)?;
            let stored = &payload[size_of::<BlockHeader>()..];
            all.extend_from_slice(unpack(path, next, &part, stored, raw_bytes)?);
            next = after;
        }
        raw = &all;
    }
    let component = (block.component != ENTITY_IDS).then_some(ComponentId(block.component));
    let column = loader.load(component, rows as usize, block.changed, raw).map_err(|cause| Error::World {
        path: path.clone(),
        offset: at,
        cause,
    })?;
    Ok((column, raw.len() as u64))
}
