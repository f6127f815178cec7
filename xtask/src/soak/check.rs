//! What must hold: a reopened database is the one that was closed, and a moment gone back to is as it was noted.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Digest, Lsn, Moment, RecoveryError};

use super::builder;

const NOTE_EVERY: Duration = Duration::from_secs(4);
const NOTES_MAX: usize = 64;

/// Digests at moments that may be gone back to.
#[derive(Default)]
pub(super) struct Notes(Vec<(Lsn, Digest)>);

impl Notes {
    /// Notes the world as it is now.
    pub(super) fn take(&mut self, db: &Database) -> ecsdb::Result<(Lsn, Digest)> {
        let view = db.view()?;
        let note = (view.lsn(), view.digest()?);
        if self.0.len() == NOTES_MAX {
            self.0.remove(0);
        }
        self.0.push(note);
        Ok(note)
    }

    /// Restores a moment into a directory of its own and compares. What is not retained any more is forgotten, and
    /// another one tried; that of the newest note always is.
    fn restore_one(
        &mut self,
        db: &Database,
        scratch: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let mut first = random.usize(..self.0.len());
        loop {
            let (lsn, digest) = self.0[first];
            let dir = tempfile::Builder::new().prefix("restored-").tempdir_in(scratch)?;
            match db.restore_to(dir.path(), Moment::Lsn(lsn))?.wait() {
                Ok(_) => {}
                Err(ecsdb::Error::Recovery(RecoveryError::OutOfRange { .. })) if first + 1 < self.0.len() => {
                    self.0.drain(..=first);
                    first = random.usize(..self.0.len());
                    continue;
                }
                Err(e) => anyhow::bail!("restoring LSN {lsn}: {e}"),
            }
            let copy = Database::open(dir.path())?;
            let (found, found_lsn) = (copy.view()?.digest()?, copy.lsn());
            copy.close()?;
            anyhow::ensure!(found == digest, "LSN {lsn} was {digest}, and was restored as {found}");
            anyhow::ensure!(found_lsn == lsn, "LSN {lsn} was restored as {found_lsn}");
            return Ok(());
        }
    }
}

/// Takes notes every few seconds, and restores one of them in the middle, while the load goes on.
pub(super) fn beside_the_load(
    db: &Database,
    scratch: &Path,
    notes: &mut Notes,
    random: &mut fastrand::Rng,
    time: Duration,
    (stop, restores): (&AtomicBool, &AtomicU64),
) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut noted, mut restored) = (started, false);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
        if noted.elapsed() >= NOTE_EVERY {
            notes.take(db)?;
            noted = Instant::now();
        }
        if !restored && started.elapsed() >= time / 2 && !notes.0.is_empty() {
            restored = true;
            notes.restore_one(db, scratch, random)?;
            restores.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Closes the database, opens it again and compares.
pub(super) fn reopen(
    db: Database,
    dir: &Path,
    notes: &mut Notes,
    entities: usize,
    mut failed: impl FnMut(String),
) -> anyhow::Result<(Database, Duration)> {
    let (lsn, digest) = notes.take(&db)?;
    db.close()?;
    drop(db);
    let started = Instant::now();
    let db = builder(dir).open()?;
    let time = started.elapsed();
    let loss = db.recovery_report().map_or(DataLoss::None, |report| report.data_loss);
    if loss != DataLoss::None {
        failed(format!("after LSN {lsn}: data loss {loss:?}: {}", report(&db)));
    }
    if db.lsn() != lsn {
        failed(format!("closed at LSN {lsn}, opened at {}: {}", db.lsn(), report(&db)));
    }
    let view = db.view()?;
    if view.len() != entities {
        failed(format!("LSN {lsn}: {} entities instead of {entities}", view.len()));
    }
    let opened = view.digest()?;
    if opened != digest {
        failed(format!("LSN {lsn}: closed as {digest}, opened as {opened}: {}", report(&db)));
    }
    Ok((db, time))
}

fn report(db: &Database) -> String {
    db.recovery_report().map(ToString::to_string).unwrap_or_default()
}
