//! Ctrl-C, and the other signals that ask for an end. Whoever only reads ends at once; whoever writes is told, stops at the next step, and removes what is
//! half done. The same one again ends that, too: as a power cut would, after which the database is whole all the same.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::failure::{self, Failure};
use crate::output;

/// What a shell gives for a command that a signal has ended is this and the signal's number.
const SIGNALLED: u8 = 128;
/// The number of the signal of Ctrl-C, wherever there are signals.
const CTRL_C: u8 = 2;

/// That of a terminal that goes away.
const HANG_UP: u8 = 1;

/// The number of the first signal; 0 until there was one. Of several that come before this process gets a core it is the lowest: the system does not
/// keep in which order they were sent.
static ASKED: AtomicU8 = AtomicU8::new(0);
/// All that there were: a bit each.
static SEEN: AtomicU32 = AtomicU32::new(0);
static HELD: Mutex<bool> = Mutex::new(false);

fn held() -> MutexGuard<'static, bool> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to listen.
#[cfg(unix)]
pub(crate) fn listen() -> anyhow::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;
    // What is ignored from the beginning stays so: with `nohup` a command outlives its terminal.
    let ignored = ignored();
    let ends = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & 1 << (signal - 1) == 0);
    let mut signals = Signals::new(ends)?;
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            ask(signal as u8);
        }
    })?;
    // A file that would become larger than `ulimit -f` lets it is a full disk: an error, after which nothing half is left, and not the end of the process.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn listen() -> anyhow::Result<()> {
    Ok(ctrlc::set_handler(|| ask(CTRL_C))?)
}

/// The signals that are ignored: a bit each, the lowest for number 1. Where the system does not say it, none.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

fn ask(signal: u8) {
    let _ = ASKED.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
    let bit = 1 << signal;
    // Nobody's impatience is a terminal that goes away, which is told by shell and system, or a logout, which sends two different ones.
    let again = SEEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 && signal != HANG_UP;
    // Once it is to end, nobody begins to write any more.
    let held = held();
    if again || !*held {
        output::clear();
        let _ = failure::end(&Failure::Interrupted.into());
        std::process::exit(code().into());
    }
}

/// From now on an interruption is [asked](asked) for rather than done: what is begun is undone, or done and said to be.
pub(crate) fn hold() {
    *held() = true;
}

pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst) != 0
}

/// The exit code of whoever is interrupted. In its raw mode a terminal sends no signal.
pub(crate) fn code() -> u8 {
    match ASKED.load(Ordering::SeqCst) {
        0 => SIGNALLED + CTRL_C,
        signal => SIGNALLED + signal,
    }
}

/// An error once somebody wants the work to end.
pub(crate) fn check() -> Result<(), Failure> {
    if asked() { Err(Failure::Interrupted) } else { Ok(()) }
}
