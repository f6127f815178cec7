//! Ctrl-C. Whoever only reads ends at once; whoever writes is told, stops at the next step, and removes what is half done. A second Ctrl-C
//! ends that, too: as a power cut would, after which the database is whole all the same.

#[cfg(unix)]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::{self, Exit, Failure};

static ASKED: AtomicBool = AtomicBool::new(false);
static HELD: Mutex<bool> = Mutex::new(false);

fn held() -> MutexGuard<'static, bool> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to listen.
pub(crate) fn listen() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        let first = !ASKED.swap(true, Ordering::SeqCst);
        // Once it is to end, nobody begins to write any more.
        let held = held();
        if !first || !*held {
            let _ = failure::end(&Failure::Interrupted.into());
            std::process::exit(Exit::Interrupted as i32);
        }
    })?;
    fail_where_files_end()
}

/// A file that would become larger than `ulimit -f` lets it is a full disk: an error, after which nothing half is left, and not the end of the process.
#[cfg(unix)]
fn fail_where_files_end() -> anyhow::Result<()> {
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default())?;
    Ok(())
}

#[cfg(not(unix))]
fn fail_where_files_end() -> anyhow::Result<()> {
    Ok(())
}

/// From now on an interruption is [asked](asked) for rather than done: what is begun is undone, or done and said to be.
pub(crate) fn hold() {
    *held() = true;
}

pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error once somebody wants the work to end.
pub(crate) fn check() -> Result<(), Failure> {
    if asked() { Err(Failure::Interrupted) } else { Ok(()) }
}
