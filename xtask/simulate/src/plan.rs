//! What a seed stands for: settings, and lives of a database one after another, each with its threads, its faults, its end, and what
//! is done to the files behind its back afterwards.

use ecsdb::{ByteSize, Durability, PersistenceConfig};
use ecsdb_io::FileOp;
use ecsdb_sim::{CrashVariant, Failure, Fault, NameOrder};

use crate::machine::{ARCHIVE, WORLD};
use crate::worlds::Change;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) lives: Vec<Life>,
}

/// What is chosen of the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    archive: bool,
    archive_apart: bool,
    snapshots_max: usize,
    chain_max: usize,
    after_transactions: u64,
    compression: i32,
    threads: usize,
    flush_ms: u64,
    age_s: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// What each thread does.
    pub(crate) threads: Vec<Vec<Act>>,
    pub(crate) faults: Vec<Fault>,
    /// Whether the faults are there at the opening already.
    pub(crate) faults_at_opening: bool,
    pub(crate) slowness: u32,
    pub(crate) end: End,
    pub(crate) damage: Vec<Damage>,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Write {
        durability: Durability,
        changes: Vec<Change>,
        fails: bool,
    },
    /// Commits, and keeps the ticket.
    Submit(Vec<Change>),
    WaitForTickets,
    DropTickets,
    Sync,
    Look,
    Snapshot,
    /// Begun, followed for a while, and cancelled.
    SnapshotCancelled,
    SnapshotPaused,
    Compact,
    Backup,
    Restore(u64),
    RestoreTime(i64),
    Copy(u64),
    Rotate,
    PauseBackground,
    ResumeBackground,
    Configure(u64),
    SetClock(i64),
    ArchiveAway(bool),
    Quota(Option<u64>),
}

/// How a life ends. After a close or a drop the machine goes on, or crashes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Close(Option<CrashVariant>),
    /// The last handle is dropped.
    Drop(Option<CrashVariant>),
    /// The power fails at the operation of this number, counted from the opening's end or its beginning.
    Power {
        after: u64,
        from_beginning: bool,
        crash: CrashVariant,
    },
    /// The power fails when all threads are done.
    PowerAtRest(CrashVariant),
}

/// What is done to a file that nobody has open. Numbers choose file and place.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    Flip(u64, u64),
    Zeros(u64, u64),
    Cut(u64, u64),
    Missing(u64),
    /// A file as it was at the end of the life before.
    Stale(u64),
    /// A sector of one file lies in another.
    Misdirected(u64, u64),
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let settings = Settings::random(rng);
        let faulty = rng.u8(..3) == 0;
        let damaged = rng.u8(..3) == 0;
        let lives = (0..rng.usize(1..5)).map(|_| Life::random(rng, faulty, damaged)).collect();
        Plan { seed, settings, lives }
    }

    /// Everything that can be left out, by its place.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (life, l) in self.lives.iter().enumerate() {
            parts.push(Part::Life(life));
            parts.extend((0..l.threads.len()).map(|thread| Part::Thread(life, thread)));
            for (thread, acts) in l.threads.iter().enumerate() {
                parts.extend((0..acts.len()).map(|act| Part::Act(life, thread, act)));
            }
            parts.extend((0..l.faults.len()).map(|fault| Part::Fault(life, fault)));
            parts.extend((0..l.damage.len()).map(|damage| Part::Damage(life, damage)));
        }
        parts
    }

    /// Without these, which are in the order of [`Plan::parts`].
    pub(crate) fn without(&self, gone: &[Part]) -> Plan {
        let mut plan = self.clone();
        let mut gone = gone.to_vec();
        // From the end, so that places stay what they are; a whole after its parts.
        gone.sort_by_key(|part| std::cmp::Reverse(part.key()));
        for part in gone {
            match part {
                Part::Act(l, t, a) => drop(plan.lives[l].threads[t].remove(a)),
                Part::Thread(l, t) => drop(plan.lives[l].threads.remove(t)),
                Part::Fault(l, f) => drop(plan.lives[l].faults.remove(f)),
                Part::Damage(l, d) => drop(plan.lives[l].damage.remove(d)),
                Part::Life(l) => drop(plan.lives.remove(l)),
            }
        }
        plan
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "disk {}, {:?}", self.seed, self.settings)?;
        for (n, life) in self.lives.iter().enumerate() {
            writeln!(f, "life {n}, slowness {}, ends with {:?}", life.slowness, life.end)?;
            let when = if life.faults_at_opening { "before opening" } else { "after opening" };
            life.faults.iter().try_for_each(|fault| writeln!(f, "  {when}: {fault:?}"))?;
            for (n, acts) in life.threads.iter().enumerate() {
                acts.iter().try_for_each(|act| writeln!(f, "  thread {n}: {act:?}"))?;
            }
            life.damage.iter().try_for_each(|damage| writeln!(f, "  afterwards: {damage:?}"))?;
        }
        Ok(())
    }
}

