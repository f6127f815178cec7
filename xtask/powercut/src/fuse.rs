//! A file system in memory that keeps a record of all that is done on it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::disk::{Class, Inode, Node, Nodes, Op, ROOT, apply};

/// The kernel may keep names and lengths: nobody changes them but through it.
const TTL: Duration = Duration::from_secs(60);
/// Where the process writes its claims. The name is not on the disk.
pub(crate) const JOURNAL: &str = "journal";
const BLOCKS: u64 = 1 << 24;
const BLOCK: u32 = 4096;

/// What is on it now, and what happened.
pub(crate) struct Recording {
    nodes: Nodes,
    ops: Vec<Op>,
    next: Inode,
    journal: Option<Inode>,
}

/// A mounted file system.
pub(crate) struct Mounted {
    session: BackgroundSession,
    recording: Arc<Mutex<Recording>>,
}

impl Mounted {
    pub(crate) fn new(at: &Path, nodes: Nodes) -> io::Result<Self> {
        let next = nodes.keys().last().map_or(ROOT, |last| *last) + 1;
        let recording = Recording { nodes, ops: Vec::new(), next, journal: None };
        let recording = Arc::new(Mutex::new(recording));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("ecsdb-powercut".into())];
        let session = fuser::spawn_mount(Fs(recording.clone()), at, &config)?;
        Ok(Mounted { session, recording })
    }

    /// Takes it away, and gives what happened.
    pub(crate) fn end(self) -> io::Result<Vec<Op>> {
        self.session.umount_and_join()?;
        Ok(std::mem::take(&mut lock(&self.recording).ops))
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Fs(Arc<Mutex<Recording>>);

impl Recording {
    /// Does it, and notes it.
    fn note(&mut self, op: Op) {
        if let Op::Create { inode, directory, .. } = &op {
            let node =
                if *directory { Node::Directory(Default::default()) } else { Node::File(Arc::default()) };
            self.nodes.insert(*inode, node);
        }
        apply(&mut self.nodes, &op);
        self.ops.push(op);
    }

    fn entry(&self, parent: INodeNo, name: &str) -> Option<Inode> {
        match self.nodes.get(&parent.0)? {
            Node::Directory(entries) => entries.get(name).copied(),
            Node::File(_) => None,
        }
    }

    fn attr(&self, inode: Inode) -> Option<FileAttr> {
        let (kind, perm, size) = match self.nodes.get(&inode)? {
            Node::File(bytes) => (FileType::RegularFile, 0o600, bytes.len() as u64),
            Node::Directory(_) => (FileType::Directory, 0o700, 0),
        };
        let time: SystemTime = UNIX_EPOCH;
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        })
    }

    fn make(&mut self, parent: INodeNo, name: &str, directory: bool) -> Option<FileAttr> {
        let inode = self.next;
        self.next += 1;
        if parent.0 == ROOT && name == JOURNAL {
            self.journal = Some(inode);
            self.nodes.insert(inode, Node::File(Arc::default()));
            apply(&mut self.nodes, &Op::Create { inode, directory, parent: ROOT, name: name.into() });
        } else {
            self.note(Op::Create { inode, directory, parent: parent.0, name: name.into() });
        }
        self.attr(inode)
    }

    /// What a sync is of, by where it lies and how it is called now.
    fn class(&self, inode: Inode) -> Class {
        let (directory, name) = self.place(inode).unwrap_or((ROOT, ""));
        if matches!(self.nodes.get(&inode), Some(Node::Directory(_))) {
            return match name {
                "log" => Class::LogDirectory,
                "snapshots" => Class::SnapshotDirectory,
                _ => Class::OtherDirectory,
            };
        }
        let within = self.place(directory).map_or("", |(_, name)| name);
        match (within, name.ends_with(".tmp")) {
            (_, true) => Class::Temporary,
            ("log", false) => Class::Log,
            _ => Class::Other,
        }
    }

    /// The directory that has it, and its name there.
    fn place(&self, inode: Inode) -> Option<(Inode, &str)> {
        let directories = self.nodes.iter().filter_map(|(directory, node)| match node {
            Node::Directory(entries) => Some((*directory, entries)),
            Node::File(_) => None,
        });
        let mut places = directories.flat_map(|(directory, entries)| {
            entries.iter().map(move |(name, held)| (directory, name.as_str(), *held))
        });
        let (directory, name, _) = places.find(|(_, _, held)| *held == inode)?;
        Some((directory, name))
    }
}

