//! Turning columns into blocks on several threads, in order and ahead of the writer by no more than a window, of columns and of bytes.
//!
//! A task holds the memory of its column, and gives it up with its block: while a snapshot is written, the world goes
//! on in copies of what is still to be written, and of nothing else.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ecsdb_core::parts::ColumnPart;
use ecsdb_io::compress::{Compressor, Encoding};
use ecsdb_io::sync::{Condvar, Mutex, help, thread};
use ecsdb_io::{Urgency, checksum_append};

use crate::error::{Error, Result};
use crate::format::{BlockHeader, ENTITY_IDS, RAW_LEN_MAX};

/// Columns that a thread encodes at a time, and bytes from which on it takes no further one: plain columns are up to 32 KiB.
const BATCH: usize = 32;
const BATCH_BYTES: usize = 1 << 20;
/// Batches of so many columns, or of so many bytes, that each thread may be ahead of the writer: what bounds the memory. How long the archives of a
/// column are is known once they are made, so that each thread may hold one column more.
const AHEAD: usize = 4;

/// A column that is to be written.
pub(crate) struct Task {
    pub(crate) chunk: u64,
    pub(crate) rows: u32,
    pub(crate) column: ColumnPart,
    /// Where its entry stands in the directory.
    pub(crate) entry: usize,
}

/// A block, ready to be framed.
pub(crate) struct Block {
    pub(crate) header: BlockHeader,
    stored: Stored,
    /// CRC-32C of header and stored bytes, started from the file's salt.
    pub(crate) sum: u32,
    pub(crate) entry: usize,
}

enum Stored {
    /// The memory of the world itself.
    Memory(ColumnPart),
    Bytes(Vec<u8>),
}

impl Block {
    pub(crate) fn stored(&self) -> &[u8] {
        self.stored.bytes()
    }
}

impl Stored {
    /// What was encoded, which waits to be written: without the room that there was for more of it.
    fn of(mut bytes: Vec<u8>) -> Stored {
        bytes.shrink_to_fit();
        Stored::Bytes(bytes)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            // Only made of columns that have them.
            Stored::Memory(column) => column.bytes().unwrap_or(&[]),
            Stored::Bytes(bytes) => bytes,
        }
    }
}

/// How blocks are encoded.
#[derive(Clone, Copy)]
pub(crate) struct Encoder<'a> {
    pub(crate) compression: Option<i32>,
    pub(crate) salt: u32,
    pub(crate) threads: usize,
    pub(crate) urgency: &'a Urgency,
}

impl Encoder<'_> {
    /// Encodes `tasks` and hands the blocks to `write` in their order. With one thread everything happens on this one.
    pub(crate) fn run(
        self,
        tasks: Vec<Task>,
        mut write: impl FnMut(Vec<Block>) -> Result<()> + Send,
    ) -> Result<()> {
        let tasks = tasks.into_iter();
        if self.threads <= 1 {
            return self.alone(tasks, write);
        }
        let state = Mutex::new(State { tasks, ..State::default() });
        let pipeline = Pipeline { state, changed: Condvar::new(), ahead: AHEAD * self.threads };
        thread::scope(|scope| {
            // Whatever ends the writing ends the threads.
            let _stop = Stop(&pipeline, true);
            let pipeline = &pipeline;
            let encode = move || {
                // A value's own code may panic; the scope passes that on once the writer has given up.
                let _stop = Stop(pipeline, false);
                let mut worker = Worker::new(self);
                self.urgency.run(|| {
                    let Some((i, batch)) = pipeline.next() else { return ControlFlow::Break(()) };
                    let columns = batch.len();
                    let blocks = match &mut worker {
                        Ok(worker) => worker.batch(batch.into_iter()),
                        Err(e) => Err(Error::Compress(std::io::Error::other(e.to_string()))),
                    };
                    pipeline.put(i, Encoded { columns, blocks });
                    ControlFlow::Continue(())
                });
            };
            let helpers = (0..self.threads).filter(|_| help(scope, encode)).count();
            if helpers == 0 {
                let tasks = std::mem::take(&mut pipeline.state.lock().tasks);
                return self.alone(tasks, write);
            }
            until_none(self.urgency, || pipeline.take()?.map(&mut write).transpose())
        })
    }

    fn alone(
        self,
        mut tasks: std::vec::IntoIter<Task>,
        mut write: impl FnMut(Vec<Block>) -> Result<()> + Send,
    ) -> Result<()> {
        let mut worker = Worker::new(self)?;
        until_none(self.urgency, || match next_batch(&mut tasks) {
            Some(batch) => write(worker.batch(batch.into_iter())?).map(Some),
            None => Ok(None),
        })
    }
}

