//! Names: the entries of directories, and the changes to them that no directory sync has covered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The identity of a file or directory, whatever its name.
pub(crate) type Ino = u64;

/// A directory's entries, by name.
pub(crate) type Entries = BTreeMap<Arc<str>, Ino>;

/// A directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dir {
    /// What a crash leaves at least.
    pub(crate) durable: Arc<Entries>,
    /// What lookups see.
    pub(crate) live: Arc<Entries>,
}

/// One place in a directory, and what stands there.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) dir: Ino,
    pub(crate) name: Arc<str>,
    pub(crate) ino: Ino,
}

/// A change of names that a crash may undo, always as a whole: a rename shows its old or its new state.
#[derive(Debug, Clone)]
pub(crate) struct NameChange {
    /// Place in the order of all changes of the disk.
    pub(crate) sequence: u64,
    pub(crate) removed: Option<Slot>,
    pub(crate) added: Option<Slot>,
    /// Directories that must still be synced. A rename between two needs both.
    unsynced: BTreeSet<Ino>,
    /// A directory sync failed after it: a later one proves nothing of it.
    orphaned: bool,
}

impl NameChange {
    pub(crate) fn new(sequence: u64, removed: Option<Slot>, added: Option<Slot>) -> Self {
        let unsynced = removed.iter().chain(&added).map(|slot| slot.dir).collect();
        NameChange { sequence, removed, added, unsynced, orphaned: false }
    }

    /// True when a crash may lose it.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// The directories it changes: one, or two that may be the same.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = Ino> {
        self.removed.iter().chain(&self.added).map(|slot| slot.dir)
    }

    pub(crate) fn sync(&mut self, dir: Ino) {
        if !self.orphaned {
            self.unsynced.remove(&dir);
        }
    }

    pub(crate) fn fail_sync(&mut self, dir: Ino) {
        self.orphaned |= self.unsynced.contains(&dir);
    }

    /// Applies it to the live or the durable entries, whichever `side` picks.
    ///
    /// An entry is only removed if it still is the one that was removed: where an earlier change was lost,
    /// the name stands for something else.
    pub(crate) fn apply(&self, dirs: &mut BTreeMap<Ino, Dir>, side: fn(&mut Dir) -> &mut Arc<Entries>) {
        if let Some(Slot { dir, name, ino }) = &self.removed
            && let Some(dir) = dirs.get_mut(dir)
            && side(dir).get(name) == Some(ino)
        {
            Arc::make_mut(side(dir)).remove(name);
        }
        if let Some(Slot { dir, name, ino }) = &self.added
            && let Some(dir) = dirs.get_mut(dir)
        {
            Arc::make_mut(side(dir)).insert(Arc::clone(name), *ino);
        }
    }
}

/// Makes `kept` a possible outcome of a metadata journal: within each directory what is kept is a prefix, and
/// contains everything that a later, synced change of the same directory rests on.
pub(crate) fn keep_in_journal_order(changes: &[NameChange], kept: &mut [bool]) {
    let mut forced = BTreeSet::new();
    for (change, kept) in changes.iter().zip(kept.iter_mut()).rev() {
        if !change.is_undecided() || change.dirs().any(|dir| forced.contains(&dir)) {
            forced.extend(change.dirs());
            *kept = true;
        }
    }
    // What was forced comes before everything else of its directories, so it is never cut off here.
    let mut cut = BTreeSet::new();
    for (change, kept) in changes.iter().zip(kept.iter_mut()) {
        *kept &= !change.dirs().any(|dir| cut.contains(&dir));
        if !*kept {
            cut.extend(change.dirs());
        }
    }
}
