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
    // As the system does not make `new/.`, but `new`.
    let dir = &dir.components().collect::<PathBuf>();
    target::no_file(dir)?;
    target::can_write(dir)?;
    // What lies in the directory is what must not be within a database.
    target::refuse(None, &dir.join("ecsdb.1"))?;
    // All of them, or none.
    interrupt::hold();
    let made = target::missing(dir);
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut pages = Vec::new();
    let mut write = |name: &str, command: clap::Command| -> Result<()> {
        let path = dir.join(format!("{name}.1"));
        let writing = || format!("writing {}", path.display());
        // Those that are there stay until all are written.
        let mut named = tempfile::Builder::new();
        let named = readable(named.prefix(".ecsdb-man.").suffix(".tmp"));
        let mut file = named.tempfile_in(dir).map_err(target::nameless).with_context(writing)?;
        Man::new(command).render(file.as_file_mut()).with_context(writing)?;
        pages.push((file, path));
        Ok(())
    };
    if let Err(e) = pages_of("ecsdb", &command, &mut write) {
        drop(pages);
        made.remove();
        return Err(e);
    }
    let count = pages.len() as u64;
    for (file, path) in pages {
        file.persist(&path).map_err(|e| e.error).with_context(|| format!("writing {}", path.display()))?;
    }
    let pages = count;
    if out.is_json() {
        return out.json(&json!({ "dir": output::path(dir), "pages": pages }));
    }
    out.line(format_args!("{} in {}", many(pages, "page", "pages"), dir.display()))
}

/// Pages are for everybody, as other files are.
#[cfg(unix)]
fn readable<'b, 'n>(named: &'b mut tempfile::Builder<'n, 'n>) -> &'b mut tempfile::Builder<'n, 'n> {
    use std::os::unix::fs::PermissionsExt;
    named.permissions(std::fs::Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn readable<'b, 'n>(named: &'b mut tempfile::Builder<'n, 'n>) -> &'b mut tempfile::Builder<'n, 'n> {
    named
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