/// A part of a plan that can be left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Life(usize),
    Thread(usize, usize),
    Act(usize, usize, usize),
    Fault(usize, usize),
    Damage(usize, usize),
}

impl Part {
    fn key(self) -> (usize, usize, usize, usize) {
        match self {
            Part::Life(l) => (l, 0, 0, 0),
            Part::Thread(l, t) => (l, 1, t, 0),
            Part::Act(l, t, a) => (l, 1, t, a + 1),
            Part::Fault(l, f) => (l, 2, f, 0),
            Part::Damage(l, d) => (l, 3, d, 0),
        }
    }
}

impl Settings {
    fn random(rng: &mut fastrand::Rng) -> Self {
        Settings {
            archive: rng.bool(),
            archive_apart: rng.bool(),
            snapshots_max: rng.usize(1..5),
            chain_max: rng.usize(1..4),
            after_transactions: [0, 0, 3, 10][rng.usize(..4)],
            compression: [0, 0, 1][rng.usize(..3)],
            threads: 1 + rng.usize(..4) / 3,
            flush_ms: [1, 10, 1000][rng.usize(..3)],
            age_s: [0, 0, 1, 60][rng.usize(..4)],
        }
    }

    pub(crate) fn config(&self) -> PersistenceConfig {
        let mut config = PersistenceConfig::new(WORLD);
        config.wal.segment_bytes_first = ByteSize(64 << 10);
        config.wal.segment_bytes_max = ByteSize(64 << 10);
        config.wal.queue_bytes_max = ByteSize(64 << 10);
        config.wal.flush_interval = std::time::Duration::from_millis(self.flush_ms);
        config.wal.segment_age_max = std::time::Duration::from_secs(self.age_s);
        config.wal.compression_level = self.compression;
        config.snapshot.compression_level = self.compression;
        config.snapshot.threads = self.threads;
        config.snapshot.chain_max = self.chain_max;
        config.snapshot.after_transactions = self.after_transactions;
        config.archive.enabled = Some(self.archive);
        config.archive.compression_level = self.compression;
        config.retention.snapshots_max = self.snapshots_max;
        config.recovery.threads = self.threads;
        if self.archive && self.archive_apart {
            config.archive.dir = Some(ARCHIVE.into());
        }
        config
    }
}

impl Life {
    fn random(rng: &mut fastrand::Rng, faulty: bool, damaged: bool) -> Self {
        let mut threads: Vec<Vec<Act>> = (0..rng.usize(1..4))
            .map(|_| (0..rng.usize(1..10)).map(|_| Act::random_write(rng)).collect())
            .collect();
        threads.push((0..rng.usize(..6)).map(|_| Act::random_work(rng, faulty)).collect());
        let faults = if faulty { rng.usize(..3) } else { 0 };
        Life {
            threads,
            faults: (0..faults).map(|_| random_fault(rng)).collect(),
            faults_at_opening: rng.u8(..4) == 0,
            slowness: [0, 0, 0, 5][rng.usize(..4)],
            end: End::random(rng),
            damage: (0..if damaged && rng.bool() { rng.usize(1..3) } else { 0 })
                .map(|_| Damage::random(rng))
                .collect(),
        }
    }
}

