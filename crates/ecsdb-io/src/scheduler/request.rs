//! One queued operation: what it is, how it grows by merging, and how it is executed.

use std::io::{self, IoSlice};
use std::sync::mpsc::SyncSender;

use crate::direct::PageVec;
use crate::error::{FileOp, IoError, Result};
use crate::vfs::VfsFile;

/// Where the waiting caller gets the result; it has room for it. Dropping it tells the caller that the scheduler has
/// stopped.
pub(super) type Reply<T> = SyncSender<Result<T>>;

/// Parts shorter than this are copied together when writes are merged: a slice costs the kernel more than that.
const SMALL_PART: usize = 4 << 10;
/// Until they have this many bytes.
const COPIED_PART: usize = 64 << 10;

/// An operation on one file.
#[derive(Debug)]
pub(super) enum Request {
    /// One or more adjacent writes.
    Write(Write),
    Sync(Reply<()>),
    SetLen(u64, Reply<()>),
    Reserve(u64, Reply<()>),
    /// Nothing but the news whether everything before succeeded.
    Settle(Reply<()>),
    Read {
        offset: u64,
        len: usize,
        reply: Reply<Vec<u8>>,
    },
    Len(Reply<u64>),
}

#[derive(Debug)]
pub(super) struct Write {
    offset: u64,
    /// Where there is one, it is transferred as it lies.
    parts: Vec<PageVec>,
    /// Bytes of all parts.
    pub(super) len: u64,
    /// Writes of the callers.
    pub(super) requests: u64,
}

impl Write {
    pub(super) fn new(offset: u64, bytes: PageVec) -> Self {
        Write { offset, len: bytes.len() as u64, parts: vec![bytes], requests: 1 }
    }

    /// Appends `next` when it goes on where this ends and both have at most `max` bytes; gives it back otherwise.
    pub(super) fn merge(&mut self, next: Write, max: u64) -> Option<Write> {
        let adjacent = self.offset.checked_add(self.len) == Some(next.offset);
        if !adjacent || self.len.saturating_add(next.len) > max {
            return Some(next);
        }
        self.len += next.len;
        self.requests += next.requests;
        for part in next.parts {
            match self.parts.last_mut() {
                Some(last) if part.len() < SMALL_PART && last.len() + part.len() <= COPIED_PART => {
                    last.extend_from_slice(&part);
                }
                _ => self.parts.push(part),
            }
        }
        None
    }
}

impl Request {
    /// True for what changes the file: those are executed one at a time, and none after a failure.
    pub(super) fn is_change(&self) -> bool {
        !matches!(self, Request::Read { .. } | Request::Len(_))
    }

    /// Bytes to move.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Request::Write(write) => write.len,
            Request::Read { len, .. } => *len as u64,
            _ => 0,
        }
    }

    /// What it counts for.
    pub(super) fn cost(&self) -> Cost {
        match self {
            Request::Write(write) => {
                Cost { requests: write.requests, writes: write.requests, bytes: write.len }
            }
            _ => Cost { requests: 1, ..Cost::default() },
        }
    }

    /// Executes it on `file`, blocking, or fails it with `refused` and does nothing. The caller is told by
    /// [`Answer::deliver`].
    pub(super) fn execute(self, file: &dyn VfsFile, refused: Option<IoError>) -> Done {
        let error_of = |result: &Result<()>| result.as_ref().err().map(IoError::duplicate);
        match self {
            Request::Write(write) => {
                let result = guarded(FileOp::Write, file, refused, || {
                    let mut slices: Vec<IoSlice<'_>> = write.parts.iter().map(|p| IoSlice::new(p)).collect();
                    file.write_all_at(&mut slices, write.offset)?;
                    // The disk works while the next one is queued, and the sync at the end has little left to do.
                    file.start_writing(write.offset, write.len);
                    Ok(())
                });
                let bytes = if result.is_ok() { write.len } else { 0 };
                Done { failure: result.err(), bytes, answer: Answer::None }
            }
            Request::Sync(reply) => {
                let result = guarded(FileOp::Sync, file, refused, || file.sync_data());
                Done { failure: error_of(&result), bytes: 0, answer: Answer::Unit(reply, result) }
            }
            Request::SetLen(len, reply) => {
                let result = guarded(FileOp::SetLen, file, refused, || file.set_len(len));
                // Nothing accepted is lost by it, and the caller hears of it: the file can be used on.
                Done { failure: None, bytes: 0, answer: Answer::Unit(reply, result) }
            }
            Request::Reserve(len, reply) => {
                let result = guarded(FileOp::SetLen, file, refused, || file.reserve(len));
                // As above.
                Done { failure: None, bytes: 0, answer: Answer::Unit(reply, result) }
            }
            Request::Settle(reply) => {
                let result = refused.map_or(Ok(()), Err);
                Done { failure: None, bytes: 0, answer: Answer::Unit(reply, result) }
            }
            Request::Read { offset, len, reply } => {
                let result = guarded(FileOp::Read, file, refused, || {
                    let mut bytes = vec![0; len];
                    let n = file.read_at(&mut bytes, offset)?;
                    bytes.truncate(n);
                    Ok(bytes)
                });
                let bytes = result.as_ref().map_or(0, |bytes| bytes.len() as u64);
                Done { failure: None, bytes, answer: Answer::Bytes(reply, result) }
            }
            Request::Len(reply) => {
                let result = guarded(FileOp::Metadata, file, refused, || file.len());
                Done { failure: None, bytes: 0, answer: Answer::Len(reply, result) }
            }
        }
    }
}

/// Runs a file operation, unless it is refused. A file that panics must neither hang its caller nor end the executor.
fn guarded<T>(
    op: FileOp,
    file: &dyn VfsFile,
    refused: Option<IoError>,
    run: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if let Some(error) = refused {
        return Err(error);
    }
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(IoError::new(op, file.path(), io::Error::other("the file's implementation panicked")))
    })
}

/// What a request counts for in the statistics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// Requests of the callers.
    pub(super) requests: u64,
    /// Writes among them.
    pub(super) writes: u64,
    /// Bytes of those.
    pub(super) bytes: u64,
}

/// An executed request.
#[derive(Debug)]
pub(super) struct Done {
    /// What makes every later change of the file fail.
    pub(super) failure: Option<IoError>,
    /// Bytes moved.
    pub(super) bytes: u64,
    pub(super) answer: Answer,
}

/// A result on its way to the caller that waits for it.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nobody waits.
    None,
    Unit(Reply<()>, Result<()>),
    Bytes(Reply<Vec<u8>>, Result<Vec<u8>>),
    Len(Reply<u64>, Result<u64>),
}

impl Answer {
    /// True when somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        !matches!(self, Answer::None)
    }

    /// Hands it over. Never blocks: there is room for one, and a caller that is gone needs none.
    pub(super) fn deliver(self) {
        match self {
            Answer::None => {}
            Answer::Unit(reply, result) => drop(reply.try_send(result)),
            Answer::Bytes(reply, result) => drop(reply.try_send(result)),
            Answer::Len(reply, result) => drop(reply.try_send(result)),
        }
    }
}
