//! Telling a call that would wait for itself, from within a transaction or on a thread of a database, from one of another
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

/// The threads of databases. They call wakers, and a waker may do anything.
pub(crate) mod own_thread {
    use std::cell::Cell;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Role {
        /// It is the application's.
        Foreign,
        /// Closing this database, by an address of its own, waits for it.
        Of(usize),
        /// It calls what others brought, and they may wait for that.
        Serving,
    }

    ecsdb_io::sync::thread_local! {
        static ROLE: Cell<Role> = const { Cell::new(Role::Foreign) };
    }

    fn set(role: Role) {
        let _ = ROLE.try_with(|own| own.set(role));
    }

    fn get() -> Role {
        ROLE.try_with(Cell::get).unwrap_or(Role::Foreign)
    }

    /// This thread works for `owner` until it ends: closing waits for it.
    pub(crate) fn enter(owner: usize) {
        set(Role::Of(owner));
    }

    /// This thread calls what others bring until it ends: closing does not wait for it.
    pub(crate) fn serve() {
        set(Role::Serving);
    }

    pub(crate) fn is_of(owner: usize) -> bool {
        get() == Role::Of(owner)
    }

    /// True on any thread of any database.
    pub(crate) fn is_any() -> bool {
        get() != Role::Foreign
    }
}
