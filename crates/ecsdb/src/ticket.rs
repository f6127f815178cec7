//! The ticket: a committed transaction on its way to stable storage.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ecsdb_wal::{Durable, Log, Lsn};

use crate::error::{Error, Result};

const FINISHED: Error = Error::Finished("ticket");

/// A transaction that is committed, visible and queued for the log, but perhaps not on stable storage yet.
///
/// Wait for it, blocking ([`Ticket::wait`]) or with `.await`: a ticket is a future, under any executor. Many tickets in
/// flight share one sync. Dropping it cancels nothing: the transaction becomes durable all the same (WAL-13).
#[derive(Debug)]
#[must_use = "the transaction is not durable before the ticket was waited for"]
pub struct Ticket<T> {
    /// `None` once a future has given it.
    value: Option<T>,
    lsn: Lsn,
    log: Option<Log>,
    durable: Option<Durable>,
}

impl<T> Ticket<T> {
    pub(crate) fn new(value: T, lsn: Lsn, log: Option<Log>) -> Self {
        Ticket { value: Some(value), lsn, log, durable: None }
    }

    /// The transaction's log sequence number.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// What the closure returned; `None` once it was given by `.await`.
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// True once the transaction is on stable storage.
    pub fn is_durable(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.durable_lsn() >= self.lsn)
    }

    /// Blocks until the transaction is on stable storage, and gives what the closure returned. Not for async
    /// code: use `.await` there.
    ///
    /// # Errors
    /// When the log failed; the transaction may or may not have survived. Also when the ticket was awaited to its end before.
    pub fn wait(mut self) -> Result<T> {
        if let Some(log) = &self.log {
            log.wait(self.lsn)?;
        }
        self.value.take().ok_or(FINISHED)
    }

    pub(crate) fn into_value(self) -> Result<T> {
        self.value.ok_or(FINISHED)
    }
}

// The value is moved out, and never pinned.
impl<T> Unpin for Ticket<T> {}

/// Completes when the transaction is on stable storage. Polled again after that, it gives [`Error::Finished`].
impl<T> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let ticket = &mut *self;
        if ticket.value.is_none() {
            return Poll::Ready(Err(FINISHED));
        }
        if let Some(log) = &ticket.log {
            let durable = ticket.durable.get_or_insert_with(|| log.durable(ticket.lsn));
            match Pin::new(durable).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(durable) => durable?,
            }
        }
        Poll::Ready(ticket.value.take().ok_or(FINISHED))
    }
}
