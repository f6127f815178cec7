//! The turn to work: one piece of work changes the files at a time, and what is cancelled waits for nobody else's end.

use ecsdb_io::sync::{Condvar, Mutex};

/// Who has the turn, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<bool>,
    looked_at: Condvar,
}

/// The turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// The turn, once nobody else has it; `None` as soon as nobody wants it any more. Whoever makes that so calls [`Turns::look`].
    pub(crate) fn take(&self, is_wanted: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock();
        while is_wanted() {
            if !*taken {
                *taken = true;
                return Some(Turn(self));
            }
            self.looked_at.wait(&mut taken);
        }
        None
    }

    /// Has those who wait look whether they still want it.
    pub(crate) fn look(&self) {
        drop(self.taken.lock());
        self.looked_at.notify_all();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.looked_at.notify_all();
    }
}
