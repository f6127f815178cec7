//! The ticket: a committed transaction on its way to stable storage.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use ecsdb_wal::{Durable, Log, Lsn};

use crate::error::Result;

/// A transaction that is committed, visible and queued for the log, but perhaps not on stable storage yet.
///
/// Wait for it, blocking ([`Ticket::wait`]) or with `.await`; many tickets in flight share one sync. Dropping it
/// cancels nothing: the transaction becomes durable all the same (WAL-13).
#[derive(Debug)]
#[must_use = "the transaction is not durable before the ticket was waited for"]
pub struct Ticket<T> {
    value: T,
    lsn: Lsn,
    log: Option<Log>,
}

impl<T> Ticket<T> {
    pub(crate) fn new(value: T, lsn: Lsn, log: Option<Log>) -> Self {
        Ticket { value, lsn, log }
    }

    /// The transaction's log sequence number.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// What the closure returned.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// True once the transaction is on stable storage.
    pub fn is_durable(&self) -> bool {
        self.log.as_ref().is_none_or(|log| log.durable_lsn() >= self.lsn)
    }

    /// Blocks until the transaction is on stable storage, and gives what the closure returned. Not for async
    /// code: use `.await` there.
    ///
    /// # Errors
    /// When the log failed; the transaction may or may not have survived.
    pub fn wait(self) -> Result<T> {
        if let Some(log) = &self.log {
            log.wait(self.lsn)?;
        }
        Ok(self.value)
    }
}

impl<T: Unpin> IntoFuture for Ticket<T> {
    type Output = Result<T>;
    type IntoFuture = TicketFuture<T>;

    fn into_future(self) -> TicketFuture<T> {
        let durable = self.log.map(|log| log.durable(self.lsn));
        TicketFuture { value: Some(self.value), durable }
    }
}

/// A [`Ticket`] being awaited.
#[derive(Debug)]
pub struct TicketFuture<T> {
    value: Option<T>,
    durable: Option<Durable>,
}

impl<T: Unpin> Future for TicketFuture<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if let Some(durable) = &mut self.durable {
            match Pin::new(durable).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(durable) => durable?,
            }
        }
        match self.value.take() {
            Some(value) => Poll::Ready(Ok(value)),
            // Polled again after it was done; a future may answer as it likes then.
            None => Poll::Pending,
        }
    }
}
