//! What a damaged image may do: refuse with a typed error, or be a right prefix of the history with a true report.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use ecsdb::{DataLoss, Database, Error, Lsn, Moment, Policy, RecoveryReport};
use ecsdb_sim::{CrashVariant, SimDisk};
use ecsdb_tests::components::Counter;
use ecsdb_tests::crashed;
use serde::{Deserialize, Serialize};

use super::damage::Damage;
use super::subject::{Class, Subject, findings};

const POLICIES: [Policy; 3] = [Policy::Strict, Policy::TruncateTail, Policy::Salvage];

/// What was tried, and what came out.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) images: u64,
    pub(super) openings: u64,
    pub(super) refused: u64,
    pub(super) whole: u64,
    /// Of those, with the word that more may have been lost than anybody knows of.
    pub(super) cautious: u64,
    /// Opened, with less than all, and said to be so.
    pub(super) less: u64,
    /// Opened with less than all, where nothing is left that could say so: what is there is what an earlier power cut leaves.
    pub(super) less_unseen: u64,
    pub(super) verified: u64,
    /// Of those, found to be without a fault.
    pub(super) verified_whole: u64,
    pub(super) moments: u64,
    /// Of those, refused.
    pub(super) moments_refused: u64,
    pub(super) snapshots: u64,
    /// Of those, failed; the database went on.
    pub(super) snapshots_failed: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        let Tally { images, openings, refused, whole, cautious, less, less_unseen, .. } = other;
        self.images += images;
        self.openings += openings;
        self.refused += refused;
        self.whole += whole;
        self.cautious += cautious;
        self.less += less;
        self.less_unseen += less_unseen;
        self.verified += other.verified;
        self.verified_whole += other.verified_whole;
        self.moments += other.moments;
        self.moments_refused += other.moments_refused;
        self.snapshots += other.snapshots;
        self.snapshots_failed += other.snapshots_failed;
    }
}

/// What must not be.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    /// In a few words, the same for all that are alike.
    pub(super) kind: String,
    pub(super) what: String,
}

fn wrong(kind: &str, what: impl std::fmt::Display) -> Wrong {
    Wrong { kind: kind.into(), what: what.to_string() }
}

/// Where and why the last panic was; the hook notes it.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Notes panics instead of printing them.
pub(super) fn note_panics() {
    std::panic::set_hook(Box::new(|info| {
        if let Ok(mut panic) = PANIC.lock() {
            *panic = info.to_string();
        }
    }));
}

/// Makes the image and looks at it in every way. `turn` decides what is done in rotation.
pub(super) fn judge(
    subject: &Subject,
    damages: &[Damage],
    turn: u64,
    tally: &mut Tally,
) -> Result<(), Wrong> {
    let image = Image { subject, damages, turn };
    match catch_unwind(AssertUnwindSafe(|| image.judge(tally))) {
        Ok(outcome) => outcome,
        Err(_) => {
            let panic = PANIC.lock().map(|panic| panic.clone()).unwrap_or_default();
            let place = panic.lines().next().unwrap_or_default();
            Err(wrong(&format!("a panic: {place}"), &panic))
        }
    }
}

struct Image<'a> {
    subject: &'a Subject,
    damages: &'a [Damage],
    turn: u64,
}

