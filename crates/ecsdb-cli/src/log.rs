//! What the engine says by itself. It tells errors to whoever asked as well, so that where nobody asks for more it is heard only when the command
//! has nothing to say of it.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::failure;

/// Errors that nobody has asked to hear of yet.
static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Shows what the engine says as `RUST_LOG` has it; without it, errors are kept for [`tell`].
pub(crate) fn listen() {
    let named = std::env::var_os(EnvFilter::DEFAULT_ENV).filter(|said| !said.is_empty());
    let asked = EnvFilter::try_from_default_env().ok().filter(|_| named.is_some());
    if let (Some(_), None) = (named, &asked) {
        let e = EnvFilter::try_from_default_env().err().map(|e| e.to_string()).unwrap_or_default();
        failure::warn(&format!("the environment variable {} is not understood: {e}", EnvFilter::DEFAULT_ENV));
    }
    // Variables that are no settings are warnings of ours.
    let quiet = |filter: EnvFilter| match "ecsdb_config::load=error".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let subscriber = tracing_subscriber::fmt();
    match asked {
        Some(filter) => {
            let is_shown = io::stderr().is_terminal() && !failure::is_json();
            subscriber.with_env_filter(quiet(filter)).with_ansi(is_shown).with_writer(Shown).init();
        }
        None => subscriber
            .with_env_filter(quiet(EnvFilter::new("error")))
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_writer(Kept)
            .init(),
    }
}

/// Says as warnings what the engine found wrong and the command says nothing of.
pub(crate) fn tell() {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    kept.iter().for_each(|line| failure::warn(line));
}

/// Standard error, on which a program finds JSON.
#[derive(Clone, Copy)]
struct Shown;

#[derive(Clone, Copy)]
struct Kept;

impl<'a> MakeWriter<'a> for Shown {
    type Writer = Shown;

    fn make_writer(&'a self) -> Shown {
        *self
    }
}

impl<'a> MakeWriter<'a> for Kept {
    type Writer = Kept;

    fn make_writer(&'a self) -> Kept {
        *self
    }
}

/// An event is one write.
impl Write for Shown {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        failure::pass_on(&String::from_utf8_lossy(event))?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Kept {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(event).trim().to_string();
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