/// The columns that are encoded next, at a time.
fn next_batch(tasks: &mut std::vec::IntoIter<Task>) -> Option<Vec<Task>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH && bytes < BATCH_BYTES {
        let Some(task) = tasks.next() else { break };
        // Of archives it may be any number.
        bytes += task.column.bytes().map_or(BATCH_BYTES, <[u8]>::len);
        batch.push(task);
    }
    if batch.is_empty() { None } else { Some(batch) }
}

/// Does `step` until there is nothing left to do.
fn until_none(urgency: &Urgency, mut step: impl FnMut() -> Result<Option<()>> + Send) -> Result<()> {
    urgency.run(|| match step() {
        Ok(Some(())) => ControlFlow::Continue(()),
        Ok(None) => ControlFlow::Break(Ok(())),
        Err(e) => ControlFlow::Break(Err(e)),
    })
}

/// Does `step` for each number below `n`.
pub(crate) fn each(
    urgency: &Urgency,
    n: usize,
    mut step: impl FnMut(usize) -> Result<()> + Send,
) -> Result<()> {
    let mut left = 0..n;
    until_none(urgency, || left.next().map(&mut step).transpose())
}

struct Worker {
    compressor: Option<Compressor>,
    salt: u32,
    encoded: Vec<u8>,
}

impl Worker {
    fn new(encoder: Encoder<'_>) -> Result<Self> {
        let compressor = encoder.compression.map(Compressor::new).transpose().map_err(Error::Compress)?;
        Ok(Worker { compressor, salt: encoder.salt, encoded: Vec::new() })
    }

    fn batch(&mut self, mut tasks: impl Iterator<Item = Task>) -> Result<Vec<Block>> {
        let mut blocks = Vec::new();
        tasks.try_for_each(|task| self.blocks(task, &mut blocks))?;
        Ok(blocks)
    }

    /// A column as one block, or as several when it is large.
    fn blocks(&mut self, task: Task, blocks: &mut Vec<Block>) -> Result<()> {
        let memory = task.column.bytes();
        if memory.is_none() {
            self.encoded.clear();
            task.column.encode(&mut self.encoded).map_err(Error::Encode)?;
        }
        let len = memory.map_or(self.encoded.len(), <[u8]>::len);
        if len <= RAW_LEN_MAX {
            let whole = memory.unwrap_or(&self.encoded);
            let (encoding, compressed) = compress(&mut self.compressor, whole)?;
            let stored = match (encoding, memory) {
                (Encoding::Zstd, _) => Stored::of(compressed),
                (Encoding::Raw, Some(_)) => Stored::Memory(task.column.clone()),
                (Encoding::Raw, None) => Stored::of(std::mem::take(&mut self.encoded)),
            };
            blocks.push(self.block(&task, len, encoding, stored));
            return Ok(());
        }
        let whole = match memory {
            Some(memory) => memory.to_vec(),
            None => std::mem::take(&mut self.encoded),
        };
        for part in whole.chunks(RAW_LEN_MAX) {
            let (encoding, compressed) = compress(&mut self.compressor, part)?;
            let stored = match encoding {
                Encoding::Zstd => Stored::of(compressed),
                Encoding::Raw => Stored::Bytes(part.to_vec()),
            };
            blocks.push(self.block(&task, part.len(), encoding, stored));
        }
        Ok(())
    }

