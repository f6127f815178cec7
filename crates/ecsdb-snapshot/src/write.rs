//! Writing a snapshot of a view: blocks, schema, resources, allocators, directory, footer; published only when
//! whole, and read back before it is called done (CKP-1, CKP-2).

use std::path::Path;
use std::sync::Arc;

use ecsdb_core::View;
use ecsdb_core::parts::{ChunkPart, ColumnPart};
use ecsdb_io::frame::frame_len;
use ecsdb_io::{Urgency, Vfs, publish};
use rustc_hash::FxHashMap;

use crate::directory::{ChunkEntry, ColumnEntry, Directory, FileRef};
use crate::encode::{Encoder, Task};
use crate::error::{Error, Result};
use crate::format::{ALLOCATORS, BLOCK, DIRECTORY, ENTITY_IDS, Footer, Header, RESOURCES, SCHEMA, VERSION};
use crate::output::{Follow, Output, Progress};
use crate::read::Snapshot;

/// How a snapshot is written.
#[derive(Debug, Clone)]
pub struct WriteOptions<'a> {
    /// The database it belongs to.
    pub database: u128,
    /// Its number; names the file, and is never used twice.
    pub sequence: u64,
    /// When it is begun, in nanoseconds since 1970-01-01 UTC: not before its last transaction was written.
    pub created_unix_ns: u64,
    /// What tells this file from any other of its number, ever: at random.
    pub salt: u32,
    /// zstd level (1 to 22), or `None` for uncompressed blocks.
    pub compression: Option<i32>,
    /// Threads that encode and compress; 1 does everything on the calling thread.
    pub threads: usize,
    /// Whether somebody waits for it.
    pub urgency: &'a Urgency,
    /// For an incremental snapshot: the number and the directory of the snapshot before, whose files are kept as
    /// long as this one is.
    pub parent: Option<(u64, &'a Directory)>,
}

/// A snapshot that is published and was read back.
#[derive(Debug, Clone)]
pub struct Written {
    /// What its header says.
    pub header: Header,
    /// Its directory: the next incremental snapshot's parent.
    pub directory: Arc<Directory>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of this file's blocks before compression.
    pub raw_bytes: u64,
    /// Blocks in this file.
    pub blocks_written: u64,
    /// Blocks pointed to in older files.
    pub blocks_shared: u64,
}

/// Writes a snapshot of `view` to `path` and verifies it. `progress` is called about once a megabyte of writing
/// and reading back, and may stop it. O(bytes of the view), or of what changed since the parent.
///
/// The view is given up as soon as it is known what is to be written, and each block of it as soon as it is: while a
/// snapshot runs, only what is still to be written costs the writer a copy. A clone of the view that is kept
/// elsewhere undoes that.
///
/// # Errors
/// When a file operation fails, a value cannot be encoded, the written file does not read back, or `progress`
/// stops it. Nothing is published then; a file that does not read back is removed.
pub fn write(
    vfs: &dyn Vfs,
    path: &Path,
    view: View,
    options: &WriteOptions<'_>,
    progress: Follow<'_>,
) -> Result<Written> {
    let header = Header {
        database: options.database,
        sequence: options.sequence,
        lsn: view.lsn().0,
        created_unix_ns: options.created_unix_ns,
        parent: options.parent.map_or(0, |(sequence, _)| sequence),
        salt: options.salt,
        version: VERSION,
    };
    let plan = options.urgency.once(|| {
        let plan = Plan::of(&view, options.parent, FileRef::new(options.sequence, options.salt));
        drop(view);
        plan
    })?;
    let (written, _) = publish(vfs, path, |file| {
        let mut out = Output::new(&**file, header, &mut *progress);
        write_all(&mut out, plan, options)
    })?;
    verified(vfs, path, written, options.urgency, progress)
}

