//! Segments made ready before they are needed: filled with real zeros and synced under their name (WAL-10,
//! WAL-12), so that a record's sync never waits for the file system to allocate. Where records are large, room is enough.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::sync::thread::{self, JoinHandle};
use ecsdb_io::sync::{Condvar, Mutex};
use ecsdb_io::{DirLock, FileKind, IoError, Layout, Owner, Vfs, publish};

use crate::format::PAGE;
use crate::options::Threads;

/// Zeros are written and synced this many bytes at a time, so that the log's own syncs come in between.
pub(crate) const SLICE_BYTES: u64 = 1 << 20;

/// How a segment is made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// With real zeros: the sync of a small record has nothing to do then but to write it.
    Zeros,
    /// With room: what is to come is large, and to write as many zeros first would take as long as to write it.
    Room,
}

/// A file that is ready to become a segment.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) path: PathBuf,
}

/// Makes segment files, on a thread of its own if there may be one.
#[derive(Debug)]
pub(crate) struct Preparer {
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Work {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    /// Whose segments they are.
    database: u128,
    lock: Option<Weak<dyn DirLock>>,
    /// The directory says whose it is. One of a log by itself need not.
    claimed: bool,
    state: Mutex<State>,
    changed: Condvar,
    /// The segment is needed now: stop filling and hand it over.
    hurry: AtomicBool,
}

#[derive(Debug)]
enum State {
    Idle,
    /// Asked for: number and bytes.
    Wanted(u64, u64, Fill),
    Busy,
    Ready(Prepared),
    /// It failed; whoever needs the segment tries again, and gets the error if it stays.
    Failed,
    Stopped,
}

impl Preparer {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: PathBuf,
        database: u128,
        lock: Option<Weak<dyn DirLock>>,
        threads: Threads,
    ) -> std::io::Result<Self> {
        let work = Arc::new(Work {
            claimed: Owner::is_said(&*vfs, &dir),
            vfs,
            dir,
            database,
            lock,
            state: Mutex::new(State::Idle),
            changed: Condvar::new(),
            hurry: AtomicBool::new(false),
        });
        let thread = match threads {
            Threads::None => None,
            Threads::Background => {
                let work = work.clone();
                let thread = thread::Builder::new().name("ecsdb-prepare".into());
                Some(thread.spawn(move || work.run())?)
            }
        };
        Ok(Preparer { work, thread })
    }

    /// Asks for a segment ahead of its use.
    pub(crate) fn request(&self, sequence: u64, bytes: u64, fill: Fill) {
        if self.thread.is_some() {
            let mut state = self.work.state.lock();
            if !matches!(*state, State::Stopped) {
                *state = State::Wanted(sequence, bytes, fill);
                self.work.changed.notify_all();
            }
        }
    }

    /// The segment `sequence`, which is needed now. The flag says that it was not ready.
    pub(crate) fn take(&self, sequence: u64, bytes: u64, fill: Fill) -> Result<(Prepared, bool), IoError> {
        if self.thread.is_none() {
            return Ok((self.work.make(sequence, bytes, fill)?, false));
        }
        let mut state = self.work.state.lock();
        let late = !matches!(*state, State::Ready(_));
        self.work.hurry.store(true, Ordering::Relaxed);
        while matches!(*state, State::Wanted(..) | State::Busy) {
            self.work.changed.wait(&mut state);
        }
        self.work.hurry.store(false, Ordering::Relaxed);
        match std::mem::replace(&mut *state, State::Idle) {
            State::Ready(prepared) => {
                self.work.check()?;
                Ok((prepared, late))
            }
            _ => Ok((self.work.make(sequence, 0, fill)?, true)),
        }
    }

    /// Ends the thread and removes a segment that was prepared in vain.
    pub(crate) fn stop(&mut self) -> Result<(), IoError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.work.hurry.store(true, Ordering::Relaxed);
        let unused = {
            let mut state = self.work.state.lock();
            while matches!(*state, State::Busy) {
                self.work.changed.wait(&mut state);
            }
            self.work.changed.notify_all();
            std::mem::replace(&mut *state, State::Stopped)
        };
        // The thread catches its own panics by failing the request; nothing is lost by ignoring it here.
        if thread.join().is_err() {
            tracing::error!("the thread that prepares log segments panicked");
        }
        if let State::Ready(prepared) = unused {
            self.work.check()?;
            self.work.vfs.remove(&prepared.path)?;
            self.work.vfs.sync_dir(&self.work.dir)?;
        }
        Ok(())
    }
}

impl Drop for Preparer {
    /// A log that could not be started leaves no thread behind.
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            tracing::warn!(error = %e, "a segment that was prepared in vain is left");
        }
    }
}

impl Work {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            match *state {
                State::Stopped => return,
                State::Wanted(sequence, bytes, fill) => {
                    *state = State::Busy;
                    drop(state);
                    let make = std::panic::AssertUnwindSafe(|| self.make(sequence, bytes, fill));
                    let made = std::panic::catch_unwind(make);
                    state = self.state.lock();
                    *state = match made {
                        Ok(Ok(prepared)) => State::Ready(prepared),
                        Ok(Err(e)) => {
                            tracing::warn!(error = %e, "a log segment could not be prepared");
                            State::Failed
                        }
                        Err(_) => State::Failed,
                    };
                    self.changed.notify_all();
                }
                _ => self.changed.wait(&mut state),
            }
        }
    }

    fn check(&self) -> Result<(), IoError> {
        if let Some(lock) = &self.lock {
            // One that was given back keeps nobody out, either (REC-12).
            let lock = lock.upgrade().ok_or_else(|| IoError::lock_lost(&Layout::lock_file(&self.dir)))?;
            lock.check()?;
        }
        match self.claimed {
            true => Owner::check_claimed(&*self.vfs, &self.dir, self.database),
            false => Owner::check(&*self.vfs, &self.dir, self.database),
        }
    }

    /// Makes a segment file of zeros; a shorter one when it is needed in a hurry, but never shorter than its header's page: that is what a header
    /// says that the file had before it was written.
    fn make(&self, sequence: u64, bytes: u64, fill: Fill) -> Result<Prepared, IoError> {
        let bytes = bytes.max(PAGE);
        self.check()?;
        let path = self.dir.join(FileKind::Segment.name(sequence));
        publish(&*self.vfs, &path, |file| {
            if fill == Fill::Room {
                return file.reserve(bytes);
            }
            let zeros = vec![0; SLICE_BYTES.min(bytes) as usize];
            let mut at = 0;
            while at < bytes && !(at > 0 && self.hurry.load(Ordering::Relaxed)) {
                let n = (bytes - at).min(SLICE_BYTES);
                file.write_at(&zeros[..n as usize], at)?;
                at += n;
                if at < bytes {
                    file.sync_data()?;
                }
            }
            Ok::<(), IoError>(())
        })?;
        Ok(Prepared { path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecsdb_io::Disk;

    /// Seed 457728 of the simulation: the header of a segment that nobody had prepared was torn, and said that the file had been longer.
    #[test]
    fn a_segment_that_is_made_in_a_hurry_has_the_page_of_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let preparer =
            Preparer::new(Arc::new(Disk), dir.path().into(), 1, None, Threads::Background).unwrap();
        let (prepared, late) = preparer.take(1, 64 << 10, Fill::Zeros).unwrap();
        assert!(late && std::fs::metadata(prepared.path).unwrap().len() >= PAGE);
    }
}
