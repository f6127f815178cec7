//! The whole disk as a value: directories, files and undecided changes. Cloning it copies no bytes.
//!
//! Checks come first and change nothing; the functions named after operations are only called once the
//! operation has been counted, recorded and let through.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use crate::file::FileNode;
use crate::names::{Dir, Entries, Ino, NameChange, Slot};

pub(crate) const ROOT: Ino = 0;

/// No file grows beyond this: a wild offset becomes an error rather than a page table of gigabytes.
pub(crate) const FILE_LEN_MAX: u64 = 1 << 36;

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) dirs: BTreeMap<Ino, Dir>,
    pub(crate) files: BTreeMap<Ino, Arc<FileNode>>,
    pub(crate) name_changes: Arc<Vec<NameChange>>,
    next_ino: Ino,
    next_sequence: u64,
}

/// Where a path leads.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    dir: Ino,
    name: Arc<str>,
    pub(crate) ino: Option<Ino>,
}

impl Place {
    fn slot(&self, ino: Ino) -> Slot {
        Slot { dir: self.dir, name: Arc::clone(&self.name), ino }
    }
}

impl State {
    pub(crate) fn new() -> Self {
        State {
            dirs: BTreeMap::from([(ROOT, Dir::default())]),
            files: BTreeMap::new(),
            name_changes: Arc::default(),
            next_ino: ROOT + 1,
            next_sequence: 0,
        }
    }

    // Looking.

    /// The directory at `path`. Relative paths start at the root.
    pub(crate) fn dir(&self, path: &Path) -> io::Result<Ino> {
        self.walk(&names(path))
    }

    fn walk(&self, names: &[String]) -> io::Result<Ino> {
        names.iter().try_fold(ROOT, |dir, name| match self.entries(dir).get(name.as_str()) {
            Some(ino) if self.dirs.contains_key(ino) => Ok(*ino),
            Some(_) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        })
    }

    /// Where `path` leads; its parent must exist.
    pub(crate) fn place(&self, path: &Path) -> io::Result<Place> {
        let names = names(path);
        let Some((name, parents)) = names.split_last() else { return Err(ErrorKind::IsADirectory.into()) };
        let dir = self.walk(parents)?;
        let ino = self.entries(dir).get(name.as_str()).copied();
        Ok(Place { dir, name: name.as_str().into(), ino })
    }

