//! What the workload tells of itself while it runs, so that a check knows what had happened by a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// The workload's events (a transaction begun, one acknowledged), in the order in which they were noted.
///
/// A crash point sees the events noted before the operation it stands at. Note an acknowledgement after it was
/// given, and an attempt before it is made. Clones are handles to the same journal, for other threads.
#[derive(Debug)]
pub struct Journal<T> {
    events: Arc<Mutex<Vec<T>>>,
    /// Apart from the events, so that the disk can read it without knowing their type.
    count: Arc<AtomicUsize>,
}

impl<T> Journal<T> {
    /// An empty one: for running a workload without crashing it.
    pub fn new() -> Self {
        Journal { events: Arc::default(), count: Arc::default() }
    }

    /// Adds an event.
    pub fn note(&self, event: T) {
        let mut events = self.events.lock();
        events.push(event);
        self.count.store(events.len(), Ordering::Release);
    }

    pub(crate) fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    /// Takes the events so far out of it.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.events.lock())
    }
}

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Journal::new()
    }
}

impl<T> Clone for Journal<T> {
    fn clone(&self) -> Self {
        Journal { events: Arc::clone(&self.events), count: Arc::clone(&self.count) }
    }
}
