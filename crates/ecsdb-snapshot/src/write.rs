//! Writing a snapshot of a view: blocks, schema, resources, allocators, directory, footer; published only when
//! whole, and read back before it is called done (CKP-1, CKP-2).

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ecsdb_core::View;
use ecsdb_core::parts::ColumnPart;
use ecsdb_io::compress::{Compressor, Encoding};
use ecsdb_io::frame::{FrameHeader, frame_len, write_frame};
use ecsdb_io::{Vfs, VfsFile, publish};
use rustc_hash::FxHashMap;

use crate::directory::{ChunkEntry, ColumnEntry, Directory};
use crate::error::{Error, Result};
use crate::format::{
    ALLOCATORS, BLOCK, BlockHeader, DIRECTORY, ENTITY_IDS, Footer, Header, RESOURCES, SCHEMA,
};
use crate::read::Snapshot;

/// Bytes gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// How a snapshot is written.
#[derive(Debug, Clone)]
pub struct WriteOptions<'a> {
    /// The database it belongs to.
    pub database: u128,
    /// Its number; names the file, and is never used twice.
    pub sequence: u64,
    /// zstd level (1 to 22), or `None` for uncompressed blocks.
    pub compression: Option<i32>,
    /// For an incremental snapshot: the number and the directory of the snapshot before, whose files are kept as
    /// long as this one is.
    pub parent: Option<(u64, &'a Directory)>,
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks written or found in the parent.
    pub chunks_done: u64,
    /// Chunks of the view.
    pub chunks: u64,
    /// Bytes written to the file.
    pub bytes_written: u64,
}

/// Told by the progress callback to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// A snapshot that is published and was read back.
#[derive(Debug, Clone)]
pub struct Written {
    /// What its header says.
    pub header: Header,
    /// Its directory: the next incremental snapshot's parent.
    pub directory: Arc<Directory>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of all columns before compression, older files' included.
    pub raw_bytes: u64,
    /// Blocks in this file.
    pub blocks_written: u64,
    /// Blocks pointed to in older files.
    pub blocks_shared: u64,
}

/// Writes a snapshot of `view` to `path` and verifies it. `progress` is called about once a megabyte, and may stop
/// the writing. O(bytes of the view), or of what changed since the parent.
///
/// # Errors
/// When a file operation fails, a value cannot be encoded, the written file does not read back, or `progress`
/// stops it. Nothing is published then; a file that does not read back is removed.
pub fn write(
    vfs: &dyn Vfs,
    path: &Path,
    view: &View,
    options: &WriteOptions<'_>,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
) -> Result<Written> {
    let header = Header {
        database: options.database,
        sequence: options.sequence,
        lsn: view.lsn(),
        created_unix_ns: vfs.now_unix_ns(),
        parent: options.parent.map_or(0, |(sequence, _)| sequence),
        salt: vfs.random_u64() as u32,
    };
    let (written, _) = publish(vfs, path, |file| {
        let mut out = Output::new(&**file, header, progress);
        out.progress.chunks = view.chunks().count() as u64;
        write_all(&mut out, view, options)
    })?;
    // The file just published is verified through the same reader that recovery will use.
    match Snapshot::open(vfs, path).and_then(|snapshot| snapshot.verify_own()) {
        Ok(()) => Ok(written),
        Err(e) => {
            vfs.remove(path)?;
            Err(e)
        }
    }
}

fn write_all(out: &mut Output<'_>, view: &View, options: &WriteOptions<'_>) -> Result<Written> {
    let parent = options.parent.map(|(_, directory)| Parent { directory, columns: directory.by_key() });
    let mut compressor = match options.compression {
        Some(level) => Some(Compressor::new(level).map_err(Error::Compress)?),
        None => None,
    };
    let mut blocks =
        Blocks { directory: Directory::default(), file_index: FxHashMap::default(), shared: 0, raw_bytes: 0 };
    let mut archetypes: FxHashMap<(u32, Vec<u32>), u32> = FxHashMap::default();

    for chunk in view.chunks() {
        let components: Vec<u32> = chunk.components().map(|id| id.0).collect();
        let key = (chunk.rows_log2(), components);
        let next = archetypes.len() as u32;
        let archetype = *archetypes.entry(key.clone()).or_insert_with(|| {
            blocks.directory.archetypes.push(key);
            next
        });
        blocks.directory.chunks.push(ChunkEntry {
            uid: chunk.uid(),
            archetype,
            rows: chunk.rows() as u32,
            first_column: blocks.directory.columns.len() as u32,
            reserved: 0,
        });
        for column in chunk.columns() {
            let entry = match parent.as_ref().and_then(|parent| parent.find(chunk.uid(), &column)) {
                Some((file, entry)) => {
                    blocks.shared += 1;
                    ColumnEntry { file: blocks.file(file), ..entry }
                }
                None => blocks.write(out, chunk.uid(), chunk.rows(), &column, compressor.as_mut())?,
            };
            blocks.directory.columns.push(entry);
        }
        out.progress.chunks_done += 1;
    }
    let blocks_written = out.position;

    out.frame(SCHEMA, &view.schema())?;
    out.frame(RESOURCES, &encode_resources(view)?)?;
    out.frame(ALLOCATORS, &view.allocators())?;
    let directory_at = out.offset();
    out.frame(DIRECTORY, &blocks.directory.encode())?;
    let bytes = out.offset() + size_of::<Footer>() as u64;
    out.bytes(&Footer::encode(directory_at, bytes, &out.header))?;
    out.flush()?;
    Ok(Written {
        header: out.header,
        directory: Arc::new(blocks.directory),
        bytes,
        raw_bytes: blocks.raw_bytes,
        blocks_written,
        blocks_shared: blocks.shared,
    })
}

