//! Telling a call that would wait for itself, from within a transaction or on a thread that closing waits for, from one of another
//! thread, which may wait.

use std::cell::RefCell;

ecsdb_io::sync::thread_local! {
    /// The worlds that this thread holds, by address. Nobody but the thread itself reads or writes it, so there is nothing to race for. While the
    /// thread ends it may be gone already: then nothing is told.
    static WITHIN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// This thread holds a world, until it is dropped: code of a component, or of a transaction, that asks for it again would wait for itself.
pub(crate) struct Nesting(usize);

impl Nesting {
    pub(crate) fn enter(world: usize) -> Self {
        let _ = WITHIN.try_with(|within| within.borrow_mut().push(world));
        Nesting(world)
    }

    pub(crate) fn is_within(world: usize) -> bool {
        WITHIN.try_with(|within| within.borrow().contains(&world)).unwrap_or(false)
    }
}

impl Drop for Nesting {
    fn drop(&mut self) {
        let leave = |within: &RefCell<Vec<usize>>| {
            let mut within = within.borrow_mut();
            if let Some(at) = within.iter().rposition(|&world| world == self.0) {
                within.remove(at);
            }
        };
        let _ = WITHIN.try_with(leave);
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
        let _ = OWNER.try_with(|own| own.set(owner));
    }

    pub(crate) fn is_of(owner: usize) -> bool {
        OWNER.try_with(Cell::get).is_ok_and(|own| own == owner)
    }
}
