//! Where a command writes that is told a place: what must never be there, what may, and how it is removed again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use ecsdb_io::{DirEntry, DirLock, Disk, EntryKind, FileKind, Layout, LockError, LockKind, Owner, Vfs};
use ecsdb_recovery::{Error as RecoveryError, look};
use ecsdb_snapshot::Manifest;

use crate::failure::Failure;
use crate::place::{Place, SETTINGS, Settled};

/// Refuses a place within the directories of a database: of that which is read, or of whichever lies around it. Whoever writes there by name
/// takes its files for something else than they are. Gives the place's real name.
pub(crate) fn refuse(own: Option<&Layout>, to: &Path) -> Result<PathBuf> {
    let real = match Disk.real_path(to) {
        Err(e) if e.cause.kind() == ErrorKind::NotADirectory => {
            return Err(
                Failure::Exists(format!("{} is below something that is no directory", to.display())).into()
            );
        }
        real => real?,
    };
    let own: Vec<&Path> =
        own.into_iter().flat_map(|own| [own.root()].into_iter().chain(own.data_dirs())).collect();
    let is_own = |dir: &Path| own.contains(&dir);
    // Something new may be asked for by the name of what is there already, which is found out later.
    let around = real.ancestors().find(|dir| is_own(dir) || (*dir != real && is_of_a_database(dir)));
    let what = match around {
        Some(dir) if dir == real => "is a directory of the database itself".into(),
        Some(dir) => format!("is within {}, a directory of a database", dir.display()),
        None if own.iter().any(|dir| dir.starts_with(&real)) => "is around the database itself".into(),
        None => return Ok(real),
    };
    Err(Failure::Usage(format!("{} {what}: give it a place of its own", to.display())).into())
}

/// One with manifests, or one of log, snapshots or archive. What cannot be looked at is nobody's.
fn is_of_a_database(dir: &Path) -> bool {
    Manifest::generations(&Disk, &Layout::new(dir)).is_ok_and(|found| !found.is_empty())
        || Owner::read(&Disk, dir).is_ok_and(|owner| owner.is_some())
}

fn looking(at: &Path) -> String {
    format!("looking at {}", at.display())
}

/// Refuses what is there and no directory.
pub(crate) fn no_file(to: &Path) -> Result<()> {
    match fs::metadata(to) {
        Ok(there) if !there.is_dir() => {
            Err(Failure::Exists(format!("{} is there, and no directory", to.display())).into())
        }
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| looking(to)),
        _ => Ok(()),
    }
}

fn has_settings_alone(layout: &Layout) -> bool {
    let is_settings =
        |entry: std::io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == SETTINGS);
    fs::read_dir(layout.root()).is_ok_and(|mut entries| entries.all(is_settings))
}

/// The directory of a demonstration, which begins anew.
pub(crate) fn for_demo(to: &Path) -> Result<Layout> {
    new(None, to, has_settings_alone)
}

/// The directories of a new database, with its settings: not there yet, or with nothing in them but the file of these, or what another attempt has
/// left unfinished.
pub(crate) fn for_database(place: &Place) -> Result<(Settled, Layout)> {
    // Where no database may be, nobody's settings are read.
    refuse(None, &place.dir)?;
    no_file(&place.dir)?;
    let settled = place.settle_new()?;
    let layout = settled.layout()?;
    refuse_elsewhere(&layout)?;
    match look(&Disk, &layout) {
        Ok(_) => return Err(RecoveryError::DatabaseExists { dir: place.dir.clone() }.into()),
        Err(RecoveryError::NoDatabase { .. } | RecoveryError::Unfinished { .. }) => {}
        Err(RecoveryError::Io(e)) if e.is_not_found() => {}
        Err(other) => return Err(other.into()),
    }
    new(None, &place.dir, |layout| is_unfinished(layout) || is_left_over(layout))?;
    for_copy_elsewhere(&layout)?;
    Ok((settled, layout))
}

/// The file in a directory of tables that says that they are not all there yet.
const EXPORTING: &str = "UNFINISHED.export";

/// A directory for tables: what another export left unfinished there is removed.
pub(crate) fn for_tables(own: Option<&Layout>, to: &Path) -> Result<Tables> {
    let layout = new(own, to, |layout| layout.root().join(EXPORTING).exists())?;
    Ok(Tables { made: missing(layout.root()), dir: layout.root().into() })
}

/// Tables that are being written. Unless they are finished, they are removed.
pub(crate) struct Tables {
    dir: PathBuf,
    made: Missing,
}

