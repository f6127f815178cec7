//! Living through a plan: opening, threads at work, faults, the end, damage, and opening again, each step judged.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use ecsdb::{
    Abort, Builder, ByteSize, Database, Durability, Error, ErrorKind, Job, Lsn, Moment, Policy, Ticket,
};
use ecsdb_io::Vfs;
use ecsdb_io::sync::thread;
use ecsdb_sim::{CrashVariant, SimDisk};

use crate::damage::{self, COPIES, Old};
use crate::history::{Circumstances, History, Target};
use crate::machine::Machine;
use crate::plan::{Act, Damage, End, Life, Plan};
use crate::worlds::Change;

/// What a run was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    /// Operations of the disk and the like.
    pub(crate) operations: u64,
    /// The hash of all of them.
    pub(crate) trace: u64,
    pub(crate) openings: u64,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) damages: u64,
    /// Ended with a typed error on damage, also to a salvage.
    pub(crate) refused: u64,
    pub(crate) salvaged: u64,
}

/// Lives through all of a plan; the first thread of an execution.
pub(crate) fn through(plan: &Plan) -> Result<Ran, String> {
    let disk = SimDisk::new(plan.seed);
    for dir in ["/data", "/archive", COPIES] {
        disk.put_dir(dir).map_err(|e| e.to_string())?;
    }
    let mut world = World {
        plan: plan.clone(),
        at: At {
            machine: Machine::new(disk),
            history: History::default(),
            troubled: Arc::default(),
            copies: Arc::default(),
        },
        damaged: Vec::new(),
        by_sectors: false,
        clean: true,
        old: Old::new(),
        ran: Ran::default(),
    };
    match world.all(&plan.lives) {
        Ok(()) => {
            (world.ran.operations, world.ran.trace) = world.at.machine.trace();
            Ok(world.ran)
        }
        Err(why) if world.damaged.is_empty() => Err(why),
        Err(why) => Err(format!("{why}\n  damaged: {}", world.damaged.join(", "))),
    }
}

struct World {
    plan: Plan,
    at: At,
    /// What was done to which files, ever.
    damaged: Vec<String>,
    by_sectors: bool,
    clean: bool,
    old: Old,
    ran: Ran,
}

/// What all threads share.
#[derive(Clone)]
struct At {
    machine: Machine,
    history: History,
    /// Something was done that work in the background may fail of.
    troubled: Arc<AtomicBool>,
    copies: Arc<AtomicU64>,
}

impl World {
    fn all(&mut self, lives: &[Life]) -> Result<(), String> {
        for life in lives {
            if !self.live(life)? {
                return Ok(());
            }
        }
        self.look_at_the_end()
    }

    /// False when there is nothing to go on with.
    fn live(&mut self, life: &Life) -> Result<bool, String> {
        let disk = self.at.machine.disk();
        self.at.machine.set_slowness(life.slowness);
        if life.faults_at_opening {
            life.faults.iter().cloned().for_each(|fault| disk.inject(fault));
        }
        if let End::Power { after, from_beginning: true, .. } = life.end {
            disk.stop_before(disk.operations() + after);
        }
        let Some(db) = self.open()? else { return Ok(false) };
        // Opening may have gone through a restart of the machine, with another disk.
        let disk = self.at.machine.disk();
        if let Some(db) = db {
            if !life.faults_at_opening {
                life.faults.iter().cloned().for_each(|fault| disk.inject(fault));
            }
            if let End::Power { after, from_beginning: false, .. } = life.end {
                disk.stop_before(disk.operations() + after);
            }
            self.work(&db, life)?;
            self.end(db, life)?;
        }
        self.ran.faults += disk.faults_fired();
        disk.clear_faults();
        disk.set_quota(None);
        match life.end {
            End::Close(Some(crash))
            | End::Drop(Some(crash))
            | End::Power { crash, .. }
            | End::PowerAtRest(crash) => {
                self.crash(crash);
            }
            End::Close(None) | End::Drop(None) => self.reboot_after_failed_sync(),
        }
        self.strike(life);
        Ok(true)
    }

    fn crash(&mut self, variant: CrashVariant) {
        let disk = self.at.machine.disk();
        self.at.machine.replace_disk(disk.crash(variant));
        self.ran.crashes += 1;
    }

