//! The judge: which state the world had at each LSN, and what was promised to be durable.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ecsdb::{DataLoss, Database, Digest, Lsn};

/// What is known of a database; clones are the same. Nothing in it is scheduled: it belongs to the simulation.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    states: BTreeMap<u64, Digest>,
    restores: Vec<Restore>,
    /// Everything up to here was said to be durable.
    promised: u64,
    /// What had been promised before that was raised last. What was written since then is the log's last group, of which damage cannot
    /// be told from an interrupted write.
    promised_before: u64,
    /// Numbers up to here that no transaction has: an opening goes on above those of lost ones.
    skipped: u64,
    failure: Option<String>,
}

/// What the transaction that a restore makes may bring about. Its LSN is known at its end only, if it comes to that.
struct Restore {
    /// It is above that of a transaction that was noted before.
    above: u64,
    /// And in the same life.
    to: u64,
    target: Target,
}

/// What a restore may bring back.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    State(Digest),
    /// Some moment of the past.
    Any,
}

/// What may be wrong with the files at an opening.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Circumstances {
    /// Files were damaged while nobody had them open.
    pub(crate) damaged: bool,
    /// Whole sectors were, or files are as they were before: several groups of the log may be gone with one.
    pub(crate) by_sectors: bool,
    /// The database was closed, and said that it went well.
    pub(crate) clean: bool,
}

impl History {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of them counts.
    pub(crate) fn fail(&self, why: impl Into<String>) {
        self.inner().failure.get_or_insert_with(|| why.into());
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.inner().failure.clone()
    }

    /// A transaction is about to get `lsn`.
    pub(crate) fn note(&self, lsn: Lsn, digest: Digest) {
        self.inner().states.insert(lsn.0, digest);
    }

    /// Everything up to `lsn` was said to be durable.
    pub(crate) fn promise(&self, lsn: Lsn) {
        let inner = &mut *self.inner();
        if lsn.0 > inner.promised.max(inner.skipped) {
            inner.promised_before = inner.promised;
            inner.promised = lsn.0;
        }
    }

    pub(crate) fn begin_restore(&self, target: Target) {
        let inner = &mut *self.inner();
        let above = inner.states.keys().next_back().copied().unwrap_or(0);
        inner.restores.push(Restore { above, to: u64::MAX, target });
    }

    /// The state at `lsn`, as far as the judge knows.
    pub(crate) fn state(&self, lsn: Lsn) -> Digest {
        self.inner().state(lsn.0).1
    }

    /// The LSN of some noted transaction.
    pub(crate) fn some_lsn(&self, choice: u64) -> Option<Lsn> {
        let inner = self.inner();
        let n = inner.states.len();
        inner.states.keys().nth((choice % n.max(1) as u64) as usize).map(|lsn| Lsn(*lsn))
    }

    /// Somebody sees `digest` at `lsn`.
    pub(crate) fn see(&self, what: &str, lsn: Lsn, digest: Digest) {
        let inner = &mut *self.inner();
        let (known, expected) = inner.state(lsn.0);
        if digest == expected {
            return;
        }
        let restored = !known
            && inner.restores.iter().any(|restore| {
                restore.above < lsn.0
                    && lsn.0 <= restore.to
                    && match restore.target {
                        Target::State(state) => state == digest,
                        Target::Any => {
                            inner.states.values().any(|state| *state == digest) || digest == empty()
                        }
                    }
            });
        if restored {
            inner.states.insert(lsn.0, digest);
            return;
        }
        let why = format!("{what}: at LSN {lsn} there is {digest}, and not {expected}");
        inner.failure.get_or_insert(why);
    }

    /// Judges a database that was just opened, and goes on from what it came back to.
    pub(crate) fn opened(&self, db: &Database, circumstances: Circumstances) -> Result<(), String> {
        let report = db.recovery_report().ok_or("an opened database has no report")?;
        let last = report.last_lsn;
        let view = db.view().map_err(|e| e.to_string())?;
        let digest = view.digest().map_err(|e| e.to_string())?;
        self.see("after opening", last, digest);
        let skipped = db.lsn().0;
        let inner = &mut *self.inner();
        if let Some(why) = &inner.failure {
            return Err(format!("{why}\n{circumstances:?}\n{report}"));
        }
        if last.0 < inner.promised {
            // What is not proven to have been durable looks like an interrupted write.
            let last_group = last.0 >= inner.promised_before || circumstances.by_sectors;
            // After a clean end it is the newest manifest that proves it. Where that one is damaged, too, nothing does.
            let proof_is_lost = report
                .rejected
                .iter()
                .any(|rejected| rejected.path.extension().is_some_and(|extension| extension == "manifest"));
            let unproven = !circumstances.clean || proof_is_lost;
            let looks_torn = circumstances.damaged && unproven && last_group;
            if !circumstances.damaged || (report.data_loss != DataLoss::Acknowledged && !looks_torn) {
                return Err(format!(
                    "LSN {} was promised (and {} before), and LSN {last} is what came back\n{circumstances:?}\n{report}",
                    inner.promised, inner.promised_before,
                ));
            }
        } else if report.data_loss == DataLoss::Acknowledged && !circumstances.damaged {
            return Err(format!("acknowledged transactions are said to be lost, and none is\n{report}"));
        }
        // What opening found is durable, and what it did not find never was.
        inner.states.split_off(&(last.0 + 1));
        inner.states.insert(last.0, digest);
        inner.restores.retain_mut(|restore| {
            restore.to = restore.to.min(last.0);
            restore.above < last.0
        });
        (inner.promised, inner.promised_before, inner.skipped) = (last.0, last.0, skipped);
        Ok(())
    }
}

impl Inner {
    /// The state at `lsn`, and whether it was noted: transactions that only keep ids from coming back change nothing.
    fn state(&self, lsn: u64) -> (bool, Digest) {
        match self.states.range(..=lsn).next_back() {
            Some((&at, digest)) => (at == lsn, *digest),
            None => (lsn == 0, empty()),
        }
    }
}

fn empty() -> Digest {
    Digest(0)
}
