//! What the callers and the executor share: the queues behind one lock, and the ways to wait for each other.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::priority::Priority;
use super::queues::{Aftermath, Finished, Gone, Job, Phase, Queues};
use super::request::{Done, Reply, Request, Write};
use crate::direct::PageVec;
use crate::error::{FileOp, IoError, Result};

/// Never locked while a file operation runs.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) queues: Mutex<Queues>,
    /// Tells the executor that there may be something to do.
    pub(super) wake: Notify,
    /// Tells that [`Phase::Stopped`] was reached.
    pub(super) stopped: Condvar,
    room: [Room; Priority::ALL.len()],
    queue_bytes_max: u64,
}

/// Where the writers of a class wait for its bound, one behind the other: a large request is not overtaken for ever by
/// small ones.
#[derive(Debug, Default)]
struct Room {
    turn: Mutex<()>,
    freed: Condvar,
}

impl Shared {
    pub(super) fn new(queue_bytes_max: u64, merge_bytes_max: usize) -> Self {
        Shared {
            queues: Mutex::new(Queues::new(merge_bytes_max)),
            wake: Notify::new(),
            stopped: Condvar::new(),
            room: Default::default(),
            queue_bytes_max,
        }
    }

    /// Queues a write. Waits while its class has no room.
    pub(super) fn write(
        &self,
        file: u64,
        path: &Path,
        class: Priority,
        offset: u64,
        bytes: PageVec,
    ) -> Result<()> {
        let room = &self.room[class.index()];
        let _turn = room.turn.lock();
        let mut queues = self.queues.lock();
        loop {
            self.check(&mut queues, file, FileOp::Write, path)?;
            if queues.has_room(class, bytes.len() as u64, self.queue_bytes_max) {
                break;
            }
            room.freed.wait(&mut queues);
        }
        queues.push(file, Request::Write(Write::new(offset, bytes)));
        drop(queues);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a change that the caller waits for, and waits.
    pub(super) fn change(
        &self,
        file: u64,
        op: FileOp,
        path: &Path,
        request: impl FnOnce(Reply<()>) -> Request,
    ) -> Result<()> {
        let mut queues = self.queues.lock();
        self.check(&mut queues, file, op, path)?;
        let answer = queue(&mut queues, file, request);
        drop(queues);
        self.wait(answer, op, path)
    }

    /// Queues a reading request behind the writes of its file, and waits.
    pub(super) fn look<T>(
        &self,
        file: u64,
        op: FileOp,
        path: &Path,
        request: impl FnOnce(Reply<T>) -> Request,
    ) -> Result<T> {
        let mut queues = self.queues.lock();
        if queues.phase != Phase::Open {
            return Err(IoError::stopped(op, path));
        }
        let answer = queue(&mut queues, file, request);
        drop(queues);
        self.wait(answer, op, path)
    }

    /// Waits until what is queued of the files of such names and of `lowest` priority or a higher one was executed. A failure remains the business
    /// of the handle that made the write.
    pub(super) fn settle(&self, lowest: Priority, named: impl Fn(&Path) -> bool) {
        let mut queues = self.queues.lock();
        let answers: Vec<_> =
            busy(&queues, lowest, named).into_iter().map(|id| queue(&mut queues, id, Request::Len)).collect();
        drop(queues);
        self.wake.notify_one();
        for answer in answers {
            // Only that it comes matters.
            drop(answer.recv());
        }
    }

    /// The same, but returns a failure of these files, be it old or just met.
    pub(super) fn settle_well(&self, op: FileOp, path: &Path) -> Result<()> {
        let mut queues = self.queues.lock();
        for id in queues.named(|name| name == path) {
            if let Some(failure) = queues.failure(id) {
                return Err(failure);
            }
        }
        let answers: Vec<_> = busy(&queues, Priority::LOWEST, |name| name == path)
            .into_iter()
            .map(|id| queue(&mut queues, id, Request::Settle))
            .collect();
        drop(queues);
        answers.into_iter().try_for_each(|answer| self.wait(answer, op, path))
    }

    fn check(&self, queues: &mut Queues, file: u64, op: FileOp, path: &Path) -> Result<()> {
        if let Some(failure) = queues.failure(file) {
            return Err(failure);
        }
        if queues.phase == Phase::Open { Ok(()) } else { Err(IoError::stopped(op, path)) }
    }

    fn wait<T>(&self, answer: Receiver<Result<T>>, op: FileOp, path: &Path) -> Result<T> {
        self.wake.notify_one();
        answer.recv().unwrap_or_else(|_| Err(IoError::stopped(op, path)))
    }

    /// Notes that nobody holds the file any more.
    pub(super) fn drop_file(&self, file: u64) {
        let gone = self.queues.lock().drop_file(file);
        gone.into_iter().for_each(bury);
    }

    fn finished(&self, job: &Finished, mut done: Done) {
        let Aftermath { decided, gone } = self.queues.lock().finished(job, &mut done);
        self.wake.notify_one();
        self.room[job.priority.index()].freed.notify_all();
        // Told last: whoever hears of it finds the statistics right.
        done.answer.deliver();
        decided.into_iter().for_each(|done| done.answer.deliver());
        gone.into_iter().for_each(bury);
    }

    /// Has those who wait for room look whether they still should.
    pub(super) fn wake_writers(&self) {
        for room in &self.room {
            room.freed.notify_all();
        }
    }

    /// Ends everything: whatever waits gets an error.
    pub(super) fn stop(&self) {
        let gone = self.queues.lock().stop();
        self.stopped.notify_all();
        self.wake_writers();
        gone.into_iter().for_each(bury);
    }
}

/// The files of such names, and of such a priority or a higher one, of which a change is queued or under way. Of a closing scheduler it is still executed; of a
/// stopped one nothing is.
fn busy(queues: &Queues, lowest: Priority, named: impl Fn(&Path) -> bool) -> Vec<u64> {
    if queues.phase == Phase::Stopped {
        return Vec::new();
    }
    queues
        .named(named)
        .into_iter()
        .filter(|id| !queues.is_settled(*id) && queues.is_at_least(*id, lowest))
        .collect()
}

fn queue<T>(
    queues: &mut Queues,
    file: u64,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Receiver<Result<T>> {
    let (reply, answer) = sync_channel(1);
    queues.push(file, request(reply));
    answer
}

/// The last that is heard of a file.
fn bury(gone: Gone) {
    if let Some(error) = &gone.unreported {
        tracing::error!(%error, "a queued write failed after its file was last used: its bytes are lost");
    }
}

/// A [`Job`] on its way to a thread. Executed or not, it is booked exactly once.
#[derive(Debug)]
pub(super) struct Running {
    shared: Arc<Shared>,
    job: Option<Job>,
}

impl Running {
    pub(super) fn new(shared: Arc<Shared>, job: Job) -> Self {
        Running { shared, job: Some(job) }
    }

    /// Executes it, blocking.
    pub(super) fn run(mut self) {
        self.end(None);
    }

    fn end(&mut self, refused: Option<IoError>) {
        let Some(Job { file, priority, handle, request }) = self.job.take() else { return };
        let finished = Finished { file, priority, is_change: request.is_change(), cost: request.cost() };
        let done = request.execute(&*handle, refused);
        drop(handle);
        self.shared.finished(&finished, done);
    }
}

impl Drop for Running {
    /// The runtime was shut down before there was a thread for it.
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            let error = IoError::stopped(FileOp::Write, job.handle.path());
            self.end(Some(error));
        }
    }
}
