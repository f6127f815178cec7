//! A place that a command has taken for something new: nobody else touches it meanwhile, and what is half done there is removed by nobody else.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use ecsdb_compactor::Claim;
use ecsdb_io::{Disk, FileKind, Layout, LockKind, Vfs};
use ecsdb_recovery::look;

use crate::interrupt;

/// A place, and what was not there before.
pub(crate) struct Taken<'a> {
    pub(crate) claim: Claim<'a>,
    layout: &'a Layout,
    made: Missing,
}

impl<'a> Taken<'a> {
    /// Takes the place of a database, of which [`Layout::unfinished_file`] says that it is half done.
    pub(crate) fn of_database(vfs: Arc<dyn Vfs>, layout: &'a Layout) -> Result<Taken<'a>> {
        Taken::take(vfs, layout, &layout.unfinished_file())
    }

    fn take(vfs: Arc<dyn Vfs>, layout: &'a Layout, mark: &Path) -> Result<Taken<'a>> {
        // Within a place that is somebody's only that one removes anything.
        let mut made = missing_of(Claim::dirs(layout));
        match Claim::take(vfs, layout, mark) {
            Ok(claim) => {
                let inside = layout.data_dirs().into_iter().filter(|dir| dir.starts_with(layout.root()));
                let mut inside = missing_of(inside);
                inside.0.append(&mut made.0);
                Ok(Taken { claim, layout, made: inside })
            }
            Err(e) => {
                made.remove();
                Err(e.into())
            }
        }
    }

    /// Leaves nothing of a database that was begun here, and failed with `e`. Beside an attempt that was left unfinished before there may be files of
    /// others: it stays what it was.
    pub(crate) fn give_up<T>(self, e: anyhow::Error) -> Result<T> {
        let is_here = || self.claim.check().is_ok();
        let removed = if self.claim.unfinished { Ok(()) } else { remove_database(self.layout, &is_here) };
        self.let_go();
        // What it failed with counts; that somebody wanted nothing of it is no word about what is there.
        if interrupt::asked() {
            removed?;
        }
        Err(e)
    }

    /// Gives the place back, without the directories that were made for it, unless others have taken their place.
    fn let_go(self) {
        let is_here = self.claim.check().is_ok();
        self.claim.release();
        if is_here {
            self.made.remove();
        }
    }
}

/// Removes a demonstration's database, of which the processes that had it open have ended, and no other one that took its place.
pub(crate) fn remove_demo(layout: &Layout, database: u128, made: &Missing) -> Result<()> {
    let is_there = || look(&Disk, layout).is_ok_and(|manifest| manifest.database == database);
    if !is_there() {
        return Ok(());
    }
    let path = Layout::lock_file(layout.root());
    let holder = format!("process {}", std::process::id());
    let lock = Disk.try_lock(&path, LockKind::Exclusive, &holder).map_err(ecsdb::RecoveryError::from)?;
    let is_here = || lock.check().is_ok();
    // And again, once nobody can change that.
    if !is_there() {
        return Ok(());
    }
    remove_database(layout, &is_here)?;
    remove_files(layout.root(), true, &is_here)?;
    made.remove();
    Ok(())
}

/// Tables that are being written. Unless they are finished, they are removed: what is half done is of no use to anybody.
pub(crate) struct Tables<'a> {
    /// Until then.
    taken: Option<Taken<'a>>,
    layout: &'a Layout,
    mark: PathBuf,
}

impl<'a> Tables<'a> {
    /// The file in their directory that says that they are not all there yet.
    pub(crate) fn mark(layout: &Layout) -> PathBuf {
        layout.root().join("UNFINISHED.export")
    }

    pub(crate) fn table(number: usize) -> String {
        format!("archetype-{number:04}.parquet")
    }

    fn is_table(name: &str) -> bool {
        let number = name.strip_prefix("archetype-").and_then(|rest| rest.strip_suffix(".parquet"));
        number.is_some_and(|number| number.parse().is_ok_and(|number| Tables::table(number) == name))
    }