    /// What a failed sync should have made durable is seen by readers until the machine goes down, and no later sync helps: nothing can
    /// be promised on top of it before.
    fn reboot_after_failed_sync(&mut self) {
        if self.at.machine.take_failed_sync() {
            self.crash(CrashVariant::LOST);
        }
    }

    /// `None` when it is refused for good, `Some(None)` when the power failed in the middle.
    fn open(&mut self) -> Result<Option<Option<Database>>, String> {
        self.ran.openings += 1;
        let disk = self.at.machine.disk();
        let before = disk.faults_fired();
        let mut opened = self.builder(Policy::TruncateTail).open();
        if opened.is_err() && disk.faults_fired() > before {
            if disk.file_len(std::path::Path::new("/data")).is_err() {
                return Ok(Some(None));
            }
            // A passing error refuses, and does no harm.
            self.ran.faults += disk.faults_fired();
            disk.clear_faults();
            self.reboot_after_failed_sync();
            opened = self.builder(Policy::TruncateTail).open();
        }
        let db = match opened {
            Ok(db) => db,
            Err(e) if self.damaged.is_empty() => return Err(format!("does not open: {e}")),
            Err(e) if self.damaged.iter().all(|what| what.contains("archive/")) => {
                return Err(format!("does not open, and nothing but the archive is damaged: {e}"));
            }
            Err(e) if matches!(e.kind(), ErrorKind::Bug | ErrorKind::Call) => {
                return Err(format!("damage is called a {:?}: {e}", e.kind()));
            }
            Err(e) => {
                self.at.machine.note(&e.to_string(), &[]);
                match self.builder(Policy::Salvage).open() {
                    Ok(db) => {
                        self.ran.salvaged += 1;
                        db
                    }
                    Err(e) => {
                        self.at.machine.note(&e.to_string(), &[]);
                        self.ran.refused += 1;
                        return Ok(None);
                    }
                }
            }
        };
        let circumstances = Circumstances {
            damaged: !self.damaged.is_empty(),
            by_sectors: self.by_sectors,
            clean: self.clean,
        };
        self.at.history.opened(&db, circumstances)?;
        self.clean = false;
        self.at.machine.note("opened", &db.lsn().0.to_le_bytes());
        Ok(Some(Some(db)))
    }

    fn builder(&self, policy: Policy) -> Builder {
        Builder::new(self.plan.settings.config()).vfs(self.at.machine.vfs()).policy(policy)
    }

