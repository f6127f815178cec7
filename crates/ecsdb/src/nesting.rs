//! Telling a call that would wait for itself, from within a transaction or on a thread that closing waits for, from one of another
//! thread, which may wait.

use std::cell::RefCell;

use crate::database::Inner;

ecsdb_io::sync::thread_local! {
    /// The databases of which a transaction is under way on this thread, by address. Nobody but the thread itself reads or
    /// writes it, so there is nothing to race for.
    static WITHIN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// A transaction under way on this thread, until it is dropped.
pub(crate) struct Nesting(usize);

impl Nesting {
    pub(crate) fn enter(database: &Inner) -> Self {
        let address = std::ptr::from_ref(database).addr();
        WITHIN.with(|within| within.borrow_mut().push(address));
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
        WITHIN.with(|within| {
            let mut within = within.borrow_mut();
            if let Some(at) = within.iter().rposition(|&address| address == self.0) {
                within.remove(at);
            }
        });
    }
}

/// The threads that closing waits for. They call wakers, and a waker may do anything.
pub(crate) mod own_thread {
    use std::cell::Cell;

    ecsdb_io::sync::thread_local! {
        /// The database that this thread works for, by an address of its own; 0 for none.
        static OWNER: Cell<usize> = const { Cell::new(0) };
    }

    /// This thread works for `owner` until it ends.
    pub(crate) fn enter(owner: usize) {
        OWNER.with(|own| own.set(owner));
    }

    pub(crate) fn is_of(owner: usize) -> bool {
        OWNER.try_with(Cell::get).is_ok_and(|own| own == owner)
    }
}
