//! What a script notes while it runs, and what must hold of the database that a crash leaves.

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Digest, Lsn, PersistenceConfig};
use ecsdb_sim::{Journal, SimDisk};

#[derive(Clone, Debug)]
pub enum Event {
    /// What comes is a transition of this kind.
    Begin(&'static str),
    /// A transaction is committed, but nothing of it was written yet.
    Committed(Lsn, Digest),
    /// Everything up to here was acknowledged as durable.
    Durable(Lsn),
    /// A copy was made in this directory, of the world with this digest.
    Copied(&'static str, Digest),
}

pub const DIR: &str = "/data/world";

/// A disk on which there is room for it.
pub fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.put_dir("/data").expect("it is empty");
    disk
}

/// The files with such names, in the order of their paths.
pub fn files(disk: &SimDisk, ending: &str) -> Vec<PathBuf> {
    let paths = disk.files().into_iter().map(|(path, _)| path);
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// Where the snapshot of this number lies.
pub fn snapshot_file(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("snapshots/{number:016}.snap"))
}

/// Opens the database of a simulated disk, in small segments and without threads, so that every run is the same.
pub fn open_with(disk: &SimDisk, change: impl FnOnce(&mut PersistenceConfig)) -> ecsdb::Result<Database> {
    builder(disk, change).open()
}

pub fn builder(disk: &SimDisk, change: impl FnOnce(&mut PersistenceConfig)) -> ecsdb::Builder {
    Database::builder(Path::new(DIR)).vfs(disk.vfs()).without_threads().config(|config| {
        config.wal.segment_bytes_first = ecsdb::ByteSize(64 << 10);
        config.wal.segment_bytes_max = ecsdb::ByteSize(64 << 10);
        config.snapshot.compression_level = 0;
        change(config);
    })
}

/// Commits, notes it, and (perhaps) waits.
pub fn commit(
    db: &Database,
    journal: &Journal<Event>,
    wait: bool,
    f: impl FnOnce(&mut Transaction<'_>) -> Result<(), Abort>,
) -> ecsdb::Result<()> {
    let ticket = db.submit(f)?;
    journal.note(Event::Committed(ticket.lsn(), db.view()?.digest()?));
    if wait {
        let lsn = ticket.lsn();
        ticket.wait()?;
        journal.note(Event::Durable(lsn));
    }
    Ok(())
}

/// That of a world with nothing in it.
pub const EMPTY: Digest = Digest(0);

/// Compares what was opened after a crash with the history. Gives the LSN it came back to.
pub fn verify_open(db: &Database, events: &[Event]) -> Result<Lsn, String> {
    let report = db.recovery_report().ok_or("no report")?;
    let last = report.last_lsn;
    let digest = digest(db)?;
    let mut acknowledged = Lsn::ZERO;
    let mut expected = (last == Lsn::ZERO).then_some(EMPTY);
    for event in events {
        match event {
            Event::Committed(lsn, then) if *lsn == last => expected = Some(*then),
            Event::Durable(lsn) => acknowledged = *lsn,
            _ => {}
        }
    }
    if last < acknowledged {
        return Err(format!("LSN {acknowledged} was acknowledged, but the log ends with {last}\n{report}"));
    }
    if expected != Some(digest) {
        return Err(format!(
            "the state at LSN {last} is none that ever was (expected {expected:?}, found {digest})\n{report}"
        ));
    }
    if report.data_loss == DataLoss::Acknowledged {
        return Err(format!("a power cut is reported as the loss of acknowledged data\n{report}"));
    }
    Ok(last)
}

pub fn digest(db: &Database) -> Result<Digest, String> {
    db.view().and_then(|view| Ok(view.digest()?)).map_err(|e| e.to_string())
}