    fn work(&self, db: &Database, life: &Life) -> Result<(), String> {
        let threads: Vec<_> = life
            .threads
            .iter()
            .map(|acts| {
                let (at, db, acts) = (self.at.clone(), db.clone(), acts.clone());
                thread::spawn(move || at.all(&db, &acts))
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")?;
        }
        self.at.history.failure().map_or(Ok(()), Err)
    }

    fn end(&mut self, db: Database, life: &Life) -> Result<(), String> {
        let lsn = db.lsn();
        match life.end {
            End::Close(_) => match db.close() {
                Ok(()) => {
                    self.clean = true;
                    self.at.history.promise(lsn);
                }
                Err(e) if self.at.is_troubled() => self.at.machine.note(&e.to_string(), &[]),
                Err(e) => return Err(format!("does not close: {e}")),
            },
            End::Drop(_) => {
                drop(db);
                if !self.at.is_troubled() {
                    self.clean = true;
                    self.at.history.promise(lsn);
                }
            }
            End::Power { .. } | End::PowerAtRest(_) => {
                self.at.machine.disk().power_off();
                drop(db);
            }
        }
        Ok(())
    }

    fn strike(&mut self, life: &Life) {
        let disk = self.at.machine.disk();
        let before = damage::copy_of(&disk);
        for damage in &life.damage {
            if let Some(path) = damage::strike(&disk, *damage, &self.old) {
                let what = format!("{damage:?} {}", path.display());
                self.at.machine.note(&what, &[]);
                self.damaged.push(what);
                // A segment as it was before its first group, which no manifest knows of yet, is that of a process that came no further.
                self.by_sectors |= match damage {
                    Damage::Zeros(..) | Damage::Misdirected(..) => true,
                    Damage::Stale(..) => path.extension().is_some_and(|extension| extension == "seg"),
                    _ => false,
                };
                self.ran.damages += 1;
                self.at.troubled.store(true, Ordering::Relaxed);
            }
        }
        self.old = before;
    }

    /// One more opening, without any hindrance; what was closed cleanly and never damaged verifies.
    fn look_at_the_end(&mut self) -> Result<(), String> {
        self.at.machine.set_archive_away(false);
        self.at.machine.set_slowness(0);
        let Some(Some(db)) = self.open()? else { return Ok(()) };
        let closed = db.close();
        if self.damaged.is_empty() {
            closed.map_err(|e| format!("does not close at the end: {e}"))?;
            let layout = self.plan.settings.config().layout().map_err(|e| e.to_string())?;
            let verified = ecsdb_recovery::verify(&self.at.machine, &layout, &mut |_| {})
                .map_err(|e| format!("does not verify: {e}"))?;
            // A log that once had a hole torn into it by a fault is told of, and none was.
            if !verified.faults.is_empty() {
                return Err(format!("after a clean close: {}", verified.faults.join("; ")));
            }
        }
        Ok(())
    }
}

impl At {
    fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed) || self.machine.disk().faults_fired() > 0
    }

    fn all(&self, db: &Database, acts: &[Act]) {
        let mut tickets = Vec::new();
        for act in acts {
            if self.history.failure().is_some() {
                return;
            }
            self.act(db, act, &mut tickets);
            self.history.promise(db.durable_lsn());
        }
    }

    fn act(&self, db: &Database, act: &Act, tickets: &mut Vec<Ticket<()>>) {
        match act {
            Act::Write { durability, changes, fails } => {
                if let Some(ticket) = self.commit(db, *durability, changes, *fails)
                    && *durability == Durability::Immediate
                {
                    self.wait(db, ticket);
                }
            }
            Act::Submit(changes) => tickets.extend(self.commit(db, Durability::Immediate, changes, false)),
            Act::WaitForTickets => tickets.drain(..).for_each(|ticket| self.wait(db, ticket)),
            Act::DropTickets => tickets.clear(),
            Act::Sync => {
                if let Some(lsn) = self.expect("a sync", db.sync()) {
                    self.promised(db, lsn);
                }
            }
            Act::Look => {
                if let Some(view) = self.expect("a view", db.view())
                    && let Ok(digest) = view.digest()
                {
                    self.history.see("a view", view.lsn(), digest);
                }
            }
            Act::Snapshot => drop(self.job("a snapshot", db.snapshot())),
            Act::SnapshotCancelled => {
                if let Some(job) = self.expect("a snapshot", db.snapshot()) {
                    (0..20).for_each(|_| thread::yield_now());
                    job.cancel();
                    self.job("a snapshot", Ok(job));
                }
            }
            Act::SnapshotPaused => {
                if let Some(job) = self.expect("a snapshot", db.snapshot()) {
                    job.pause();
                    (0..50).for_each(|_| thread::yield_now());
                    job.resume();
                    self.job("a snapshot", Ok(job));
                }
            }
            Act::Compact => drop(self.job("a compaction", db.compact())),
            Act::Backup => {
                let path = self.next_copy();
                if let Some(info) = self.job("a backup", db.backup_to(&path)) {
                    self.look_at_copy("a backup", path, info.lsn);
                }
            }
            Act::Restore(n) => {
                let Some(lsn) = self.history.some_lsn(*n) else { return };
                let state = self.history.state(lsn);
                self.history.begin_restore(Target::State(state));
                if let Some(at) = self.job("a restore", db.restore(Moment::Lsn(lsn))) {
                    self.history.see("a restore", at, state);
                    self.promised(db, at);
                }
            }
            Act::RestoreTime(seconds) => {
                self.history.begin_restore(Target::Any);
                let now = Duration::from_nanos(self.machine.now_unix_ns()).as_secs();
                let time = UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(*seconds));
                if let Some(at) = self.job("a restore", db.restore(Moment::Time(time))) {
                    self.promised(db, at);
                }
            }
            Act::Copy(n) => {
                let Some(lsn) = self.history.some_lsn(*n) else { return };
                let path = self.next_copy();
                if self.job("a copy", db.restore_to(&path, Moment::Lsn(lsn))).is_some() {
                    self.look_at_copy("a copy", path, lsn);
                }
            }
            Act::Rotate => drop(self.expect("a rotation", db.rotate_log())),
            Act::PauseBackground => db.pause_background(),
            Act::ResumeBackground => db.resume_background(),
            Act::Configure(n) => {
                let configured = db.reconfigure_with(|config| {
                    config.snapshot.after_transactions = n % 7;
                    config.snapshot.chain_max = 1 + (n >> 8) as usize % 3;
                    config.retention.snapshots_max = 1 + (n >> 16) as usize % 4;
                    config.wal.segment_bytes_max = ByteSize((64 << 10) << (n >> 24 & 3));
                    config.wal.queue_bytes_max = ByteSize((64 << 10) << (n >> 26 & 3));
                    config.wal.flush_interval = Duration::from_millis(1 + (n >> 28) % 100);
                });
                self.expect("a change of settings", configured.map(drop));
            }
            Act::SetClock(seconds) => self.machine.set_clock_by(*seconds),
            Act::ArchiveAway(away) => {
                self.troubled.store(true, Ordering::Relaxed);
                self.machine.set_archive_away(*away);
            }
            Act::Quota(bytes) => {
                self.troubled.store(true, Ordering::Relaxed);
                let disk = self.machine.disk();
                let used: u64 = disk.files().iter().map(|(_, len)| len).sum();
                disk.set_quota(bytes.map(|bytes| used + bytes));
            }
        }
    }

    fn commit(
        &self,
        db: &Database,
        durability: Durability,
        changes: &[Change],
        fails: bool,
    ) -> Option<Ticket<()>> {
        let committed = db.submit_with(durability, |tx| {
            let before = tx.view().digest()?;
            self.history.see("a transaction's beginning", db.lsn(), before);
            changes.iter().try_for_each(|change| change.make(tx))?;
            if fails {
                return Err(Abort::new("meant"));
            }
            let after = tx.view().digest()?;
            if after != before {
                self.history.note(db.lsn().next(), after);
            }
            Ok(())
        });
        match committed {
            Err(e) if e.kind() == ErrorKind::Aborted && fails => None,
            committed => self.expect("a transaction", committed),
        }
    }

    fn wait(&self, db: &Database, ticket: Ticket<()>) {
        let lsn = ticket.lsn();
        if self.expect("a wait", ticket.wait()).is_some() {
            self.promised(db, lsn);
        }
    }

    /// Somebody was told that `lsn` is durable. What counts is how far the log was at that time.
    fn promised(&self, db: &Database, lsn: Lsn) {
        let durable = db.durable_lsn();
        if durable < lsn {
            self.history.fail(format!("{lsn} was said to be durable, and {durable} is"));
        }
        self.history.promise(durable);
    }

    fn job<T>(&self, what: &str, job: ecsdb::Result<Job<T>>) -> Option<T> {
        self.expect(what, job).and_then(|job| self.expect(what, job.wait()))
    }

    /// What was asked for. Where nothing troubles it, it may fail only since it was cancelled or asks for what is not kept.
    fn expect<T>(&self, what: &str, result: ecsdb::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(e) => {
                self.machine.note(&format!("{what}: {e}"), &[]);
                if !self.allowed(&e) {
                    self.history.fail(format!("{what} fails, and nothing is wrong: {e}"));
                }
                None
            }
        }
    }

    fn allowed(&self, e: &Error) -> bool {
        matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::NotFound)
            || (self.is_troubled() && !matches!(e.kind(), ErrorKind::Bug))
    }

    fn next_copy(&self) -> PathBuf {
        PathBuf::from(format!("{COPIES}/{}", self.copies.fetch_add(1, Ordering::Relaxed)))
    }

    fn look_at_copy(&self, what: &str, path: PathBuf, lsn: Lsn) {
        let copy = Database::builder(path).vfs(self.machine.vfs()).without_threads().open();
        if let Some(copy) = self.expect(what, copy)
            && let Some(view) = self.expect(what, copy.view())
            && let Ok(digest) = view.digest()
        {
            self.history.see(what, lsn, digest);
        }
    }
}