impl Image<'_> {
    fn judge(&self, tally: &mut Tally) -> Result<(), Wrong> {
        tally.images += 1;
        let image = self.make()?;
        tally.verified += 1;
        let verified = ecsdb_recovery::verify(&image, &self.subject.layout(), &mut |_| {});
        // Locks and marks of who owns a directory are for the opening alone.
        let data = |damage: &Damage| self.subject.files[damage.file()].class != Class::Other;
        let whole = self.damages.iter().all(data)
            && verified.is_ok_and(|verified| verified.faults.is_empty() && verified.torn_tail.is_none());
        tally.verified_whole += u64::from(whole);
        let mut clean = false;
        for policy in POLICIES {
            // An opening that finds what it finds without damage does the same under all: then under each in its turn.
            if clean && self.turn % 3 != policy as u64 {
                continue;
            }
            let disk = image.crash(CrashVariant::KEPT);
            self.break_reading(&disk)?;
            let kept = self.open(&disk, policy, tally).map_err(|e| Wrong {
                kind: format!("{} under {policy:?}", e.kind),
                what: format!("opened under {policy:?}: {}", e.what),
            })?;
            clean |= matches!(kept, Ok((_, true)));
            match kept {
                Err(refusal) if whole => {
                    let what = format!("no fault is found, but {policy:?} says: {refusal}");
                    return Err(wrong("verify and opening disagree", what));
                }
                Ok((kept, _)) if whole && kept < self.proven() => {
                    let what = format!("no fault is found, but {policy:?} gives LSN {kept} only");
                    return Err(wrong("verify and opening disagree", what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The damaged image; faults of the disk are [apart](Self::break_reading).
    fn make(&self) -> Result<SimDisk, Wrong> {
        let disk = self.subject.disk.crash(CrashVariant::KEPT);
        for damage in self.damages {
            damage.apply(&disk, self.subject).map_err(|e| wrong("the damage cannot be done", e))?;
        }
        Ok(disk)
    }

    /// A disk that cannot read does not heal by being opened again; a new image of it forgets that.
    fn break_reading(&self, disk: &SimDisk) -> Result<(), Wrong> {
        let unreadable = self.damages.iter().filter(|damage| matches!(damage, Damage::Unreadable { .. }));
        for damage in unreadable {
            damage.apply(disk, self.subject).map_err(|e| wrong("the damage cannot be done", e))?;
        }
        Ok(())
    }

    /// Opens it, judges what comes out, writes, and opens it again. Gives the last LSN and whether nothing was found that is not there without damage, or why it
    /// was refused.
    fn open(
        &self,
        disk: &SimDisk,
        policy: Policy,
        tally: &mut Tally,
    ) -> Result<Result<(u64, bool), Error>, Wrong> {
        let subject = self.subject;
        let builder = |disk: &SimDisk, policy| crashed::builder(disk, subject.settings).policy(policy);
        tally.openings += 1;
        let db = match builder(disk, policy).open_existing() {
            Ok(db) => db,
            Err(e) if self.must_open(policy) => return Err(wrong("it needs nothing of what is damaged", e)),
            Err(e) => {
                tally.refused += 1;
                return Ok(Err(e));
            }
        };
        let report = db.recovery_report().ok_or_else(|| wrong("there is no report", ""))?.clone();
        let last = report.last_lsn.0;
        let found = crashed::digest(&db).map_err(|e| wrong("a world that cannot be read", e))?;
        if subject.history.get(&last) != Some(&found) {
            let expected = subject.history.get(&last);
            let what = format!("LSN {last} is {found}, and was {expected:?}\n{report}");
            return Err(wrong("a wrong world", what));
        }
        self.judge_report(&report, policy, tally)?;
        if self.turn.is_multiple_of(4) {
            self.go_back(&db, last, tally)?;
        }
        let clean = findings(&report) == subject.findings;
        // Where nothing was found one of the policies is enough for this, too.
        if !clean || self.turn % 3 == policy as u64 {
            self.live_on(db, disk, &report, policy, tally)?;
        }
        Ok(Ok((last, clean)))
    }

    /// Whether it says truly what is lost.
    fn judge_report(&self, report: &RecoveryReport, policy: Policy, tally: &mut Tally) -> Result<(), Wrong> {
        let (last, loss) = (report.last_lsn.0, report.data_loss);
        if last == self.subject.last {
            tally.whole += 1;
            // Something behind the end may be taken for the rest of what is lost, but nothing that is there for lost.
            if report.lost.iter().any(|lost| lost.first.0 <= last || lost.last.is_some()) {
                return Err(wrong("a loss is reported where there is none", report));
            }
            tally.cautious += u64::from(loss == DataLoss::Acknowledged);
            return Ok(());
        }
        if self.must_open(policy) {
            return Err(wrong("it needs nothing of what is damaged, and less is there", report));
        }
        if loss == DataLoss::Acknowledged {
            tally.less += 1;
            if policy != Policy::Salvage {
                return Err(wrong("acknowledged loss is accepted", report));
            }
        } else if self.proven() > last {
            let what = format!("LSN {} had been durable, provably\n{report}", self.proven());
            return Err(wrong("acknowledged loss is called less", what));
        } else {
            tally.less_unseen += 1;
        }
        Ok(())
    }

    /// The highest LSN for which there still is an undamaged proof that it had been durable.
    fn proven(&self) -> u64 {
        let untouched = |proof: &&super::subject::Proof| {
            self.damages.iter().all(|damage| !damage.touches(proof.file, &proof.bytes))
        };
        self.subject.proofs.iter().filter(untouched).map(|proof| proof.lsn).max().unwrap_or(0)
    }

    /// REC-14, REC-8: whether what is damaged is nothing that an opening under this policy needs.
    fn must_open(&self, policy: Policy) -> bool {
        let files = &self.subject.files;
        let [damage] = self.damages else { return false };
        // Strangers under names of ours may be refused.
        if matches!(damage, Damage::Copied { .. } | Damage::Foreign { .. } | Damage::Swapped { .. }) {
            return false;
        }
        match files[damage.file()].class {
            Class::Archive => true,
            Class::Snapshot => policy != Policy::Strict,
            Class::Log | Class::Other => false,
            Class::Manifest => {
                let others = files.iter().filter(|file| file.class == Class::Manifest).count() - 1;
                policy != Policy::Strict && others > 0
            }
        }
    }

    /// A past moment is what it was, or is refused.
    fn go_back(&self, db: &Database, last: u64, tally: &mut Tally) -> Result<(), Wrong> {
        if last == 0 {
            return Ok(());
        }
        let to = 1 + self.turn / 4 % last;
        tally.moments += 1;
        match db.restore(Moment::Lsn(Lsn(to))).and_then(|job| job.wait()) {
            Ok(_) => {
                let found = crashed::digest(db).map_err(|e| wrong("a world that cannot be read", e))?;
                match self.subject.history.get(&to) {
                    Some(then) if *then == found => Ok(()),
                    then => {
                        let what = format!("LSN {to} was {then:?}, and is gone back to as {found}");
                        Err(wrong("a wrong past", what))
                    }
                }
            }
            Err(_) => {
                tally.moments_refused += 1;
                Ok(())
            }
        }
    }

    fn live_on(
        &self,
        db: Database,
        disk: &SimDisk,
        report: &RecoveryReport,
        policy: Policy,
        tally: &mut Tally,
    ) -> Result<(), Wrong> {
        let reads = !self.damages.iter().any(|damage| matches!(damage, Damage::Unreadable { .. }));
        let ticket = db.submit(|tx| Ok(tx.spawn(Counter(77)))).map_err(|e| wrong("it does not write", e))?;
        let lsn = ticket.lsn();
        match ticket.wait() {
            Ok(_) => {}
            Err(e) if reads => return Err(wrong("it does not write", e)),
            Err(_) => return Ok(()),
        }
        if lsn <= report.last_lsn || (report.data_loss != DataLoss::Acknowledged && lsn.0 <= self.proven()) {
            return Err(wrong("an LSN is given out again", format!("{lsn}\n{report}")));
        }
        if self.turn % 4 == 1 {
            tally.snapshots += 1;
            if db.snapshot().and_then(|job| job.wait()).is_err() {
                tally.snapshots_failed += 1;
            }
        }
        let expected = crashed::digest(&db).map_err(|e| wrong("a world that cannot be read", e))?;
        // Closed, or killed.
        let disk = if self.turn.is_multiple_of(2) {
            db.close().map_err(|e| wrong("it does not close", e))?;
            disk.crash(CrashVariant::KEPT)
        } else {
            disk.crash(CrashVariant::LOST)
        };
        // After a salvage nothing rests on what was damaged.
        let salvaged = report.data_loss == DataLoss::Acknowledged;
        let policy = if salvaged { Policy::Strict } else { policy };
        tally.openings += 1;
        let builder = crashed::builder(&disk, self.subject.settings).policy(policy);
        let db = match builder.open_existing() {
            Ok(db) => db,
            Err(e) => return Err(wrong("it does not open again", format!("{e}\nbefore: {report}"))),
        };
        let found = crashed::digest(&db).map_err(|e| wrong("a world that cannot be read", e))?;
        let again = db.recovery_report().ok_or_else(|| wrong("there is no report", ""))?;
        if found != expected || again.last_lsn != lsn || again.data_loss == DataLoss::Acknowledged {
            let what = format!("LSN {lsn} was {expected}, and is {found}\n{again}\nbefore: {report}");
            return Err(wrong("it opens again as something else", what));
        }
        Ok(())
    }
}
