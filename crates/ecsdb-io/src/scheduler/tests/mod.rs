//! What the scheduler promises, on a disk that can be held, failed and asked.

mod bounds;
mod equal;
mod failures;
pub(crate) mod fake;
mod life;
mod order;
mod rates;

use std::path::Path;
use std::sync::Arc;

use super::shared::Running;
use super::{Priority, Scheduler, SchedulerOptions};
use crate::vfs::{Vfs, VfsFile};
use fake::Fake;

fn start(options: SchedulerOptions) -> (Scheduler, Fake) {
    (Scheduler::start(options).unwrap(), Fake::default())
}

/// Has an operation executed by the runtime that the executor runs on.
fn on_tokio(operation: Running, _is_urgent: bool) {
    drop(tokio::task::spawn_blocking(move || operation.run()));
}

fn create(scheduler: &Scheduler, disk: &Fake, priority: Priority, path: &str) -> Arc<dyn VfsFile> {
    scheduler.vfs(Arc::new(disk.clone()), priority).create(Path::new(path)).unwrap()
}

/// Occupies the place for changes of all classes until `disk.release("gate")`, so that what is queued meanwhile is in the queue
/// for certain.
fn close_gate(scheduler: &Scheduler, disk: &Fake) -> Arc<dyn VfsFile> {
    let gate = create(scheduler, disk, Priority::Log, "gate");
    disk.hold("gate");
    gate.write_at(b"gate", 0).unwrap();
    disk.await_held("gate", 1);
    gate
}

/// The writes which the disk saw.
fn writes(disk: &Fake) -> Vec<String> {
    disk.log().into_iter().filter_map(|line| Some(line.strip_prefix("write ")?.to_string())).collect()
}
