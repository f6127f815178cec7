//! What must hold: a reopened database is the one that was closed, and a moment gone back to is as it was noted.

use std::path::Path;

use ecsdb::prelude::*;
use ecsdb::{Digest, Lsn, Moment, RecoveryError};

use super::load::whole;

const NOTES_MAX: usize = 64;

/// Digests at moments that may be gone back to.
#[derive(Default)]
pub(super) struct Notes(Vec<(Lsn, Digest)>);

impl Notes {
    /// Notes the world as it is now.
    pub(super) fn take(&mut self, db: &Database) -> anyhow::Result<(Lsn, Digest)> {
        let view = db.view()?;
        let note = (view.lsn(), view.digest()?);
        if self.0.len() == NOTES_MAX {
            self.0.remove(0);
        }
        self.0.push(note);
        Ok(note)
    }

    /// After an opening that found the log to end before them, moments that never came to be are forgotten.
    pub(super) fn forget_after(&mut self, lsn: Lsn) {
        self.0.retain(|&(noted, _)| noted <= lsn);
    }

    /// Goes back to a noted moment with `go`. What is not retained any more is forgotten, and another one tried; that of the newest
    /// note always is.
    fn pick(
        &mut self,
        random: &mut fastrand::Rng,
        mut go: impl FnMut(Lsn) -> ecsdb::Result<()>,
    ) -> anyhow::Result<Option<(Lsn, Digest)>> {
        while !self.0.is_empty() {
            let first = random.usize(..self.0.len());
            let (lsn, digest) = self.0[first];
            match go(lsn) {
                Ok(()) => return Ok(Some((lsn, digest))),
                Err(ecsdb::Error::Recovery(RecoveryError::OutOfRange { .. })) if first + 1 < self.0.len() => {
                    self.0.drain(..=first);
                }
                Err(e) => return Err(anyhow::Error::from(e).context(format!("going back to LSN {lsn}"))),
            }
        }
        Ok(None)
    }

    /// Restores a moment into a directory of its own and compares.
    pub(super) fn restore_copy(
        &mut self,
        db: &Database,
        scratch: &Path,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let dir = tempfile::Builder::new().prefix("restored-").tempdir_in(scratch)?;
        let path = dir.path().join("copy");
        let picked = self.pick(random, |lsn| db.restore_to(&path, Moment::Lsn(lsn))?.wait().map(drop))?;
        let Some((lsn, digest)) = picked else { return Ok(()) };
        let copy = Database::open(&path)?;
        let view = copy.view()?;
        whole(&view)?;
        let (found, found_lsn) = (view.digest()?, copy.lsn());
        copy.close()?;
        anyhow::ensure!(found == digest, "LSN {lsn} was {digest}, and was restored as {found}");
        anyhow::ensure!(found_lsn == lsn, "LSN {lsn} was restored as {found_lsn}");
        Ok(())
    }

    /// Brings the running world back to a moment and then forth again to where it was, and compares both. Nobody else may write.
    pub(super) fn there_and_back(&mut self, db: &Database, random: &mut fastrand::Rng) -> anyhow::Result<()> {
        db.sync()?;
        let (present, now) = self.take(db)?;
        let picked = self.pick(random, |lsn| db.restore(Moment::Lsn(lsn))?.wait().map(drop))?;
        let Some((lsn, digest)) = picked else { return Ok(()) };
        let found = db.view()?.digest()?;
        anyhow::ensure!(found == digest, "LSN {lsn} was {digest}, and the world was brought back to {found}");
        db.restore(Moment::Lsn(present))?.wait()?;
        let found = db.view()?.digest()?;
        anyhow::ensure!(found == now, "LSN {present} was {now}, and the world was brought forth to {found}");
        Ok(())
    }
}
