//! Where a command writes that is told a place: what must never be there, and what may.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use ecsdb_compactor::{is_free_elsewhere, is_unfinished};
use ecsdb_io::{Disk, Layout, Owner, Vfs};
use ecsdb_recovery::{Error as RecoveryError, look};
use ecsdb_snapshot::Manifest;

use crate::failure::Failure;
use crate::place::{Place, SETTINGS, Settled};

mod taken;

pub(crate) use taken::{Tables, Taken, missing, remove_demo};

/// Refuses a place within the directories of a database: of that which is read, or of whichever lies around it. Whoever writes there by name
/// takes its files for something else than they are. Gives the place's real name.
pub(crate) fn refuse(own: Option<&Layout>, to: &Path) -> Result<PathBuf> {
    refuse_but(own, to, None)
}

/// The same for the directories of a database that is to be made in `root`: of those that say that they are of one there, which an attempt may have left,
/// one may lie around another.
fn refuse_but(own: Option<&Layout>, to: &Path, root: Option<&Path>) -> Result<PathBuf> {
    let real = match Disk.real_path(to) {
        Err(e) if e.cause.kind() == ErrorKind::NotADirectory => return Err(below_a_file(to)),
        real => real?,
    };
    let own: Vec<&Path> =
        own.into_iter().flat_map(|own| [own.root()].into_iter().chain(own.data_dirs())).collect();
    let is_own = |dir: &Path| own.contains(&dir);
    // Something new may be asked for by the name of what is there already, which is found out later.
    let around = real.ancestors().find(|dir| is_own(dir) || (*dir != real && is_of_a_database(dir, root)));
    let what = match around {
        Some(dir) if dir == real => "is a directory of the database itself".into(),
        Some(dir) => format!("is within {}, a directory of a database", dir.display()),
        None if own.iter().any(|dir| dir.starts_with(&real)) => "is around the database itself".into(),
        None => return has_a_name(to).map(|()| real),
    };
    Err(Failure::Usage(format!("{} {what}: give it a place of its own", to.display())).into())
}

/// One with manifests, or one of log, snapshots or archive of a database elsewhere than in `root`. What cannot be looked at is nobody's.
fn is_of_a_database(dir: &Path, root: Option<&Path>) -> bool {
    let is_elsewhere = |owner: Owner| root.is_none_or(|root| owner != Owner::new(owner.database, root));
    Manifest::generations(&Disk, &Layout::new(dir)).is_ok_and(|found| !found.is_empty())
        || Owner::read(&Disk, dir).is_ok_and(|owner| owner.is_some_and(is_elsewhere))
}

/// Refuses to go up from what is not there: where that leads depends on what comes to be there, and the system does not find it by that name.
fn has_a_name(to: &Path) -> Result<()> {
    let ups = to.ancestors().filter(|path| path.components().next_back() == Some(Component::ParentDir));
    for from in ups.filter_map(Path::parent).filter(|from| !from.as_os_str().is_empty()) {
        is_there(from, &format!(", so that {} is no place", to.display()))?;
    }
    Ok(())
}

fn below_a_file(to: &Path) -> anyhow::Error {
    Failure::Exists(format!("{} is below something that is no directory", to.display())).into()
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
        Err(e) if e.kind() == ErrorKind::NotADirectory => Err(below_a_file(to)),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| looking(to)),
        _ => Ok(()),
    }
}

/// The directory of a demonstration, which begins anew.
pub(crate) fn for_demo(to: &Path) -> Result<Layout> {
    new(None, to, None, |layout| {
        is_unfinished(&Disk, layout, &layout.unfinished_file()).is_ok_and(|it| !it) && !has_settings(layout)
    })
}

/// The directories of a new database, with its settings: not there yet, or with nothing in them but the file of these, or what another attempt has
/// left unfinished.
pub(crate) fn for_database(place: &Place) -> Result<(Settled, Layout)> {
    // Where no database may be, nobody's settings are read.
    let root = Disk.real_path(&place.dir).ok();
    refuse_but(None, &place.dir, root.as_deref())?;
    no_file(&place.dir)?;
    let settled = place.settle_new()?;
    let layout = settled.layout()?;
    refuse_elsewhere(&layout)?;
    no_files(&layout)?;
    // A database that somebody finishes between the look for its manifest and that for its other files has one the next time.
    let looked = look(&Disk, &layout);
    match if matches!(looked, Err(RecoveryError::NoManifest { .. })) { look(&Disk, &layout) } else { looked }
    {
        Ok(_) => return Err(RecoveryError::DatabaseExists { dir: place.dir.clone() }.into()),
        Err(RecoveryError::NoDatabase { .. } | RecoveryError::Unfinished { .. }) => {}
        Err(RecoveryError::Io(e)) if e.is_not_found() => {}
        Err(other) => return Err(other.into()),
    }
    new(None, &place.dir, root.as_deref(), |layout| {
        is_unfinished(&Disk, layout, &layout.unfinished_file()).is_ok()
    })?;
    for_copy_elsewhere(&layout)?;
    Ok((settled, layout))
}