/// The file just published, once it was verified through the same reader that recovery will use; removed otherwise.
pub(crate) fn verified(
    vfs: &dyn Vfs,
    path: &Path,
    written: Written,
    urgency: &Urgency,
    progress: Follow<'_>,
) -> Result<Written> {
    let (blocks, bytes_written) = (written.blocks_written, written.bytes);
    let mut each = |at: u64| {
        let read = (u128::from(blocks) * u128::from(at) / u128::from(bytes_written.max(1))) as u64;
        progress(Progress { blocks_done: blocks + read, blocks: 2 * blocks, bytes_written })
    };
    match Snapshot::open(vfs, path).and_then(|snapshot| snapshot.read_back(urgency, &mut each)) {
        Ok(()) => Ok(written),
        Err(e) => {
            vfs.remove(path)?;
            Err(e)
        }
    }
}

/// Bytes of blocks that are gathered to be written by the batch: larger than any of a plain column.
const GATHERED_MAX: u64 = 64 << 10;

fn write_all(out: &mut Output<'_>, plan: Plan, options: &WriteOptions<'_>) -> Result<Written> {
    let Plan { mut directory, tasks, metadata, .. } = plan;
    let columns_written = tasks.len() as u64;
    let blocks_shared = directory.columns.len() as u64 - columns_written;
    out.progress.blocks = 2 * columns_written;
    let own = directory.numbers().position(|file| file == out.header.sequence).unwrap_or(0);
    let own = Error::fit("snapshot files", own as u64)?;
    let encoder = Encoder {
        compression: options.compression,
        salt: out.header.salt,
        threads: options.threads,
        urgency: options.urgency,
    };
    let mut raw_bytes = 0;
    encoder.run(tasks, |blocks| {
        // Each block's memory is given up here, once it was copied into the frame.
        for block in blocks {
            raw_bytes += u64::from(block.header.raw_len);
            let len = size_of_val(&block.header) as u64 + block.stored().len() as u64;
            let entry = &mut directory.columns[block.entry];
            if entry.offset == 0 {
                out.progress.blocks_done += 1;
                *entry = ColumnEntry {
                    changed: block.header.changed,
                    offset: out.offset(),
                    file: own,
                    component: block.header.component,
                    len: Error::fit("bytes of a block", len)?,
                    more: 0,
                };
            } else {
                entry.add_frame(frame_len(len))?;
            }
            out.frame(BLOCK, &[bytemuck::bytes_of(&block.header), block.stored()], Some(block.sum))?;
            // What is large is not gathered, too.
            if len > GATHERED_MAX {
                out.write_full()?;
            }
        }
        out.write_full()
    })?;
    let [schema, resources, allocators] = &metadata;
    let written = finish(out, directory, [schema, resources, allocators])?;
    Ok(Written { raw_bytes, blocks_written: columns_written, blocks_shared, ..written })
}

/// The frames after the blocks, and the footer.
pub(crate) fn finish(out: &mut Output<'_>, directory: Directory, metadata: [&[u8]; 3]) -> Result<Written> {
    for (kind, bytes) in [SCHEMA, RESOURCES, ALLOCATORS].into_iter().zip(metadata) {
        out.frame(kind, &[bytes], None)?;
    }
    let directory_at = out.offset();
    out.frame(DIRECTORY, &[&directory.encode()?], None)?;
    let bytes = out.offset() + size_of::<Footer>() as u64;
    out.bytes(&Footer::encode(directory_at, bytes, &out.header));
    out.finish()?;
    Ok(Written {
        header: out.header,
        directory: Arc::new(directory),
        bytes,
        raw_bytes: 0,
        blocks_written: 0,
        blocks_shared: 0,
    })
}

/// What is to be written, without the view: the directory, with the entries of unchanged columns filled in, a task for
/// each other one, and the frames after the blocks.
#[derive(Default)]
struct Plan {
    directory: Directory,
    tasks: Vec<Task>,
    /// Schema, resources, allocators.
    metadata: [Vec<u8>; 3],
    archetypes: FxHashMap<(u32, Vec<u32>), u32>,
    /// Index in [`Directory::files`] by file number.
    files: FxHashMap<u64, u32>,
}

