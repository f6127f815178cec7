//! The way to a file, and what tells of changes on it.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// Links that are followed, as many as systems follow.
const LINKS_MAX: usize = 40;
/// How often the way is looked at again that has changed while it was to be watched.
const LOOKS_MAX: usize = 8;

/// The names on the way to a file, through whatever links: of directories, of links and of the file, each in the directory that it really lies in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way(BTreeSet<PathBuf>);

impl Way {
    /// Of an absolute path, as far as it leads.
    fn to(path: &Path) -> Way {
        let parts = |path: &Path| -> Vec<PathBuf> {
            path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect()
        };
        let (mut names, mut at, mut links) = (BTreeSet::new(), PathBuf::new(), 0);
        let mut left = parts(path);
        while let Some(part) = left.pop() {
            match part.components().next() {
                Some(Component::Normal(_)) => {}
                Some(Component::ParentDir) => {
                    at.pop();
                    continue;
                }
                Some(Component::Prefix(_) | Component::RootDir) => {
                    at.push(part);
                    continue;
                }
                Some(Component::CurDir) | None => continue,
            }
            let name = at.join(part);
            match name.read_link() {
                Ok(to) if links < LINKS_MAX => {
                    links += 1;
                    left.extend(parts(&to));
                }
                _ => at.clone_from(&name),
            }
            names.insert(name);
        }
        Way(names)
    }

    /// The directories that the names stand in, each before those within it.
    fn dirs(&self) -> BTreeSet<&Path> {
        self.0.iter().filter_map(|name| name.parent()).collect()
    }

    /// Whether a change of these files is one of the way. Not every system tells names as they are written here.
    pub(super) fn leads_over(&self, changed: &[PathBuf]) -> bool {
        !cfg!(target_os = "linux") || changed.is_empty() || changed.iter().any(|path| self.0.contains(path))
    }
}

/// What tells of changes, on a thread of its own. Without that it panics, whether it is asked or dropped: where the system gave none, and where
/// it is gone.
#[derive(Debug)]
pub(super) struct Teller {
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
}

impl Teller {
    pub(super) fn new(watcher: RecommendedWatcher) -> Teller {
        Teller { watcher: Some(watcher), watched: Vec::new() }
    }

    fn ask(
        &mut self,
        what: impl FnOnce(&mut RecommendedWatcher) -> notify::Result<()>,
    ) -> notify::Result<()> {
        let watcher = &mut self.watcher;
        catch_unwind(AssertUnwindSafe(|| watcher.as_mut().map_or(Ok(()), what)))
            .unwrap_or_else(|_| Err(notify::Error::generic("there is no thread that would tell of changes")))
    }

    /// Watches the way to the file as it is now, which `noted` is given first: a directory of the old name need not be the old one. Of the
    /// directories above that of the file not all may be readable, and those are as they are.
    ///
    /// # Errors
    /// When the directory of the file cannot be watched.
    pub(super) fn watch(&mut self, file: &Path, noted: impl Fn(Way)) -> Result<(), Error> {
        let (mut way, mut watched) = (Way::to(file), Ok(()));
        for _ in 0..LOOKS_MAX {
            for dir in std::mem::take(&mut self.watched) {
                // One that is gone is not watched any more.
                let _ = self.ask(|watcher| watcher.unwatch(&dir));
            }
            noted(Way(way.0.clone()));
            let (named, real) = (file.parent().unwrap_or(file).canonicalize(), real_dir(file));
            let is_own = |dir: &Path| [&named, &real].into_iter().flatten().any(|own| own == dir);
            watched = Ok(());
            for dir in way.dirs() {
                match self.ask(|watcher| watcher.watch(dir, RecursiveMode::NonRecursive)) {
                    Ok(()) => self.watched.push(dir.into()),
                    Err(e) if is_own(dir) => watched = Err(cause(e)),
                    Err(e) => tracing::debug!(error = %e, "a directory above the settings is not watched"),
                }
            }
            watched = named.and(watched);
            // Whatever changes from here on is told, and whatever has changed is read afterwards.
            let now = Way::to(file);
            if now == way {
                break;
            }
            way = now;
        }
        watched
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        let watcher = self.watcher.take();
        if catch_unwind(AssertUnwindSafe(|| drop(watcher))).is_err() {
            tracing::debug!("the thread that tells of changes was gone");
        }
    }
}

/// The directory that a file really lies in.
fn real_dir(file: &Path) -> Result<PathBuf, Error> {
    Ok(file.canonicalize()?.parent().map_or_else(PathBuf::new, PathBuf::from))
}

/// What the system said, without what is wrapped around it.
pub(super) fn cause(e: notify::Error) -> Error {
    match e.kind {
        notify::ErrorKind::Io(e) => e,
        notify::ErrorKind::PathNotFound => Error::new(ErrorKind::NotFound, "there is no such directory"),
        _ => Error::other(e),
    }
}