/// A directory for tables: what another export left unfinished there is removed.
pub(crate) fn for_tables(own: Option<&Layout>, to: &Path) -> Result<Layout> {
    new(own, to, None, |layout| may_be_had(layout, &Tables::mark(layout)))
}

/// Whether there is nothing but what another attempt left unfinished there, or locks of one that was killed.
fn may_be_had(layout: &Layout, mark: &Path) -> bool {
    is_unfinished(&Disk, layout, mark).is_ok_and(|unfinished| unfinished || !has_settings(layout))
}

/// Whether there is anything of the name of settings, a link to nothing, too: a copy is at its usual places, and would not be found by these.
fn has_settings(layout: &Layout) -> bool {
    fs::symlink_metadata(layout.root().join(SETTINGS)).is_ok()
}

/// A directory for a copy: one in which another was left unfinished can be had, too.
pub(crate) fn for_copy(own: Option<&Layout>, to: &Path) -> Result<Layout> {
    let layout = new(own, to, None, |layout| may_be_had(layout, &layout.unfinished_file()))?;
    no_files(&layout).map(|()| layout)
}

/// Refuses what has the name of one of a new database's directories, and is none: among what was left unfinished there may be anything.
fn no_files(layout: &Layout) -> Result<()> {
    layout.data_dirs().into_iter().chain([layout.report_dir()]).try_for_each(no_file)
}

/// The same of those directories of a new database that lie elsewhere than in its own.
fn for_copy_elsewhere(layout: &Layout) -> Result<()> {
    let is_unfinished = is_unfinished(&Disk, layout, &layout.unfinished_file())?;
    elsewhere(layout).try_for_each(|dir| {
        let may_be_used = |_: &Layout| is_free_elsewhere(&Disk, layout, dir, is_unfinished).unwrap_or(false);
        new(None, dir, Some(layout.root()), may_be_used).map(drop)
    })
}

/// Refuses places of log, snapshots and archive that are within another database.
fn refuse_elsewhere(layout: &Layout) -> Result<()> {
    elsewhere(layout).try_for_each(|dir| refuse_but(None, dir, Some(layout.root())).map(drop))
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
    let is_other = fs::metadata(there).is_ok_and(|there| !there.is_dir());
    let can = if is_other { Err(ErrorKind::NotADirectory.into()) } else { access(there, true) };
    can.with_context(|| format!("nothing can be written in {}", there.display()))
}

/// Refuses a directory, or a file, in which nothing may be written.
#[cfg(unix)]
pub(crate) fn access(path: &Path, is_dir: bool) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    if is_dir && shows_the_kernel(path) {
        return Err(rustix::io::Errno::PERM.into());
    }
    let within = if is_dir { Access::EXEC_OK } else { Access::empty() };
    Ok(access(path, Access::WRITE_OK | within)?)
}

/// Whether a directory is one of `/proc` or `/sys`, in which nobody makes files, whatever its mode says.
#[cfg(target_os = "linux")]
fn shows_the_kernel(dir: &Path) -> bool {
    const PROC_AND_SYS: [u64; 2] = [0x9fa0, 0x6265_6572];
    rustix::fs::statfs(dir).is_ok_and(|of| PROC_AND_SYS.contains(&(of.f_type as u64)))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn shows_the_kernel(_: &Path) -> bool {
    false
}

/// What may be written where is told by trying: but what is not there is not.
#[cfg(not(unix))]
pub(crate) fn access(path: &Path, _: bool) -> std::io::Result<()> {
    fs::metadata(path).map(drop)
}

fn new(
    own: Option<&Layout>,
    to: &Path,
    root: Option<&Path>,
    may_be_used: impl Fn(&Layout) -> bool,
) -> Result<Layout> {
    let real = refuse_but(own, to, root)?;
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

/// A new file. Gives its real name.
pub(crate) fn file(own: Option<&Layout>, to: &Path) -> Result<PathBuf> {
    let name = to.to_string_lossy();
    // By such a name the system finds no file that is made for it.
    if name.strip_suffix('.').unwrap_or(&name).ends_with(std::path::is_separator) && !to.is_dir() {
        return Err(Failure::Usage(format!("{name} names a directory, where a file is written")).into());
    }
    let real = refuse(own, to)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(is_taken(to));
    }
    is_there(within(to), "")?;
    Ok(real)
}

/// What is wrong with the name of something new that something has already.
pub(crate) fn is_taken(to: &Path) -> anyhow::Error {
    Failure::Exists(format!("{} is there already: something new needs a name of its own", to.display()))
        .into()
}

/// The directory that a file lies in.
pub(crate) fn within(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a directory durable. What is in it is there and whole; of a directory that cannot be read, or on a file system that has no such
/// thing, it is only said that it may be gone after a power cut.
pub(crate) fn sync_names(dir: &Path) {
    if let Err(e) = Disk.sync_dir(dir) {
        crate::failure::warn(&format!("the names in {} are not known to be durable: {e}", dir.display()));
    }
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
    let text = e.to_string();
    match text.split_once(" at path ") {
        Some((what, _)) => std::io::Error::new(e.kind(), what),
        None => e,
    }
}