/// Names that are not Unicode are none of ours.
fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or("?")
}

impl Filesystem for Fs {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let recording = lock(&self.0);
        match recording.entry(parent, text(name)).and_then(|inode| recording.attr(inode)) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match lock(&self.0).attr(inode.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut recording = lock(&self.0);
        if let Some(len) = size {
            recording.note(Op::SetLen { inode: inode.0, len });
        }
        match recording.attr(inode.0) {
            Some(attr) => reply.attr(&TTL, &attr),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        match lock(&self.0).make(parent, text(name), true) {
            Some(attr) => reply.entry(&TTL, &attr, Generation(0)),
            None => reply.error(Errno::EIO),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        match lock(&self.0).make(parent, text(name), false) {
            Some(attr) => {
                reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO)
            }
            None => reply.error(Errno::EIO),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut recording = lock(&self.0);
        if recording.entry(parent, text(name)).is_none() {
            return reply.error(Errno::ENOENT);
        }
        recording.note(Op::Remove { parent: parent.0, name: text(name).into() });
        reply.ok();
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let full = {
            let recording = lock(&self.0);
            let inode = recording.entry(parent, text(name));
            matches!(inode.and_then(|inode| recording.nodes.get(&inode)), Some(Node::Directory(entries)) if !entries.is_empty())
        };
        if full {
            return reply.error(Errno::ENOTEMPTY);
        }
        self.unlink(request, parent, name, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut recording = lock(&self.0);
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        if recording.entry(parent, text(name)).is_none() {
            return reply.error(Errno::ENOENT);
        }
        recording.note(Op::Rename { from: (parent.0, text(name).into()), to: (to.0, text(new).into()) });
        reply.ok();
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache, so that each write of the process is one of the record.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match lock(&self.0).nodes.get(&inode.0) {
            Some(Node::File(bytes)) => {
                let start = (offset as usize).min(bytes.len());
                reply.data(&bytes[start..(start + size as usize).min(bytes.len())]);
            }
            _ => reply.error(Errno::EIO),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut recording = lock(&self.0);
        if recording.journal == Some(inode.0) {
            recording.ops.push(Op::Said(data.into()));
        } else {
            recording.note(Op::Write { inode: inode.0, offset, data: data.into() });
        }
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut recording = lock(&self.0);
        let class = recording.class(inode.0);
        recording.ops.push(Op::Sync { inode: inode.0, class });
        reply.ok();
    }

    fn fsyncdir(&self, request: &Request, inode: INodeNo, handle: FileHandle, data: bool, reply: ReplyEmpty) {
        self.fsync(request, inode, handle, data, reply);
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let recording = lock(&self.0);
        let Some(Node::Directory(entries)) = recording.nodes.get(&inode.0) else {
            return reply.error(Errno::ENOTDIR);
        };
        let dots = [(".", inode.0), ("..", inode.0)];
        let all = dots.into_iter().chain(entries.iter().map(|(name, inode)| (name.as_str(), *inode)));
        for (at, (name, inode)) in all.enumerate().skip(offset as usize) {
            let kind = match recording.nodes.get(&inode) {
                Some(Node::Directory(_)) => FileType::Directory,
                _ => FileType::RegularFile,
            };
            if reply.add(INodeNo(inode), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCK, 255, BLOCK);
    }
}
