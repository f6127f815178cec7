//! Telling a call from within a transaction, which would wait for itself, from one of another thread, which may wait.

use std::cell::RefCell;

use crate::database::Inner;

thread_local! {
    /// The databases of which a transaction is under way on this thread, by address. Nobody but the thread itself reads or
    /// writes it, so there is nothing to race for.
    static WITHIN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A transaction under way on this thread, until it is dropped.
pub(crate) struct Nesting(usize);

impl Nesting {
    pub(crate) fn enter(database: &Inner) -> Self {
        let address = std::ptr::from_ref(database).addr();
        WITHIN.with_borrow_mut(|within| within.push(address));
        Nesting(address)
    }

    pub(crate) fn is_within(database: &Inner) -> bool {
        let address = std::ptr::from_ref(database).addr();
        // While the thread ends there is no transaction under way on it.
        WITHIN.try_with(|within| within.borrow().contains(&address)).unwrap_or(false)
    }
}

impl Drop for Nesting {
    fn drop(&mut self) {
        WITHIN.with_borrow_mut(|within| {
            if let Some(at) = within.iter().rposition(|&address| address == self.0) {
                within.remove(at);
            }
        });
    }
}
