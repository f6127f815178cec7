//! `ecsdb man`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_mangen::Man;
use serde_json::json;

use crate::Cli;
use crate::output::{self, Output, many};
use crate::{interrupt, target};

/// Options of `man`.
#[derive(Args)]
pub(crate) struct Options {
    /// Writes a page for each command into this directory; without it, the page of `ecsdb` goes to standard output.
    dir: Option<PathBuf>,
}

pub(crate) fn run(options: &Options, out: &mut Output) -> Result<()> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = &options.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        if out.is_json() {
            return out.json(&json!({ "page": String::from_utf8(page)? }));
        }
        return Ok(out.raw().write_all(&page)?);
    };
    target::no_file(dir)?;
    // What lies in the directory is what must not be within a database.
    target::refuse(None, &dir.join("ecsdb.1"))?;
    // All of them, or none.
    interrupt::hold();
    let made = target::missing(dir);
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut pages = Vec::new();
    let mut write = |name: &str, command: clap::Command| -> Result<()> {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        let path = dir.join(format!("{name}.1"));
        let written = std::fs::write(&path, page);
        pages.push(path.clone());
        written.with_context(|| format!("writing {}", path.display()))
    };
    if let Err(e) = pages_of("ecsdb", &command, &mut write) {
        pages.iter().for_each(|page| drop(std::fs::remove_file(page)));
        made.remove();
        return Err(e);
    }
    let pages = pages.len() as u64;
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "pages": pages }));
    }
    out.line(format_args!("{} in {}", many(pages, "page", "pages"), dir.display()))
}

/// The page of a command, and those of the commands below it.
fn pages_of(
    name: &str,
    command: &clap::Command,
    write: &mut dyn FnMut(&str, clap::Command) -> Result<()>,
) -> Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        pages_of(&format!("{name}-{}", sub.get_name()), sub, write)?;
    }
    write(name, command.clone())
}
