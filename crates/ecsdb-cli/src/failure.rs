//! How a command ends: what it says on standard error, and its exit code. `docs/command-line.md` is the table.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::error::ErrorKind as CallKind;

use ecsdb::ErrorKind;

use crate::{interrupt, output};

/// What a command itself finds wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The call cannot be obeyed as it is.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there.
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    Damaged(String),
    /// It was written by another version of this program.
    #[error("{0}")]
    Version(String),
    /// There is something where something new was to go.
    #[error("{0}")]
    Exists(String),
    /// Two states are not the same. It was said how.
    #[error("they differ")]
    Differs,
    #[error("interrupted")]
    Interrupted,
}

/// Exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    Missing = 3,
    Damaged = 4,
    Locked = 5,
    Exists = 6,
    Version = 7,
    Differs = 8,
    /// Or what the signal makes it.
    Interrupted = 130,
}

impl Exit {
    fn name(self) -> &'static str {
        match self {
            Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::Missing => "missing",
            Exit::Damaged => "damaged",
            Exit::Locked => "locked",
            Exit::Exists => "exists",
            Exit::Version => "version",
            Exit::Differs => "differs",
            Exit::Interrupted => "interrupted",
        }
    }

    fn of(error: &anyhow::Error) -> Exit {
        for cause in error.chain() {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return match failure {
                    Failure::Usage(_) => Exit::Usage,
                    Failure::Missing(_) => Exit::Missing,
                    Failure::Damaged(_) => Exit::Damaged,
                    Failure::Version(_) => Exit::Version,
                    Failure::Exists(_) => Exit::Exists,
                    Failure::Differs => Exit::Differs,
                    Failure::Interrupted => Exit::Interrupted,
                };
            }
            if let Some(wrong) = cause.downcast_ref::<ecsdb_query::Error>() {
                return Exit::of_kind(wrong.kind());
            }
            if let Some(kind) = ErrorKind::of(cause) {
                return Exit::of_kind(kind);
            }
        }
        Exit::Failed
    }

    fn of_kind(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::Call | ErrorKind::Config => Exit::Usage,
            // A copy that was not finished is no database yet.
            ErrorKind::NotFound | ErrorKind::Unfinished | ErrorKind::Away => Exit::Missing,
            ErrorKind::Damaged => Exit::Damaged,
            ErrorKind::Locked => Exit::Locked,
            ErrorKind::AlreadyExists => Exit::Exists,
            ErrorKind::Version | ErrorKind::Schema => Exit::Version,
            ErrorKind::Cancelled => Exit::Interrupted,
            _ => Exit::Failed,
        }
    }
}

/// True when the cause can be somebody who writes the files, too: they seem damaged, one of them went away, or a moment with it.
pub(crate) fn may_be_a_race(error: &anyhow::Error) -> bool {
    !output::is_unwritten(error) && matches!(Exit::of(error), Exit::Damaged | Exit::Failed | Exit::Missing)
}

/// What had been acknowledged is damaged.
pub(crate) fn is_damage(error: &anyhow::Error) -> bool {
    Exit::of(error) == Exit::Damaged
}

/// A program reads what is said.
static JSON: OnceLock<bool> = OnceLock::new();

/// Whether the call asks for JSON, told before it is known whether it is a right one.
pub(crate) fn listen_to(call: impl IntoIterator<Item = OsString>) {
    let json = call.into_iter().take_while(|word| word != "--").any(|word| word == "--json");
    JSON.get_or_init(|| json);
}

pub(crate) fn is_json() -> bool {
    JSON.get().copied().unwrap_or(false)
}

/// Says what is doubtful, and not wrong enough to end for; once, however often it is met.
pub(crate) fn warn(text: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if !SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.into()) {
        return;
    }
    drop(match is_json() {
        true => write_error(&serde_json::json!({ "warning": text }).to_string()),
        false => write_error(&output::harmless(format_args!("warning: {text}"))),
    });
}

/// Passes on what the engine says, which is asked for with `RUST_LOG`.
pub(crate) fn pass_on(text: &str) -> io::Result<()> {
    let text = text.trim_end();
    match is_json() {
        true => write_error(&serde_json::json!({ "log": text }).to_string()),
        false => write_error(text),
    }
}

/// Whether the error is one of a file or of the engine, which says the same by itself.
pub(crate) fn is_of_the_engine(error: &anyhow::Error) -> bool {
    Exit::of(error) == Exit::Failed
}

/// Ends for a call that is none: with help where it was asked for, and how to call for people.
pub(crate) fn end_call(error: &clap::Error) -> ExitCode {
    let is_help = matches!(
        error.kind(),
        CallKind::DisplayHelp | CallKind::DisplayVersion | CallKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_json() && error.kind() == CallKind::DisplayVersion {
        let mut out = output::Output::new(true);
        let said = out.json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }));
        return said.and_then(|()| out.flush()).map_or_else(|e| end(&e), |()| ExitCode::SUCCESS);
    }
    if is_help || !is_json() {
        let code = ExitCode::from(error.exit_code() as u8);
        return match error.print() {
            Err(e) if !error.use_stderr() => end(&output::named(e).into()),
            _ => code,
        };
    }
    let text = error.render().to_string();
    let what = text.split("\n\nUsage:").next().unwrap_or(&text);
    let what = what.split("\n\nFor more information").next().unwrap_or(what);
    let parts = what.trim_start_matches("error:").split("\n\n");
    let parts: Vec<String> =
        parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    end(&Failure::Usage(parts.join("; ")).into())
}

/// Says what is wrong, each cause once, and gives the exit code. Whoever closed the pipe wants to hear nothing.
pub(crate) fn end(error: &anyhow::Error) -> ExitCode {
    let pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(pipe) {
        return ExitCode::SUCCESS;
    }
    let exit = Exit::of(error);
    let code = if exit == Exit::Interrupted { interrupt::code() } else { exit as u8 };
    let text = if exit == Exit::Interrupted { Failure::Interrupted.to_string() } else { text(error) };
    // What else can be wrong is said in full.
    let backtrace = error.backtrace();
    let is_there = exit == Exit::Failed && backtrace.status() == std::backtrace::BacktraceStatus::Captured;
    let backtrace = is_there.then(|| backtrace.to_string());
    // Standard error may be closed, too.
    let said = if is_json() {
        let mut line = serde_json::json!({ "error": text, "kind": exit.name(), "code": code });
        if let Some(backtrace) = &backtrace {
            line["backtrace"] = backtrace.as_str().into();
        }
        write_error(&line.to_string())
    } else if exit == Exit::Differs {
        Ok(())
    } else if exit == Exit::Interrupted {
        write_error(&text)
    } else {
        write_error(&output::harmless(format_args!("error: {text}")))
    };
    if let Some(backtrace) = backtrace.filter(|_| said.is_ok() && !is_json()) {
        drop(write_error(&backtrace));
    }
    ExitCode::from(code)
}

/// An answer rather than something that is wrong.
pub(crate) fn is_answer(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Failure>(), Some(Failure::Differs))
}

fn write_error(line: &str) -> io::Result<()> {
    use io::Write;
    writeln!(io::stderr(), "{line}")
}

/// The error and its causes on one line. Texts of ecsdb's errors contain those of their causes already.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
