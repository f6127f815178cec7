//! The background task that takes requests from the queues and has them executed.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::priority::Priority;
use super::queues::Next;
use super::shared::{Running, Shared};
use crate::urgency::Urgency;

/// Runs until the scheduler was closed and everything accepted was executed. However it ends, by panic and by the end
/// of its runtime too, nobody waits for it afterwards.
///
/// `run` has an operation executed, and is told whether somebody waits for it. It must not wait for it itself, if it can help it.
pub(super) async fn execute(shared: Arc<Shared>, urgency: Urgency, mut run: impl FnMut(Running, bool)) {
    let _end = End(&shared);
    loop {
        let next = {
            let mut queues = shared.queues.lock();
            queues.unlimited = urgency.is_given_up();
            queues.next(Instant::now())
        };
        match next {
            Next::Run(job) => {
                // A commit may wait for the segment that is being prepared.
                let always = matches!(job.priority, Priority::Log | Priority::Recovery);
                let is_urgent = always || urgency.is_urgent();
                // It books itself when it ends, and wakes this task.
                run(Running::new(shared.clone(), job), is_urgent);
            }
            Next::Wait(None) => shared.wake.notified().await,
            // Being woken and the time being over are the same here: look again.
            Next::Wait(Some(until)) => drop(timeout_at(until, shared.wake.notified()).await),
            Next::Finished => return,
        }
    }
}

struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