impl Tables {
    pub(crate) fn begin(&self) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("making {}", self.dir.display()))?;
        let mark = self.dir.join(EXPORTING);
        fs::write(&mark, "").with_context(|| format!("writing {}", mark.display()))?;
        self.remove_tables();
        Ok(())
    }

    pub(crate) fn table(number: usize) -> String {
        format!("archetype-{number:04}.parquet")
    }

    fn remove_tables(&self) {
        let names = (0..).map(|number| self.dir.join(Tables::table(number)));
        names.take_while(|path| fs::remove_file(path).is_ok()).for_each(drop);
    }

    pub(crate) fn finish(self) -> Result<()> {
        let mark = self.dir.join(EXPORTING);
        fs::remove_file(&mark).with_context(|| format!("removing {}", mark.display()))
    }

    /// Leaves nothing of them: what is half done is of no use to anybody.
    pub(crate) fn give_up(self) {
        self.remove_tables();
        drop(fs::remove_file(self.dir.join(EXPORTING)));
        self.made.remove();
    }
}

/// Whether there is nothing but what the making of a database leaves that was killed before anything was there: locks, a manifest that was not
/// published, and the settings.
fn is_left_over(layout: &Layout) -> bool {
    let is_left = |entry: &DirEntry| {
        let is_unpublished =
            || entry.name.strip_suffix(".tmp").is_some_and(|name| FileKind::Manifest.parse(name).is_some());
        matches!(&*entry.name, "LOCK" | "LOCK.holder" | SETTINGS) || is_unpublished()
    };
    Disk.read_dir(layout.root())
        .is_ok_and(|entries| entries.iter().all(|entry| entry.kind == EntryKind::File && is_left(entry)))
}

/// Removes what another attempt left over, for whoever needs the directory to be free.
pub(crate) fn remove_left_over(layout: &Layout) -> Result<()> {
    if has_settings_alone(layout) || !is_left_over(layout) {
        return Ok(());
    }
    let _lock = lock(layout)?;
    remove_files(layout.root())
}

/// Removes what was begun in a directory that was free before, and failed. Where it failed since somebody else is there, nothing is removed.
pub(crate) fn give_up<T>(layout: &Layout, made: &Missing, e: anyhow::Error) -> Result<T> {
    use ecsdb::ErrorKind;
    let kind = e.chain().find_map(ErrorKind::of);
    if matches!(kind, Some(ErrorKind::DiskFull | ErrorKind::Retry | ErrorKind::Cancelled)) {
        // What it failed with counts.
        let removed = lock(layout).and_then(|_lock| remove_database(layout, made));
        if kind == Some(ErrorKind::Cancelled) {
            removed?;
        }
    }
    Err(e)
}

/// Refuses a directory that somebody is at work in. Where the lock cannot be made, nobody has it.
fn lock(layout: &Layout) -> Result<Option<Arc<dyn DirLock>>> {
    let (path, holder) = (Layout::lock_file(layout.root()), format!("process {}", std::process::id()));
    match Disk.try_lock(&path, LockKind::Exclusive, &holder) {
        Err(e @ LockError::Held { .. }) => Err(RecoveryError::from(e).into()),
        lock => Ok(lock.ok()),
    }
}

/// Whether a copy was begun there, and not finished: with a manifest, which comes last, it is a database, and the mark beside it says nothing.
pub(crate) fn is_unfinished(layout: &Layout) -> bool {
    layout.unfinished_file().exists()
        && Manifest::generations(&Disk, layout).is_ok_and(|generations| generations.is_empty())
}

/// A directory for a copy: one in which another was left unfinished can be had, too.
pub(crate) fn for_copy(own: Option<&Layout>, to: &Path) -> Result<Layout> {
    new(own, to, is_unfinished)
}

/// The same of those directories of a new database that lie elsewhere than in its own.
fn for_copy_elsewhere(layout: &Layout) -> Result<()> {
    let is_unfinished = is_unfinished(layout);
    for dir in elsewhere(layout) {
        let is_ours = |dir: &Path| {
            Owner::read(&Disk, dir).is_ok_and(|owner| owner.is_some_and(|owner| owner.root == layout.root()))
        };
        new(None, dir, |dir| is_unfinished && is_ours(dir.root()))?;
    }
    Ok(())
}

/// Refuses places of log, snapshots and archive that are within another database.
fn refuse_elsewhere(layout: &Layout) -> Result<()> {
    elsewhere(layout).try_for_each(|dir| refuse(None, dir).map(drop))
}

/// Directories that do not lie in that of the database.
fn elsewhere(layout: &Layout) -> impl Iterator<Item = &Path> {
    layout.data_dirs().into_iter().filter(|dir| !dir.starts_with(layout.root()))
}

