//! The background task that takes requests from the queues and has them executed.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::priority::Priority;
use super::queues::Next;
use super::shared::{Running, Shared};
use crate::urgency::Urgency;

/// Runs until the scheduler was closed and everything accepted was executed. However it ends, by panic and by the end
/// of its runtime too, nobody waits for it afterwards.
///
/// What nobody waits for is executed on the threads of `low`.
pub(super) async fn execute(shared: Arc<Shared>, low: Option<Handle>, urgency: Urgency) {
    let _end = End(&shared);
    loop {
        let next = {
            let mut queues = shared.queues.lock();
            queues.unlimited = urgency.is_given_up();
            queues.next(Instant::now())
        };
        match next {
            Next::Run(job) => {
                let is_urgent = urgency.is_urgent() || job.priority == Priority::Recovery;
                let running = Running::new(shared.clone(), job);
                // It books itself when it ends, and wakes this task.
                drop(match &low {
                    Some(low) if !is_urgent => low.spawn_blocking(move || running.run()),
                    _ => tokio::task::spawn_blocking(move || running.run()),
                });
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