    /// Takes the directory, and removes what an export that was killed has left of its tables.
    pub(crate) fn begin(layout: &'a Layout) -> Result<Tables<'a>> {
        let mark = Tables::mark(layout);
        let tables = Tables { taken: Some(Taken::take(Arc::new(Disk), layout, &mark)?), layout, mark };
        fs::write(&tables.mark, "").with_context(|| format!("writing {}", tables.mark.display()))?;
        // No table survives a power cut without it.
        Disk.sync_dir(layout.root())?;
        tables.remove_tables()?;
        Ok(tables)
    }

    /// Where a table is written, whatever the name that was given leads to by now.
    pub(crate) fn path(&self, table: &str) -> Result<PathBuf> {
        self.check()?;
        Ok(self.layout.root().join(table))
    }

    /// Makes sure that the directory was not moved, and another one put in its place.
    fn check(&self) -> Result<()> {
        Ok(self.taken.as_ref().map_or(Ok(()), |taken| taken.claim.check())?)
    }

    fn remove_tables(&self) -> Result<()> {
        for entry in fs::read_dir(self.layout.root())? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name().to_str().is_some_and(Tables::is_table) {
                self.check()?;
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Says that all tables are there, each on stable storage by itself.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.check()?;
        let root = self.layout.root();
        Disk.sync_dir(root)?;
        let removed = fs::remove_file(&self.mark);
        if let Some(taken) = self.taken.take() {
            taken.claim.release();
        }
        removed.with_context(|| format!("removing {}", self.mark.display()))?;
        // Whoever finds it again takes the tables for unfinished, and removes them.
        Ok(Disk.sync_dir(root)?)
    }
}

impl Drop for Tables<'_> {
    fn drop(&mut self) {
        if self.taken.is_none() {
            return;
        }
        let removed = self.remove_tables().and_then(|()| self.check());
        let Some(taken) = self.taken.take() else { return };
        // A place that was unfinished before stays so: beside what was left there may be files of others.
        if removed.is_ok() && !taken.claim.unfinished {
            drop(fs::remove_file(&self.mark));
        }
        taken.let_go();
    }
}

/// Directories that are not there before something is written into the last of them.
pub(crate) struct Missing(Vec<PathBuf>);

pub(crate) fn missing(to: &Path) -> Missing {
    Missing(
        to.ancestors()
            .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
            .map(Path::to_path_buf)
            .collect(),
    )
}

/// The same of the directories in which something of a database is made.
fn missing_of<'a>(dirs: impl Iterator<Item = &'a Path>) -> Missing {
    Missing(dirs.flat_map(|dir| missing(dir).0).collect())
}

impl Missing {
    /// Removes them, unless somebody has put something in.
    pub(crate) fn remove(&self) {
        self.0.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    }
}

/// Removes what is half done of a database in a directory that was empty before: what ecsdb writes, and no file of anybody else. Only what it was
/// [taken](Claim::dirs) for is looked into: what is elsewhere may be others' by now. Locks that whoever has taken the place holds stay. Once it `is_here` no
/// more, since the directory was moved, nothing is removed.
fn remove_database(layout: &Layout, is_here: &dyn Fn() -> bool) -> Result<()> {
    if !is_here() {
        return Ok(());
    }
    let root = layout.root();
    // As long as anything of it is there, this says that it is not whole; whoever is killed meanwhile leaves it to the next one. Where there is no room for
    // it, what was made of it is too little to be told from nothing.
    drop(fs::File::create_new(layout.unfinished_file()));
    remove_files(root, false, is_here)?;
    let aside = layout.quarantine_dir();
    let parts = [layout.log_dir(), layout.snapshot_dir(), layout.archive_dir(), layout.report_dir(), &aside];
    for dir in parts {
        let is_inside = dir.starts_with(root);
        if is_inside || Claim::dirs(layout).any(|taken| taken == dir) {
            remove_files(dir, is_inside, is_here)?;
        }
        // One that lies elsewhere was there before, or is among those that were made.
        if is_inside && is_here() {
            drop(fs::remove_dir(dir));
        }
    }
    if !is_here() {
        return Ok(());
    }
    match fs::remove_file(layout.unfinished_file()) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

fn remove_files(dir: &Path, with_locks: bool, is_here: &dyn Fn() -> bool) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut last = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_ours = |name: &str| is_of_a_database(name) || (with_locks && is_lock(name));
        if !entry.file_type()?.is_file() || !entry.file_name().to_str().is_some_and(is_ours) {
            continue;
        }
        if !is_here() {
            return Ok(());
        }
        if matches!(entry.file_name().to_str(), Some("OWNER" | "LOCK")) {
            last.push(entry.path());
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    // Last: as long as anything else is there, these say whose it is, and that somebody is at it.
    last.into_iter().try_for_each(|path| Ok(fs::remove_file(path)?))
}

/// Names of files that make up a database, half written ones among them.
fn is_of_a_database(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let kinds = [
        FileKind::Segment,
        FileKind::CompressedSegment,
        FileKind::Snapshot,
        FileKind::Manifest,
        FileKind::Report,
    ];
    name == "OWNER" || kinds.iter().any(|kind| kind.parse(name).is_some())
}

fn is_lock(name: &str) -> bool {
    matches!(name, "LOCK" | "LOCK.holder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_database_is_made_of_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let made = missing(&dir.path().join("a/b"));
        let layout = Layout::new(dir.path().join("a/b"));
        let full = |with: &[&str]| {
            ecsdb::Database::create_new(layout.root()).unwrap().close().unwrap();
            fs::write(layout.snapshot_dir().join("0000000000000001.snap.tmp"), "").unwrap();
            with.iter().for_each(|name| fs::write(layout.root().join(name), "mine").unwrap());
            let database = look(&Disk, &layout).unwrap().database;
            remove_demo(&layout, database ^ 1, &made).unwrap();
            assert_eq!(look(&Disk, &layout).unwrap().database, database, "another one stays");
            remove_demo(&layout, database, &made).unwrap();
        };
        full(&[]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "with the directories that were not there");
        full(&["mine.txt", "log/notes"]);
        let left = |dir: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(left(layout.root()), ["log", "mine.txt"]);
        assert_eq!(left(layout.log_dir()), ["notes"]);
    }
}
