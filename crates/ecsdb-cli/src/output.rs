//! What a command prints: tables and lines for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};
use ecsdb_recovery::PathText;
use indicatif::{ProgressBar, ProgressStyle, WeakProgressBar};
use serde_json::{Value as Json, json};

/// Where results go.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<StandardOutput>,
}

/// Standard output, which its errors name.
struct StandardOutput(StdoutLock<'static>);

/// An error of standard output.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
struct Unwritten(io::Error);

/// An error of standard output, with its name.
pub(crate) fn named(e: io::Error) -> io::Error {
    io::Error::new(e.kind(), Unwritten(e))
}

/// Whether it is standard output that failed: then nothing more can be said there, and no file that was read has anything to do with it.
pub(crate) fn is_unwritten(error: &anyhow::Error) -> bool {
    let is_such = |e: &io::Error| e.get_ref().is_some_and(|e| e.is::<Unwritten>());
    error.chain().any(|cause| cause.downcast_ref().is_some_and(is_such))
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Output { json, out: BufWriter::new(StandardOutput(io::stdout().lock())) }
    }

    /// A program reads it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One JSON value on one line.
    pub(crate) fn json(&mut self, value: &Json) -> Result<()> {
        // As what it is, so that a closed pipe is known.
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        Ok(writeln!(self.out, "{}", harmless(line))?)
    }

    /// A table; nothing without rows.
    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
        let mut table = Rows::new(head);
        rows.into_iter().try_for_each(|row| table.push(row, self))?;
        table.finish(self)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// Nobody will read what is printed from now on: whoever has the other end of the pipe is gone.
    #[cfg(unix)]
    pub(crate) fn is_left(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
    }

    /// It is found out with the next line.
    #[cfg(not(unix))]
    pub(crate) fn is_left(&self) -> bool {
        false
    }

    /// What was printed so far is to be seen now.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// Rows of a table that are kept before they are printed, and their bytes: what is bounded is memory, and the wait for the first of them.
const KEPT_ROWS: usize = 1000;
const KEPT_BYTES: usize = 1 << 20;

/// A table of any length, of which only a part is kept: the first rows say how wide the columns are.
pub(crate) struct Rows {
    head: Vec<String>,
    kept: Vec<Vec<String>>,
    bytes: usize,
    /// Of the columns, once something was printed.
    widths: Vec<u16>,
}

impl Rows {
    pub(crate) fn new(head: &[&str]) -> Rows {
        let head = head.iter().map(|name| name.to_string()).collect();
        Rows { head, kept: Vec::new(), bytes: 0, widths: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>, out: &mut Output) -> Result<()> {
        self.bytes += row.iter().map(String::len).sum::<usize>();
        self.kept.push(row.into_iter().map(harmless).collect());
        match self.kept.len() >= KEPT_ROWS || self.bytes >= KEPT_BYTES {
            true => self.print(out),
            false => Ok(()),
        }
    }

    /// Prints what is kept.
    fn print(&mut self, out: &mut Output) -> Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !self.head.is_empty() {
            table.set_header(std::mem::take(&mut self.head));
        }
        self.bytes = 0;
        table.add_rows(self.kept.drain(..));
        for (column, width) in table.column_iter_mut().zip(&self.widths) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(*width)));
        }
        if self.widths.is_empty() {
            self.widths = table.column_max_content_widths().iter().map(|width| width + PADDING).collect();
        }
        out.line(table.trim_fmt())
    }

    pub(crate) fn finish(mut self, out: &mut Output) -> Result<()> {
        self.print(out)
    }
}

/// Blanks beside what is in a cell, which count for the width of its column.
const PADDING: u16 = 2;

/// A path for programs: every one goes through here, since a plain one that is no Unicode cannot be told.
pub(crate) fn path(path: &Path) -> Json {
    json!(PathText(path))
}

/// The bars that are shown, for [`clear`].
static BARS: Mutex<Vec<WeakProgressBar>> = Mutex::new(Vec::new());

fn bars() -> MutexGuard<'static, Vec<WeakProgressBar>> {
    BARS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(bar: ProgressBar) -> ProgressBar {
    let mut bars = bars();
    bars.retain(|bar| bar.upgrade().is_some());
    bars.push(bar.downgrade());
    bar
}

/// Takes away what is shown of work that ends in the middle: what is said then stands on a line of its own.
pub(crate) fn clear() {
    bars().iter().filter_map(WeakProgressBar::upgrade).for_each(|bar| bar.finish_and_clear());
}

/// A bar on standard error, if somebody looks at it.
pub(crate) fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = shown(ProgressBar::new_spinner());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar for work of which a part is known to be done.
pub(crate) fn bar() -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {percent}%  {msg}  {elapsed}, about {eta} left")?;
    Ok(shown(ProgressBar::new(0).with_style(style)))
}

/// Text for people, in which nothing does anything to a terminal but to begin a new line: names, values and paths are whatever somebody wrote.
pub(crate) fn harmless(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || turns(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A character that changes the direction of what is beside it: what is shown would read as something else than it is.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number with the word for it.
pub(crate) fn many(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", indicatif::HumanCount(n), if n == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However it comes to be one of a command: of a line, of JSON, of bytes.
    #[test]
    fn an_output_that_fails_is_no_race() {
        use crate::failure::may_be_a_race;
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(named(io::ErrorKind::WouldBlock.into()))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let json = serde_json::to_writer(Full, &json!({})).map_err(io::Error::from).unwrap_err();
        let line = writeln!(BufWriter::with_capacity(1, Full), "{}", 7).unwrap_err();
        for e in [json, line] {
            let e = anyhow::Error::from(e);
            assert!(is_unwritten(&e) && !may_be_a_race(&e), "{e}");
            assert!(e.to_string().starts_with("cannot write to standard output: "), "{e}");
        }
        let of_a_file = anyhow::Error::from(io::Error::from(io::ErrorKind::WouldBlock));
        assert!(!is_unwritten(&of_a_file) && may_be_a_race(&of_a_file));
    }

    #[test]
    fn nothing_that_is_shown_does_anything_to_a_terminal_or_to_what_is_beside_it() {
        assert_eq!(
            harmless("a\u{1b}[2Jb\nc\u{202e}d\u{2066}\u{61c}é"),
            "a\\u001b[2Jb\nc\\u202ed\\u2066\\u061cé"
        );
    }
}