/// Refuses a directory in which nothing can be made: one that is not there is made in the nearest one above it. Nothing is written.
pub(crate) fn can_write(dir: &Path) -> Result<()> {
    let there = dir.ancestors().find(|dir| dir.as_os_str().is_empty() || fs::symlink_metadata(dir).is_ok());
    let there = there.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if fs::symlink_metadata(there).is_ok_and(|there| there.is_symlink()) && !there.exists() {
        return Err(Failure::Exists(format!("{} is a link to nothing", there.display())).into());
    }
    access(there, true).with_context(|| format!("nothing can be written in {}", there.display()))
}

/// Refuses a directory, or a file, in which nothing may be written.
#[cfg(unix)]
pub(crate) fn access(path: &Path, is_dir: bool) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    let within = if is_dir { Access::EXEC_OK } else { Access::empty() };
    Ok(access(path, Access::WRITE_OK | within)?)
}

/// What may be written where is told by trying: but what is not there is not.
#[cfg(not(unix))]
pub(crate) fn access(path: &Path, _: bool) -> std::io::Result<()> {
    fs::metadata(path).map(drop)
}

fn new(own: Option<&Layout>, to: &Path, may_be_used: impl Fn(&Layout) -> bool) -> Result<Layout> {
    let real = refuse(own, to)?;
    no_file(to)?;
    can_write(to)?;
    let layout = Layout::new(real).real(&Disk)?;
    let used = match fs::read_dir(layout.root()) {
        Ok(mut entries) => entries.next().is_some() && !may_be_used(&layout),
        Err(e) if e.kind() == ErrorKind::NotFound => false,
        Err(e) => return Err(e).with_context(|| looking(to)),
    };
    if used {
        let to = to.display();
        return Err(Failure::Exists(format!(
            "{to} is not empty: something new needs a directory of its own"
        ))
        .into());
    }
    Ok(layout)
}

/// A file, which takes the place of one of its name. Gives its real name.
pub(crate) fn file(own: Option<&Layout>, to: &Path) -> Result<PathBuf> {
    if fs::metadata(to).is_ok_and(|there| !there.is_file()) {
        return Err(Failure::Exists(format!(
            "{} is there, and no file that could be replaced",
            to.display()
        ))
        .into());
    }
    let real = refuse(own, to)?;
    is_there(within(to), "")?;
    Ok(real)
}

/// The directory that a file lies in.
pub(crate) fn within(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses what is no directory; `why` goes on from there.
pub(crate) fn is_there(dir: &Path, why: &str) -> Result<()> {
    match fs::metadata(dir) {
        Ok(there) if there.is_dir() => Ok(()),
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(e).with_context(|| looking(dir))
        }
        _ => Err(Failure::Missing(format!("{} is no directory{why}", dir.display())).into()),
    }
}

/// What is wrong with a temporary file, without its name, which nobody knows.
pub(crate) fn nameless(e: std::io::Error) -> std::io::Error {
    e.kind().into()
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

/// The same of all directories of a database.
pub(crate) fn missing_of(layout: &Layout) -> Missing {
    let dirs = elsewhere(layout).chain([layout.root()]);
    Missing(dirs.flat_map(|dir| missing(dir).0).collect())
}

impl Missing {
    /// Removes them, unless somebody has put something in.
    pub(crate) fn remove(&self) {
        self.0.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    }
}

/// Removes what is half done of a database in a directory that was empty before: what ecsdb writes, and no file of anybody else.
pub(crate) fn remove_database(layout: &Layout, made: &Missing) -> Result<()> {
    let aside = layout.quarantine_dir();
    let parts = [layout.log_dir(), layout.snapshot_dir(), layout.archive_dir(), layout.report_dir(), &aside];
    for dir in parts {
        remove_files(dir)?;
        // One that lies elsewhere was there before, or is among those that were made.
        if dir.starts_with(layout.root()) {
            drop(fs::remove_dir(dir));
        }
    }
    remove_files(layout.root())?;
    // As long as anything of it is there, it says that it is not whole.
    match fs::remove_file(layout.unfinished_file()) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e.into()),
        _ => made.remove(),
    }
    Ok(())
}

fn remove_files(dir: &Path) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name().to_str().is_some_and(is_ours) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Names of files that make up a database, half written ones among them.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    let kinds = [
        FileKind::Segment,
        FileKind::CompressedSegment,
        FileKind::Snapshot,
        FileKind::Manifest,
        FileKind::Report,
    ];
    matches!(name, "LOCK" | "LOCK.holder" | "OWNER") || kinds.iter().any(|kind| kind.parse(name).is_some())
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
            fs::write(layout.unfinished_file(), "").unwrap();
            fs::write(layout.snapshot_dir().join("0000000000000001.snap.tmp"), "").unwrap();
            with.iter().for_each(|name| fs::write(layout.root().join(name), "mine").unwrap());
            remove_database(&layout, &made).unwrap();
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
