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
    /// Up to which LSN and which transaction all is on stable storage.
    pub durable: (u64, u64),
    /// Complete copies, with LSN and number of the last transaction.
    copies: BTreeMap<String, (u64, u64)>,
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
            Line::Opened { lsn, number, digest } => {
                self.holds(lsn, number)?;
                ensure!(history.digest(number) == digest, "transaction {number} was opened as another state");
                // What was opened is durable: the log goes on after it (REC-4).
                self.durable = (lsn, number);
                self.opened = Some(lsn);
            }
            Line::Durable { lsn, number } => {
                let opened = self.opened.context("a commit before an opening")?;
                ensure!(lsn > opened, "LSN {lsn} was given out after an opening at LSN {opened}");
                self.durable = self.durable.max((lsn, number));
            }
            Line::Doing(what) => self.doing = what,
            Line::Published if self.doing == "snapshot" || self.doing == "compaction" => {
                self.doing = "archive and retention".into();
            }
            Line::Published => {}
            Line::Copied { lsn, number, dir } => {
                self.copies.insert(dir, (lsn, number));
            }
            Line::Error(e) => self.error = Some(e),
            Line::Done => self.done = true,
        }
        Ok(())
    }

    /// Whether nothing acknowledged is missing.
    fn holds(&self, lsn: u64, number: u64) -> anyhow::Result<()> {
        let (known, durable) = self.durable;
        ensure!(
            lsn >= known && number >= durable,
            "transaction {durable} with LSN {known} was acknowledged, and {number} with LSN {lsn} is the last"
        );
        Ok(())
    }

    /// What the process was about, for the statistics.
    #[must_use]
    pub fn phase(&self) -> String {
        match (self.doing.as_str(), self.opened) {
            ("opening", _) if self.durable.0 == 0 => "creating".into(),
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
            let (found, durable) = (verified.last_lsn.0, claims.durable.0);
            ensure!(found >= durable, "acknowledged up to LSN {durable}, verified up to {found}");
        }
        // Killed before there was one.
        Err(_) if claims.durable.0 == 0 => {}
        Err(e) => return Err(e).context("verify"),
    }
    let db = Database::builder(&dir).config(settings).open().context("opening")?;
    let report = db.recovery_report().context("no report")?.to_string();
    let loss = db.recovery_report().map_or(DataLoss::None, |report| report.data_loss);
    ensure!(loss != DataLoss::Acknowledged, "acknowledged up to LSN {}: {report}", claims.durable.0);
    let lsn = db.lsn().0;
    let number = compare(&db, history).with_context(|| report.clone())?;
    claims.holds(lsn, number).context(report)?;
    let ticket = db.submit(|tx| transaction(history.seed(), tx))?;
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
    let again = compare(&db, history)?;
    ensure!(again == number + 1, "after transaction {number} comes {again}");
    db.close()?;
    Ok(())
}

/// A copy is whole, or no database.
fn copy(dir: &Path, claimed: Option<(u64, u64)>, history: &mut History) -> anyhow::Result<()> {
    let db = match Database::open_existing(dir) {
        Ok(db) => db,
        Err(e) if claimed.is_none() && matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Unfinished) => {
            return Ok(());
        }
        Err(e) => return Err(anyhow::Error::from(e).context("opening a copy")),
    };
    let found = (db.lsn().0, compare(&db, history)?);
    ensure!(claimed.is_none_or(|claimed| claimed == found), "a copy of {claimed:?} is at {found:?}");
    // A copy of the empty world has a snapshot of it; an empty database that was made by opening has none.
    let is_copy = db.recovery_report().is_some_and(|report| report.snapshot.is_some());
    ensure!(found.1 > 0 || is_copy, "an empty copy");
    db.close()?;
    Ok(())
}

/// Compares with the history, and gives the number of the last transaction.
fn compare(db: &Database, history: &mut History) -> anyhow::Result<u64> {
    let view = db.view()?;
    let (number, digest) = digest_of(&view)?;
    if digest != history.digest(number) {
        anyhow::bail!("after transaction {number}, LSN {}: {}", view.lsn(), history.difference(&view)?);
    }
    Ok(number)
}
