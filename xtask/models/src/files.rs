//! Files of the model: names that are durable, and changes of names that are not yet. Segment `n` holds transaction `n`.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    Segment(u8),
    Archived(u8),
    /// By the transaction that it was taken at.
    Snapshot(u8),
    /// By generation.
    Manifest(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Content {
    Log,
    /// With the oldest file that it has blocks in, itself where it is full.
    Snapshot(u8),
    Manifest(Manifest),
    /// Written and never synced, or another file's: what an un-synced deletion that is undone by a crash may bring back.
    Foreign,
}

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Manifest {
    /// The transaction and the oldest file of each, oldest first.
    pub(crate) snapshots: Vec<(u8, u8)>,
    pub(crate) first_segment: u8,
    pub(crate) first_archived: u8,
}

/// What a directory has on stable storage, and the changes since, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Files {
    pub(crate) durable: BTreeMap<Name, Content>,
    pub(crate) pending: Vec<(Name, Option<Content>)>,
}

impl Name {
    fn same_directory(self, other: Name) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl Files {
    pub(crate) fn put(&mut self, name: Name, content: Content) {
        self.pending.push((name, Some(content)));
    }

    pub(crate) fn remove(&mut self, name: Name) {
        self.pending.push((name, None));
    }

    /// Makes the names of the directory that `of` lies in durable.
    pub(crate) fn sync(&mut self, of: Name) {
        let (synced, rest) =
            std::mem::take(&mut self.pending).into_iter().partition(|(name, _)| name.same_directory(of));
        self.pending = rest;
        let synced: Vec<_> = synced;
        for (name, content) in synced {
            apply(&mut self.durable, name, content);
        }
    }

    /// What programs see.
    pub(crate) fn live(&self) -> BTreeMap<Name, Content> {
        let mut live = self.durable.clone();
        for (name, content) in &self.pending {
            apply(&mut live, *name, content.clone());
        }
        live
    }

    /// The power fails, and those pending changes survive of which `kept` has the bit.
    pub(crate) fn crash(&self, kept: u16) -> Files {
        let mut durable = self.durable.clone();
        for (i, (name, content)) in self.pending.iter().enumerate() {
            match content {
                _ if kept & 1 << i != 0 => apply(&mut durable, *name, content.clone()),
                None if durable.contains_key(name) => drop(durable.insert(*name, Content::Foreign)),
                _ => {}
            }
        }
        Files { durable, pending: Vec::new() }
    }
}

fn apply(files: &mut BTreeMap<Name, Content>, name: Name, content: Option<Content>) {
    match content {
        Some(content) => drop(files.insert(name, content)),
        None => drop(files.remove(&name)),
    }
}

/// The manifest that counts, and its generation.
pub(crate) fn manifest(files: &BTreeMap<Name, Content>) -> Option<(u8, Manifest)> {
    files.iter().rev().find_map(|(name, content)| match (name, content) {
        (Name::Manifest(generation), Content::Manifest(manifest)) => Some((*generation, manifest.clone())),
        _ => None,
    })
}

/// How files are read.
pub(crate) struct Reading<'a> {
    pub(crate) files: &'a BTreeMap<Name, Content>,
    pub(crate) manifest: &'a Manifest,
    /// A file that rot has taken.
    pub(crate) lost: Option<Name>,
    /// Break CKP-12.
    pub(crate) given_up_too: bool,
}

impl Reading<'_> {
    fn has_snapshot(&self, (lsn, base): (u8, u8)) -> bool {
        (base..=lsn).filter(|n| *n == lsn || *n == base).all(|n| {
            self.lost != Some(Name::Snapshot(n))
                && matches!(self.files.get(&Name::Snapshot(n)), Some(Content::Snapshot(_)))
        })
    }

    /// Whether transaction `n` is in the log or the archive.
    fn has_log(&self, n: u8) -> bool {
        let counts = |first| n >= first || self.given_up_too;
        let content = [
            (Name::Segment(n), counts(self.manifest.first_segment)),
            (Name::Archived(n), counts(self.manifest.first_archived)),
        ];
        let there =
            content.into_iter().filter(|(_, counts)| *counts).find_map(|(name, _)| self.files.get(&name));
        there == Some(&Content::Log)
    }

    /// The last transaction that an opening comes to.
    pub(crate) fn recovers(&self) -> u8 {
        let newest = self.manifest.snapshots.iter().rev().find(|entry| self.has_snapshot(**entry));
        let base = newest.map_or(0, |(lsn, _)| *lsn);
        (base + 1..).take_while(|n| self.has_log(*n)).last().unwrap_or(base)
    }

    /// Whether the moment after transaction `n` can be gone back to.
    pub(crate) fn reaches(&self, n: u8) -> bool {
        let bases =
            self.manifest.snapshots.iter().filter(|entry| self.has_snapshot(**entry)).map(|(lsn, _)| *lsn);
        bases.chain([0]).any(|base| base <= n && (base + 1..=n).all(|n| self.has_log(n)))
    }
}
