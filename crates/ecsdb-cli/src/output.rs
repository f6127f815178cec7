//! What a command prints: tables and lines for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};
use ecsdb_recovery::PathText;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};

/// Where results go.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<StandardOutput>,
}

/// Standard output, which its errors name.
struct StandardOutput(StdoutLock<'static>);

/// An error of standard output, with its name.
pub(crate) fn named(e: io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("cannot write to standard output: {e}"))
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
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if !head.is_empty() {
            table.set_header(head.iter().copied());
        }
        for row in rows {
            table.add_row(row.into_iter().map(harmless));
        }
        self.line(table.trim_fmt())
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self) -> &mut impl Write {
        &mut self.out
    }

    /// What was printed so far is to be seen now.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.out.flush()?)
    }
}

/// A path for programs: every one goes through here, since a plain one that is no Unicode cannot be told.
pub(crate) fn path(path: &Path) -> Json {
    json!(PathText(path))
}

/// A bar on standard error, if somebody looks at it.
pub(crate) fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar for work of which a part is known to be done.
pub(crate) fn bar() -> Result<ProgressBar> {
    if !io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {percent}%  {msg}  {elapsed}, about {eta} left")?;
    Ok(ProgressBar::new(0).with_style(style))
}

/// Text for people, in which nothing does anything to a terminal but to begin a new line: names, values and paths are whatever somebody wrote.
pub(crate) fn harmless(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A number with the word for it.
pub(crate) fn many(n: u64, one: &str, more: &str) -> String {
    format!("{} {}", indicatif::HumanCount(n), if n == 1 { one } else { more })
}