impl Plan {
    fn of(view: &View, parent: Option<(u64, &Directory)>, own: FileRef) -> Result<Plan> {
        let parent = parent.map(|(_, directory)| Parent { directory, columns: directory.by_key() });
        let metadata = [view.schema(), encode_resources(view)?, view.allocators()];
        let mut plan = Plan { metadata, ..Plan::default() };
        for chunk in view.chunks() {
            plan.chunk(&chunk, parent.as_ref(), own)?;
        }
        Ok(plan)
    }

    fn chunk(&mut self, chunk: &ChunkPart<'_>, parent: Option<&Parent<'_>>, own: FileRef) -> Result<()> {
        let components: Vec<u32> = chunk.components().map(|id| id.0).collect();
        let key = (chunk.rows_log2(), components);
        let archetype = match self.archetypes.get(&key) {
            Some(&archetype) => archetype,
            None => {
                let archetype = Error::fit("archetypes", self.archetypes.len() as u64)?;
                self.directory.archetypes.push(key.clone());
                self.archetypes.insert(key, archetype);
                archetype
            }
        };
        let rows = Error::fit("rows of a chunk", chunk.rows() as u64)?;
        let first_column = Error::fit("columns", self.directory.columns.len() as u64)?;
        self.directory.chunks.push(ChunkEntry {
            uid: chunk.uid(),
            archetype,
            rows,
            first_column,
            reserved: 0,
        });
        for column in chunk.columns() {
            let entry = match parent.and_then(|parent| parent.find(chunk.uid(), &column)) {
                Some((file, entry)) => ColumnEntry { file: self.file(file)?, ..entry },
                None => {
                    self.file(own)?;
                    let entry = self.directory.columns.len();
                    self.tasks.push(Task { chunk: chunk.uid(), rows, column, entry });
                    // Filled in when it is written.
                    bytemuck::Zeroable::zeroed()
                }
            };
            self.directory.columns.push(entry);
        }
        Ok(())
    }

    fn file(&mut self, file: FileRef) -> Result<u32> {
        if let Some(&index) = self.files.get(&file.sequence) {
            return Ok(index);
        }
        let index = Error::fit("snapshot files", self.directory.files.len() as u64)?;
        self.directory.files.push(file);
        self.files.insert(file.sequence, index);
        Ok(index)
    }
}

struct Parent<'a> {
    directory: &'a Directory,
    columns: FxHashMap<(u64, u32), &'a ColumnEntry>,
}

impl Parent<'_> {
    /// The parent's block of a column that has not changed since: the file and the entry.
    fn find(&self, chunk: u64, column: &ColumnPart) -> Option<(FileRef, ColumnEntry)> {
        let component = column.component.map_or(ENTITY_IDS, |id| id.0);
        let entry = **self.columns.get(&(chunk, component))?;
        (entry.changed == column.changed).then(|| (self.directory.files[entry.file as usize], entry))
    }
}

/// The resources' frame: their number, then each one's component (u32), stored length (u32), LSN of its last
/// change (u64) and bytes.
fn encode_resources(view: &View) -> Result<Vec<u8>> {
    let count = Error::fit("resources", view.resources().count() as u64)?;
    let mut out = count.to_le_bytes().to_vec();
    let mut value = Vec::new();
    for resource in view.resources() {
        value.clear();
        resource.encode(&mut value).map_err(Error::Encode)?;
        let component = resource.component.map_or(ENTITY_IDS, |id| id.0);
        out.extend_from_slice(&component.to_le_bytes());
        let len = Error::fit("bytes of a resource", value.len() as u64)?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&resource.changed.to_le_bytes());
        out.extend_from_slice(&value);
    }
    Ok(out)
}

/// Snapshot 1 of a world, which is no other's increment, for the tests of what lies in a file.
#[cfg(test)]
pub(crate) fn written_alone(path: &Path, view: View) -> Snapshot {
    let options = WriteOptions {
        database: 1,
        sequence: 1,
        salt: 3,
        compression: None,
        threads: 1,
        urgency: &Urgency::of_caller(),
        parent: None,
        created_unix_ns: 1,
    };
    let disk = ecsdb_io::Disk;
    write(&disk, path, view, &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    Snapshot::open(&disk, path).unwrap()
}
