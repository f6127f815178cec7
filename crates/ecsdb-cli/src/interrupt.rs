//! Ctrl-C. Whoever only reads ends at once; whoever writes is told, stops at the next step, and removes what is half done. A second Ctrl-C
//! ends that, too: as a power cut would, after which the database is whole all the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::failure::{self, Exit, Failure};

static ASKED: AtomicBool = AtomicBool::new(false);
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Begins to listen.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        let first = !ASKED.swap(true, Ordering::SeqCst);
        if !first || HELD.load(Ordering::SeqCst) == 0 {
            let _ = failure::end(&Failure::Interrupted.into());
            std::process::exit(Exit::Interrupted as i32);
        }
    })?;
    Ok(())
}

/// As long as it lives, an interruption is [asked](asked) for rather than done.
pub(crate) struct Held(());

pub(crate) fn hold() -> Held {
    HELD.fetch_add(1, Ordering::SeqCst);
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error once somebody wants the work to end.
pub(crate) fn check() -> Result<(), Failure> {
    if asked() { Err(Failure::Interrupted) } else { Ok(()) }
}