    fn block(&self, task: &Task, raw_len: usize, encoding: Encoding, stored: Stored) -> Block {
        let header = BlockHeader {
            chunk: task.chunk,
            changed: task.column.changed,
            component: task.column.component.map_or(ENTITY_IDS, |id| id.0),
            rows: task.rows,
            // At most `RAW_LEN_MAX`.
            raw_len: raw_len as u32,
            encoding: encoding as u8,
            reserved: [0; 3],
        };
        let sum = checksum_append(checksum_append(self.salt, bytemuck::bytes_of(&header)), stored.bytes());
        Block { header, stored, sum, entry: task.entry }
    }
}

fn compress(compressor: &mut Option<Compressor>, raw: &[u8]) -> Result<(Encoding, Vec<u8>)> {
    let mut compressed = Vec::new();
    let encoding = match compressor {
        Some(compressor) => compressor.compress(raw, &mut compressed).map_err(Error::Compress)?,
        None => Encoding::Raw,
    };
    Ok((encoding, compressed))
}

/// Batches under way between the threads that encode and the one that writes.
struct Pipeline {
    state: Mutex<State>,
    changed: Condvar,
    /// Batches.
    ahead: usize,
}

#[derive(Default)]
struct State {
    /// Those that no thread has taken yet.
    tasks: std::vec::IntoIter<Task>,
    next: usize,
    taken: usize,
    done: BTreeMap<usize, Encoded>,
    /// Columns that were handed out and are not taken, and bytes of those that are done.
    columns: usize,
    bytes: usize,
    stopped: bool,
    panicked: bool,
}

impl Pipeline {
    /// The next batch to encode and its number, once the writer is near enough.
    fn next(&self) -> Option<(usize, Vec<Task>)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped || state.tasks.len() == 0 {
                return None;
            }
            let has_room = state.columns < self.ahead * BATCH && state.bytes < self.ahead * BATCH_BYTES;
            // Whatever else is done, the writer waits for this one.
            if has_room || state.next == state.taken {
                let batch = next_batch(&mut state.tasks)?;
                state.next += 1;
                state.columns += batch.len();
                return Some((state.next - 1, batch));
            }
            self.changed.wait(&mut state);
        }
    }

    fn put(&self, i: usize, batch: Encoded) {
        let mut state = self.state.lock();
        state.bytes += batch.bytes();
        state.done.insert(i, batch);
        drop(state);
        self.changed.notify_all();
    }

    /// The next batch to write; `None` when there was the last one.
    fn take(&self) -> Result<Option<Vec<Block>>> {
        let mut state = self.state.lock();
        loop {
            let next = state.taken;
            if let Some(batch) = state.done.remove(&next) {
                state.taken += 1;
                state.columns -= batch.columns;
                state.bytes -= batch.bytes();
                self.changed.notify_all();
                return batch.blocks.map(Some);
            }
            if state.panicked {
                return Err(Error::Cancelled);
            }
            if state.tasks.len() == 0 && state.next == state.taken {
                return Ok(None);
            }
            self.changed.wait(&mut state);
        }
    }
}

/// A batch that was encoded.
struct Encoded {
    columns: usize,
    blocks: Result<Vec<Block>>,
}

impl Encoded {
    fn bytes(&self) -> usize {
        let blocks = self.blocks.as_deref().unwrap_or(&[]);
        blocks.iter().map(|block| block.stored().len()).sum()
    }
}

/// Stops the pipeline when the writer ends, or anybody panics. The flag says that this is the writer.
struct Stop<'a>(&'a Pipeline, bool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.panicked |= thread::panicking();
        state.stopped |= state.panicked || self.1;
        drop(state);
        self.0.changed.notify_all();
    }
}