    /// The file at `path`.
    pub(crate) fn file_at(&self, path: &Path) -> io::Result<Ino> {
        match self.place(path)?.ino {
            Some(ino) if self.files.contains_key(&ino) => Ok(ino),
            Some(_) => Err(ErrorKind::IsADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn entries(&self, dir: Ino) -> &Entries {
        static NONE: Entries = Entries::new();
        self.dirs.get(&dir).map_or(&NONE, |dir| &dir.live)
    }

    pub(crate) fn is_dir(&self, ino: Ino) -> bool {
        self.dirs.contains_key(&ino)
    }

    pub(crate) fn len_of(&self, file: Ino) -> u64 {
        self.files.get(&file).map_or(0, |file| file.live().len())
    }

    /// Bytes in files that have a name or are open.
    pub(crate) fn bytes_used(&self, open: &BTreeMap<Ino, u32>) -> u64 {
        let named: BTreeSet<Ino> = self.dirs.values().flat_map(|dir| dir.live.values().copied()).collect();
        let counts = |ino: &Ino| named.contains(ino) || open.contains_key(ino);
        self.files.iter().filter(|(ino, _)| counts(ino)).map(|(_, file)| file.live().len()).sum()
    }

    // Files.

    pub(crate) fn create_file(&mut self, place: &Place) -> Ino {
        let ino = self.new_ino();
        self.files.insert(ino, Arc::default());
        self.change_names(None, Some(place.slot(ino)));
        ino
    }

    pub(crate) fn write(&mut self, file: Ino, offset: u64, bytes: &[u8]) {
        let sequence = self.new_sequence();
        self.edit(file, |file| file.write(sequence, offset, bytes));
    }

    pub(crate) fn set_len(&mut self, file: Ino, len: u64) {
        let sequence = self.new_sequence();
        self.edit(file, |file| file.set_len(sequence, len));
    }

    pub(crate) fn edit(&mut self, file: Ino, with: impl FnOnce(&mut FileNode)) {
        if let Some(file) = self.files.get_mut(&file) {
            with(Arc::make_mut(file));
        }
    }

    // Names.

    pub(crate) fn create_dir(&mut self, place: &Place) -> Ino {
        let ino = self.new_ino();
        self.dirs.insert(ino, Dir::default());
        self.change_names(None, Some(place.slot(ino)));
        ino
    }

    pub(crate) fn remove(&mut self, place: &Place, ino: Ino) {
        self.change_names(Some(place.slot(ino)), None);
    }

    pub(crate) fn rename(&mut self, from: &Place, to: &Place, ino: Ino) {
        self.change_names(Some(from.slot(ino)), Some(to.slot(ino)));
    }

    fn change_names(&mut self, removed: Option<Slot>, added: Option<Slot>) {
        let change = NameChange::new(self.new_sequence(), removed, added);
        change.apply(&mut self.dirs, |dir| &mut dir.live);
        Arc::make_mut(&mut self.name_changes).push(change);
    }

    pub(crate) fn sync_dir(&mut self, dir: Ino) {
        let changes = Arc::make_mut(&mut self.name_changes);
        changes.iter_mut().for_each(|change| change.sync(dir));
        let mut blocked = BTreeSet::new();
        let dirs = &mut self.dirs;
        changes.retain(|change| {
            let keep = change.is_undecided() || change.dirs().any(|dir| blocked.contains(&dir));
            if keep {
                blocked.extend(change.dirs());
            } else {
                change.apply(dirs, |dir| &mut dir.durable);
            }
            keep
        });
    }

    pub(crate) fn fail_sync_dir(&mut self, dir: Ino) {
        Arc::make_mut(&mut self.name_changes).iter_mut().for_each(|change| change.fail_sync(dir));
    }

    /// Makes every name durable as it is.
    pub(crate) fn settle_names(&mut self) {
        self.name_changes = Arc::default();
        self.dirs.values_mut().for_each(|dir| dir.durable = Arc::clone(&dir.live));
    }

    /// Forgets files that nothing can reach any more, whatever a crash may bring back.
    pub(crate) fn forget_unreachable(&mut self, open: &BTreeMap<Ino, u32>) {
        let mut reachable: BTreeSet<Ino> = open.keys().copied().collect();
        for dir in self.dirs.values() {
            reachable.extend(dir.live.values().chain(dir.durable.values()));
        }
        for change in self.name_changes.iter() {
            reachable.extend(change.removed.iter().chain(&change.added).map(|slot| slot.ino));
        }
        self.files.retain(|ino, _| reachable.contains(ino));
    }

    /// Forgets what has no path from the root.
    pub(crate) fn forget_detached(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut todo = vec![ROOT];
        while let Some(dir) = todo.pop() {
            todo.extend(self.entries(dir).values().filter(|ino| reached.insert(**ino)));
        }
        self.dirs.retain(|ino, _| reached.contains(ino));
        self.files.retain(|ino, _| reached.contains(ino));
    }

    fn new_ino(&mut self) -> Ino {
        self.next_ino += 1;
        self.next_ino
    }

    fn new_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }
}

/// The names along a path, with `.` and `..` resolved.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_as_long_as_a_crash_can_bring_them_back_and_no_longer() {
        let mut state = State::new();
        let missing = state.place(Path::new("/f")).unwrap();
        let ino = state.create_file(&missing);
        state.sync_dir(ROOT);
        state.remove(&state.place(Path::new("/f")).unwrap(), ino);
        state.forget_unreachable(&BTreeMap::new());
        assert!(state.files.contains_key(&ino), "its removal is not durable");
        state.sync_dir(ROOT);
        state.forget_unreachable(&BTreeMap::from([(ino, 1)]));
        assert!(state.files.contains_key(&ino), "it is open");
        state.forget_unreachable(&BTreeMap::new());
        assert!(state.files.is_empty());
    }
}
