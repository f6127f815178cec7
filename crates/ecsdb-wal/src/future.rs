//! Waiting for durability without blocking a thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::error::Result;
use crate::log::Shared;
use ecsdb_id::Lsn;

/// Completes when a transaction is on stable storage; made by [`Log::durable`](crate::Log::durable).
///
/// Works under any executor. Dropping it cancels nothing: the transaction becomes durable all the same (WAL-13).
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Durable {
    shared: Arc<Shared>,
    lsn: Lsn,
    id: Option<u64>,
}

impl Durable {
    pub(crate) fn new(shared: Arc<Shared>, lsn: Lsn) -> Self {
        Durable { shared, lsn, id: None }
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Durable { shared, lsn, id } = &mut *self;
        if shared.durable_lsn() >= *lsn {
            return Poll::Ready(Ok(()));
        }
        if !shared.has_threads() {
            // Nobody else will do it.
            return Poll::Ready(shared.wait(*lsn));
        }
        let first = id.is_none();
        // Each time: whoever was to wake it may be in the process that this one was forked from.
        if let Err(e) = shared.check_process() {
            return Poll::Ready(Err(e));
        }
        if shared.register(*lsn, id, context.waker()) {
            // Durable, or never to be.
            return Poll::Ready(if shared.durable_lsn() >= *lsn { Ok(()) } else { shared.check() });
        }
        if first {
            shared.background().request();
        }
        Poll::Pending
    }
}
