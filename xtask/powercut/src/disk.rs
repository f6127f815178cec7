//! The disk as a power cut sees it: what was synced, what was not yet, and which of that survives.
//!
//! A file's bytes and its length are durable once it was synced, a name once its directory was. Nothing else is promised, least of all
//! the order in which un-synced changes reach the disk; a sector is written whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Inode = u64;
pub(crate) const ROOT: Inode = 1;
const SECTOR: usize = 512;

/// What a sync is of, for the controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Log,
    Temporary,
    LogDirectory,
    SnapshotDirectory,
    OtherDirectory,
    Other,
}

/// What happened on the file system, one after another.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create {
        inode: Inode,
        directory: bool,
        parent: Inode,
        name: String,
    },
    Rename {
        from: (Inode, String),
        to: (Inode, String),
    },
    Remove {
        parent: Inode,
        name: String,
    },
    Write {
        inode: Inode,
        offset: u64,
        data: Arc<[u8]>,
    },
    SetLen {
        inode: Inode,
        len: u64,
    },
    Sync {
        inode: Inode,
        class: Class,
    },
    /// What the process wrote into its journal, which is on no disk.
    Said(Arc<[u8]>),
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(Arc<Vec<u8>>),
    Directory(BTreeMap<String, Inode>),
}

pub(crate) type Nodes = BTreeMap<Inode, Node>;

/// An empty root.
pub(crate) fn empty() -> Nodes {
    Nodes::from([(ROOT, Node::Directory(BTreeMap::new()))])
}

/// Does to `nodes` what the operation says, as far as it makes sense there: what it rests on may be lost.
pub(crate) fn apply(nodes: &mut Nodes, op: &Op) {
    match op {
        Op::Create { inode, parent, name, .. } => {
            // The inode itself is there once it was made; it is the name that may be lost.
            if let Some(Node::Directory(entries)) = nodes.get_mut(parent) {
                entries.insert(name.clone(), *inode);
            }
        }
        Op::Rename { from, to } => {
            let Some(Node::Directory(entries)) = nodes.get_mut(&from.0) else { return };
            let Some(inode) = entries.remove(&from.1) else { return };
            if let Some(Node::Directory(entries)) = nodes.get_mut(&to.0) {
                entries.insert(to.1.clone(), inode);
            }
        }
        Op::Remove { parent, name } => {
            if let Some(Node::Directory(entries)) = nodes.get_mut(parent) {
                entries.remove(name);
            }
        }
        Op::Write { inode, offset, data } => {
            let Some(Node::File(bytes)) = nodes.get_mut(inode) else { return };
            let (bytes, start) = (Arc::make_mut(bytes), *offset as usize);
            if bytes.len() < start + data.len() {
                bytes.resize(start + data.len(), 0);
            }
            bytes[start..start + data.len()].copy_from_slice(data);
        }
        Op::SetLen { inode, len } => {
            let Some(Node::File(bytes)) = nodes.get_mut(inode) else { return };
            Arc::make_mut(bytes).resize(*len as usize, 0);
        }
        Op::Sync { .. } | Op::Said(_) => {}
    }
}

/// What of the un-synced changes survives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Survival {
    Nothing,
    Everything,
    /// The oldest ones, so that they were written in order.
    Prefix,
    /// Each with this probability in percent, and writes sector by sector now and then.
    Some(u32),
}

/// What is durable, and what is pending.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    durable: Nodes,
    pending: Vec<Op>,
    /// Syncs that are ignored: the disk lies about them.
    ignored: Option<Class>,
}

impl Disk {
    pub(crate) fn new(durable: Nodes, ignored: Option<Class>) -> Self {
        Disk { durable, pending: Vec::new(), ignored }
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn take(&mut self, op: &Op) {
        match op {
            Op::Said(_) => {}
            Op::Sync { class, .. } if Some(*class) == self.ignored => {}
            Op::Sync { inode, .. } => {
                for op in std::mem::take(&mut self.pending) {
                    if concerns(&op, *inode) {
                        apply(&mut self.durable, &op);
                    } else {
                        self.pending.push(op);
                    }
                }
            }
            Op::Create { inode, directory, .. } => {
                let node =
                    if *directory { Node::Directory(BTreeMap::new()) } else { Node::File(Arc::default()) };
                self.durable.insert(*inode, node);
                self.pending.push(op.clone());
            }
            _ => self.pending.push(op.clone()),
        }
    }

    /// What is found after a power cut.
    pub(crate) fn cut(&self, survival: Survival, random: &mut fastrand::Rng) -> Nodes {
        let mut nodes = self.durable.clone();
        let first = match survival {
            Survival::Nothing => 0,
            Survival::Prefix => random.usize(..=self.pending.len()),
            Survival::Everything | Survival::Some(_) => self.pending.len(),
        };
        for op in &self.pending[..first] {
            let Survival::Some(percent) = survival else {
                apply(&mut nodes, op);
                continue;
            };
            match op {
                Op::Write { inode, offset, data } if random.u32(..4) == 0 => {
                    torn(&mut nodes, *inode, *offset, data, || random.u32(..100) < percent);
                }
                _ if random.u32(..100) < percent => apply(&mut nodes, op),
                _ => {}
            }
        }
        nodes
    }
}

/// True when syncing the inode makes the change durable.
fn concerns(op: &Op, synced: Inode) -> bool {
    match op {
        Op::Create { parent, .. } | Op::Remove { parent, .. } => *parent == synced,
        Op::Rename { from, to } => from.0 == synced || to.0 == synced,
        Op::Write { inode, .. } | Op::SetLen { inode, .. } => *inode == synced,
        Op::Sync { .. } | Op::Said(_) => false,
    }
}

/// Each sector by itself.
fn torn(nodes: &mut Nodes, inode: Inode, offset: u64, data: &Arc<[u8]>, mut survives: impl FnMut() -> bool) {
    let mut at = 0;
    while at < data.len() {
        let len = (SECTOR - (offset as usize + at) % SECTOR).min(data.len() - at);
        if survives() {
            let data = data[at..at + len].into();
            apply(nodes, &Op::Write { inode, offset: offset + at as u64, data });
        }
        at += len;
    }
}

/// What can be reached from the root, by path.
pub(crate) fn files(nodes: &Nodes) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
    let mut found = BTreeMap::new();
    let mut left = vec![(String::new(), ROOT)];
    while let Some((path, inode)) = left.pop() {
        match nodes.get(&inode) {
            Some(Node::File(bytes)) => drop(found.insert(path, Some(bytes.clone()))),
            Some(Node::Directory(entries)) => {
                left.extend(entries.iter().map(|(name, inode)| (format!("{path}/{name}"), *inode)));
                found.insert(path, None);
            }
            None => {}
        }
    }
    found
}