impl Act {
    fn random_write(rng: &mut fastrand::Rng) -> Self {
        let changes = (0..rng.usize(1..6)).map(|_| Change::random(rng)).collect();
        match rng.u8(..20) {
            0..11 => {
                let durability = [Durability::Immediate, Durability::Batched, Durability::Buffered];
                Act::Write { durability: durability[rng.usize(..3)], changes, fails: rng.u8(..6) == 0 }
            }
            11..15 => Act::Submit(changes),
            15..17 => Act::WaitForTickets,
            17 => Act::DropTickets,
            18 => Act::Sync,
            _ => Act::Look,
        }
    }

    fn random_work(rng: &mut fastrand::Rng, faulty: bool) -> Self {
        let n = rng.u64(..1 << 32);
        match rng.u8(..34) {
            0..9 => Act::Snapshot,
            9 => Act::SnapshotCancelled,
            10 => Act::SnapshotPaused,
            11..14 => Act::Compact,
            14 => Act::Backup,
            15..18 => Act::Restore(n),
            18 => Act::RestoreTime(rng.i64(-5..5)),
            19..22 => Act::Copy(n),
            22..24 => Act::Rotate,
            24 => Act::PauseBackground,
            25 => Act::ResumeBackground,
            26..28 => Act::Configure(n),
            28..30 => Act::SetClock([-86_400 * 400, -3600, -1, 1, 3600, 86_400 * 400][rng.usize(..6)]),
            30..32 => Act::ArchiveAway(rng.bool()),
            _ if faulty => Act::Quota(rng.bool().then(|| rng.u64(..400_000))),
            _ => Act::Look,
        }
    }
}

impl End {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let crash = match rng.u8(..4) {
            0 => CrashVariant::KEPT,
            1 => CrashVariant::LOST,
            2 => CrashVariant::random(rng.u64(..), NameOrder::Journal),
            _ => CrashVariant::random(rng.u64(..), NameOrder::Any),
        };
        match rng.u8(..10) {
            0..2 => End::Close(rng.bool().then_some(crash)),
            2 => End::Drop(rng.bool().then_some(crash)),
            3..5 => End::PowerAtRest(crash),
            n => End::Power { after: rng.u64(..if n < 8 { 60 } else { 250 }), from_beginning: n == 9, crash },
        }
    }
}

impl Damage {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let (file, place) = (rng.u64(..), rng.u64(..));
        match rng.u8(..10) {
            0..5 => Damage::Flip(file, place),
            5 => Damage::Zeros(file, place),
            6 => Damage::Cut(file, place),
            7 => Damage::Missing(file),
            8 => Damage::Stale(file),
            _ => Damage::Misdirected(file, place),
        }
    }
}

fn random_fault(rng: &mut fastrand::Rng) -> Fault {
    let ops = [
        FileOp::Read,
        FileOp::Write,
        FileOp::Sync,
        FileOp::Sync,
        FileOp::SyncDir,
        FileOp::Create,
        FileOp::Rename,
        FileOp::Remove,
        FileOp::Open,
        FileOp::ReadDir,
        FileOp::SetLen,
    ];
    let endings = ["", "", ".seg", ".snap", ".manifest", ".zst", ".tmp"];
    let failures = [Failure::Io, Failure::Io, Failure::NoSpace, Failure::ShortWrite(rng.usize(..3000))];
    Fault::on(ops[rng.usize(..ops.len())])
        .of_names_ending(endings[rng.usize(..endings.len())])
        .skip(rng.u64(..12))
        .times([1, 1, 3][rng.usize(..3)])
        .failing(failures[rng.usize(..4)])
}
