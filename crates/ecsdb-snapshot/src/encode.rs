//! Turning columns into blocks on several threads, in order and ahead of the writer by no more than a window.
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

/// Columns that a thread encodes at a time: about a megabyte.
const BATCH: usize = 32;
/// Batches that each thread may be ahead of the writer: what bounds the memory.
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
        let batches = tasks.len().div_ceil(BATCH);
        let tasks = tasks.into_iter();
        if self.threads <= 1 {
            return self.alone(batches, tasks, write);
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
                    let blocks = match &mut worker {
                        Ok(worker) => worker.batch(batch.into_iter()),
                        Err(e) => Err(Error::Compress(std::io::Error::other(e.to_string()))),
                    };
                    pipeline.put(i, blocks);
                    ControlFlow::Continue(())
                });
            };
            let helpers = (0..self.threads).filter(|_| help(scope, encode)).count();
            if helpers == 0 {
                let tasks = std::mem::take(&mut pipeline.state.lock().tasks);
                return self.alone(batches, tasks, write);
            }
            each(self.urgency, batches, |i| write(pipeline.take(i)?))
        })
    }

    fn alone(
        self,
        batches: usize,
        mut tasks: std::vec::IntoIter<Task>,
        mut write: impl FnMut(Vec<Block>) -> Result<()> + Send,
    ) -> Result<()> {
        let mut worker = Worker::new(self)?;
        each(self.urgency, batches, |_| write(worker.batch(tasks.by_ref().take(BATCH))?))
    }
}

/// Does `step` for each number below `n`.
pub(crate) fn each(
    urgency: &Urgency,
    n: usize,
    mut step: impl FnMut(usize) -> Result<()> + Send,
) -> Result<()> {
    let mut i = 0;
    urgency.run(|| {
        if i == n {
            return ControlFlow::Break(Ok(()));
        }
        i += 1;
        step(i - 1).map_or_else(|e| ControlFlow::Break(Err(e)), ControlFlow::Continue)
    })
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
                (Encoding::Zstd, _) => Stored::Bytes(compressed),
                (Encoding::Raw, Some(_)) => Stored::Memory(task.column.clone()),
                (Encoding::Raw, None) => Stored::Bytes(std::mem::take(&mut self.encoded)),
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
                Encoding::Zstd => compressed,
                Encoding::Raw => part.to_vec(),
            };
            blocks.push(self.block(&task, part.len(), encoding, Stored::Bytes(stored)));
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
    ahead: usize,
}

#[derive(Default)]
struct State {
    /// Those that no thread has taken yet.
    tasks: std::vec::IntoIter<Task>,
    next: usize,
    taken: usize,
    done: BTreeMap<usize, Result<Vec<Block>>>,
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
            if state.next < state.taken + self.ahead {
                state.next += 1;
                let batch = state.tasks.by_ref().take(BATCH).collect();
                return Some((state.next - 1, batch));
            }
            self.changed.wait(&mut state);
        }
    }

    fn put(&self, i: usize, blocks: Result<Vec<Block>>) {
        self.state.lock().done.insert(i, blocks);
        self.changed.notify_all();
    }

    fn take(&self, i: usize) -> Result<Vec<Block>> {
        let mut state = self.state.lock();
        loop {
            if let Some(blocks) = state.done.remove(&i) {
                state.taken = i + 1;
                self.changed.notify_all();
                return blocks;
            }
            if state.panicked {
                return Err(Error::Cancelled);
            }
            self.changed.wait(&mut state);
        }
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
