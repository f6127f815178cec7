//! The judge: what is on disk must be what was claimed, whatever happened to the process.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use ecsdb::{DataLoss, Database, ErrorKind, PersistenceConfig, Policy};

use super::child::{database, settings};
use super::history::{History, digest_of, transaction};
use super::lines::Line;

/// What was claimed until now, over all lives of a directory.
#[derive(Debug, Default, Clone)]
pub struct Claims {
    /// Transactions up to this one are on stable storage.
    pub durable: u64,
    /// Complete copies, and their LSN.
    copies: BTreeMap<String, u64>,
    /// What the process is doing.
    doing: String,
    /// An opening whose state is still to be compared, and which is the floor of the LSNs of this life.
    opened: Option<u64>,
    /// What the engine refused.
    pub error: Option<String>,
    /// It ended in order.
    pub done: bool,
}

impl Claims {
    /// For a new process on the same directory.
    pub fn new_life(&mut self) {
        *self =
            Claims { durable: self.durable, copies: std::mem::take(&mut self.copies), ..Claims::default() };
    }

    /// Takes a line in.
    ///
    /// # Errors
    /// When it says what must not be.
    pub fn take(&mut self, line: Line, history: &mut History) -> anyhow::Result<()> {
        match line {
            Line::Opened { lsn, digest } => {
                ensure!(lsn >= self.durable, "acknowledged up to LSN {}, opened at {lsn}", self.durable);
                let known = history.digest(lsn);
                ensure!(known == digest, "LSN {lsn} was {known}, and was opened as {digest}");
                // What was opened is durable: the log goes on after it.
                self.durable = lsn;
                self.opened = Some(lsn);
            }
            Line::Durable { lsn } => {
                let opened = self.opened.context("a commit before an opening")?;
                ensure!(lsn > opened, "LSN {lsn} was given out after an opening at LSN {opened}");
                self.durable = self.durable.max(lsn);
            }
            Line::Doing(what) => self.doing = what,
            Line::Published if self.doing == "snapshot" || self.doing == "compaction" => {
                self.doing = "archive and retention".into();
            }
            Line::Published => {}
            Line::Copied { lsn, dir } => {
                self.copies.insert(dir, lsn);
            }
            Line::Error(e) => self.error = Some(e),
            Line::Done => self.done = true,
        }
        Ok(())
    }

    /// What the process was about, for the statistics.
    #[must_use]
    pub fn phase(&self) -> String {
        match (self.doing.as_str(), self.opened) {
            ("opening", _) if self.durable == 0 => "creating".into(),
            ("opening", _) => "recovery".into(),
            ("", _) => "starting".into(),
            (doing, _) => doing.into(),
        }
    }

    /// Copies that were judged and removed.
    pub fn forget_copies(&mut self) {
        self.copies.clear();
    }
}

/// Judges `base`, which nobody uses any more, and changes it in doing so.
///
/// # Errors
/// The first thing that must not be.
pub fn judge(base: &Path, claims: &Claims, history: &mut History) -> anyhow::Result<()> {
    state(base, claims, history).context("the database")?;
    let copies = std::fs::read_dir(base.join("copies")).into_iter().flatten().flatten();
    let mut claimed = claims.copies.clone();
    for entry in copies {
        let name = format!("copies/{}", entry.file_name().to_string_lossy());
        let known = claimed.remove(&name);
        copy(&entry.path(), known, history).with_context(|| name)?;
    }
    ensure!(claimed.is_empty(), "copies that were complete are gone: {claimed:?}");
    Ok(())
}

/// The database verifies, opens, has what was acknowledged, is a state of the history, goes on with higher LSNs, and opens again as the same under
/// the strictest policy.
fn state(base: &Path, claims: &Claims, history: &mut History) -> anyhow::Result<()> {
    let dir = database(base);
    let mut config = PersistenceConfig::new(&dir);
    settings(&mut config);
    match ecsdb::verify(&config, |_| {}) {
        Ok(verified) => {
            ensure!(verified.faults.is_empty(), "verify: {}", verified.faults.join("; "));
            let (found, durable) = (verified.last_lsn.0, claims.durable);
            ensure!(found >= durable, "acknowledged up to LSN {durable}, verified up to {found}");
        }
        // Killed before there was one.
        Err(_) if claims.durable == 0 => {}
        Err(e) => return Err(e).context("verify"),
    }
    let db = Database::builder(&dir).config(settings).open().context("opening")?;
    let report = db.recovery_report().context("no report")?.to_string();
    let loss = db.recovery_report().map_or(DataLoss::None, |report| report.data_loss);
    let (lsn, durable) = (db.lsn().0, claims.durable);
    ensure!(loss != DataLoss::Acknowledged && lsn >= durable, "acknowledged up to LSN {durable}: {report}");
    compare(&db, history).with_context(|| report)?;
    let ticket = db.submit(|tx| transaction(history.seed(), lsn + 1, tx))?;
    let next = ticket.lsn().0;
    ticket.wait()?;
    ensure!(next == lsn + 1, "after LSN {lsn} comes {next}");
    db.close()?;
    drop(db);
    let db = Database::builder(&dir)
        .config(settings)
        .policy(Policy::Strict)
        .open()
        .context("opening again, strictly")?;
    ensure!(db.lsn().0 == next, "closed at LSN {next}, opened at {}", db.lsn());
    compare(&db, history)?;
    db.close()?;
    Ok(())
}

/// A copy is whole, or no database.
fn copy(dir: &Path, claimed: Option<u64>, history: &mut History) -> anyhow::Result<()> {
    let db = match Database::open_existing(dir) {
        Ok(db) => db,
        Err(e) if claimed.is_none() && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => {
            return Ok(());
        }
        Err(e) => return Err(anyhow::Error::from(e).context("opening a copy")),
    };
    let lsn = db.lsn().0;
    ensure!(claimed.is_none_or(|claimed| claimed == lsn), "a copy of LSN {claimed:?} is at {lsn}");
    ensure!(lsn > 0, "an empty copy");
    compare(&db, history)?;
    db.close()?;
    Ok(())
}

fn compare(db: &Database, history: &mut History) -> anyhow::Result<()> {
    let view = db.view()?;
    if digest_of(&view)? != history.digest(view.lsn().0) {
        anyhow::bail!("at LSN {}: {}", view.lsn(), history.difference(&view)?);
    }
    Ok(())
}