struct Parent<'a> {
    directory: &'a Directory,
    columns: FxHashMap<(u64, u32), &'a ColumnEntry>,
}

impl Parent<'_> {
    /// The parent's block of a column that has not changed since: the file's number and the entry.
    fn find(&self, chunk: u64, column: &ColumnPart<'_>) -> Option<(u64, ColumnEntry)> {
        let component = column.component.map_or(ENTITY_IDS, |id| id.0);
        let entry = **self.columns.get(&(chunk, component))?;
        (entry.changed == column.changed).then(|| (self.directory.files[entry.file as usize], entry))
    }
}

struct Blocks {
    directory: Directory,
    /// Index in [`Directory::files`] by file number.
    file_index: FxHashMap<u64, u32>,
    shared: u64,
    raw_bytes: u64,
}

impl Blocks {
    fn file(&mut self, sequence: u64) -> u32 {
        let files = &mut self.directory.files;
        *self.file_index.entry(sequence).or_insert_with(|| {
            files.push(sequence);
            files.len() as u32 - 1
        })
    }

    fn write(
        &mut self,
        out: &mut Output<'_>,
        chunk: u64,
        rows: usize,
        column: &ColumnPart<'_>,
        compressor: Option<&mut Compressor>,
    ) -> Result<ColumnEntry> {
        let mut encoded = std::mem::take(&mut out.encoded);
        encoded.clear();
        let raw = match column.bytes() {
            Some(bytes) => bytes,
            None => {
                column.encode(&mut encoded).map_err(Error::Encode)?;
                &encoded
            }
        };
        self.raw_bytes += raw.len() as u64;
        let mut compressed = std::mem::take(&mut out.compressed);
        let encoding = match compressor {
            Some(compressor) => compressor.compress(raw, &mut compressed).map_err(Error::Compress)?,
            None => Encoding::Raw,
        };
        let stored = if encoding == Encoding::Raw { raw } else { &compressed };
        let header = BlockHeader {
            chunk,
            changed: column.changed,
            component: column.component.map_or(ENTITY_IDS, |id| id.0),
            rows: rows as u32,
            raw_len: raw.len() as u32,
            encoding: encoding as u8,
            reserved: [0; 3],
        };
        let mut payload = std::mem::take(&mut out.payload);
        payload.clear();
        payload.extend_from_slice(bytemuck::bytes_of(&header));
        payload.extend_from_slice(stored);
        let entry = ColumnEntry {
            changed: header.changed,
            offset: out.offset(),
            file: self.file(out.header.sequence),
            component: header.component,
            len: payload.len() as u32,
            reserved: 0,
        };
        out.frame(BLOCK, &payload)?;
        (out.encoded, out.compressed, out.payload) = (encoded, compressed, payload);
        Ok(entry)
    }
}

/// The resources' frame: their number, then each one's component (u32), stored length (u32), LSN of its last
/// change (u64) and bytes.
fn encode_resources(view: &View) -> Result<Vec<u8>> {
    let mut out = (view.resources().count() as u32).to_le_bytes().to_vec();
    let mut value = Vec::new();
    for resource in view.resources() {
        value.clear();
        resource.encode(&mut value).map_err(Error::Encode)?;
        let component = resource.component.map_or(ENTITY_IDS, |id| id.0);
        out.extend_from_slice(&component.to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(&resource.changed.to_le_bytes());
        out.extend_from_slice(&value);
    }
    Ok(out)
}

/// The file under way: frames are gathered and written a megabyte at a time.
struct Output<'a> {
    file: &'a dyn VfsFile,
    header: Header,
    buffer: Vec<u8>,
    /// Bytes written before the buffer.
    flushed: u64,
    /// Frames so far, and the last one's header checksum.
    position: u64,
    link: u32,
    progress: Progress,
    report: &'a mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
    // Scratch space of the block writer.
    encoded: Vec<u8>,
    compressed: Vec<u8>,
    payload: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(
        file: &'a dyn VfsFile,
        header: Header,
        report: &'a mut dyn FnMut(Progress) -> ControlFlow<Stopped>,
    ) -> Self {
        Output {
            file,
            header,
            buffer: header.encode().to_vec(),
            flushed: 0,
            position: 0,
            link: 0,
            progress: Progress::default(),
            report,
            encoded: Vec::new(),
            compressed: Vec::new(),
            payload: Vec::new(),
        }
    }

    fn offset(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<()> {
        if u32::try_from(payload.len()).is_err() {
            return Err(Error::damaged(
                self.file.path(),
                self.offset(),
                "a part of the snapshot is over 4 GiB",
            ));
        }
        let header =
            FrameHeader { len: 0, payload_sum: 0, link: self.link, sequence: self.position, kind, flags: 0 };
        self.buffer.reserve(frame_len(payload.len() as u64) as usize);
        self.link = write_frame(&mut self.buffer, header, payload, self.header.salt);
        self.position += 1;
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.buffer, self.flushed).map_err(Error::Io)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        self.progress.bytes_written = self.flushed;
        match (self.report)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(Stopped) => Err(Error::Cancelled),
        }
    }
}
