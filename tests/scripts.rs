//! Scripts: the transitions that a database goes through, on a simulated disk, the same in every run.

use ecsdb::prelude::*;
use ecsdb::{Digest, Lsn, Moment, PersistenceConfig};
use ecsdb_sim::{Journal, SimDisk};

use crate::components::{Counter, Name, Position, Progress};
use crate::crashed::{Event, commit, open_with};

/// Chains of snapshots, and an archive.
pub fn archiving(config: &mut PersistenceConfig) {
    config.snapshot.chain_max = 3;
    config.archive.enabled = Some(true);
    config.archive.compression_level = 1;
    config.retention.snapshots_max = 3;
}

/// The same, with more of the past kept, so that there is something in the archive.
pub fn keeping(config: &mut PersistenceConfig) {
    archiving(config);
    config.snapshot.chain_max = 2;
    config.retention.snapshots_max = 5;
}

/// Commits of all kinds, alone and in groups, two snapshots, a rotation, a second life.
pub fn commits(disk: &SimDisk, journal: &Journal<Event>) -> ecsdb::Result<()> {
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    let db = open_with(disk, |_| {})?;
    let mut ids = Vec::new();
    journal.note(Event::Begin("commit"));
    commit(&db, journal, true, |tx| {
        tx.insert_resource(Progress(0));
        ids = tx.spawn_batch((0..20).map(|i| (Position { x: i as f32, y: 0.0 }, Name(format!("n{i}")))));
        Ok(())
    })?;
    journal.note(Event::Begin("group commit"));
    for i in 0..4u64 {
        // Several in one group, some of them larger than a page.
        commit(&db, journal, false, |tx| Ok(tx.get_mut::<Position>(ids[i as usize])?.y += 1.0))?;
        commit(&db, journal, i % 2 == 0, |tx| {
            Ok(tx.insert(ids[i as usize + 4], (Counter(i), Name("x".repeat(3_000))))?)
        })?;
        let failed: ecsdb::Result<()> = db.write(|tx| {
            tx.spawn(Counter(99));
            Err(Abort::new("meant"))
        });
        if !matches!(failed, Err(ecsdb::Error::Aborted(_))) {
            failed?;
        }
        commit(&db, journal, true, |tx| {
            tx.query::<&mut Position>().for_each(|p| p.x += 0.5);
            tx.resource_mut::<Progress>()?.0 += 1;
            Ok(())
        })?;
    }
    journal.note(Event::Begin("full snapshot"));
    db.snapshot()?.wait()?;
    journal.note(Event::Begin("commit"));
    commit(&db, journal, true, |tx| Ok(tx.despawn(ids[0])?))?;
    journal.note(Event::Begin("rotation"));
    // Fills the segment, so that the log rotates.
    for i in 0..3 {
        commit(&db, journal, true, |tx| Ok(tx.insert(ids[5 + i], Name("y".repeat(30_000)))?))?;
    }
    journal.note(Event::Begin("incremental snapshot"));
    db.snapshot()?.wait()?;
    journal.note(Event::Begin("commit"));
    commit(&db, journal, true, |tx| {
        tx.spawn((Counter(5), Name("last".into())));
        Ok(())
    })?;
    journal.note(Event::Begin("close"));
    db.close()?;
    journal.note(Event::Begin("opening"));
    // A second life: recovery's own writes are crashed, too.
    let db = open_with(disk, |_| {})?;
    journal.note(Event::Begin("commit"));
    commit(&db, journal, true, |tx| Ok(tx.remove::<Name>(ids[6]).map(drop)?))?;
    commit(&db, journal, false, |tx| {
        tx.spawn(Counter(6));
        Ok(())
    })?;
    journal.note(Event::Begin("close"));
    db.close()
}

/// A little more than a third of a segment.
fn fill(db: &Database, journal: &Journal<Event>, wait: bool) -> ecsdb::Result<()> {
    commit(db, journal, wait, |tx| {
        let entity = tx.spawn((Counter(1), Name("z".repeat(24_000))));
        tx.query::<&mut Position>().take(1).for_each(|p| p.x += 1.0);
        tx.get_mut::<Counter>(entity)?.0 += 1;
        Ok(())
    })
}

/// Snapshots in chains, archiving, truncation, a merge, going back; in segments that fill up.
pub fn lifecycle(disk: &SimDisk, journal: &Journal<Event>) -> ecsdb::Result<()> {
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    let db = open_with(disk, archiving)?;
    commit(&db, journal, true, |tx| {
        tx.spawn_batch((0..100).map(|i| (Position { x: i as f32, y: 0.0 }, Counter(i))));
        Ok(())
    })?;
    for round in 0..6 {
        journal.note(Event::Begin("rotation"));
        fill(&db, journal, round % 2 == 0)?;
        fill(&db, journal, true)?;
        journal.note(Event::Begin(if round % 3 == 0 { "full snapshot" } else { "incremental snapshot" }));
        db.snapshot()?.wait()?;
    }
    let back = db.lsn();
    let then = db.view()?.digest()?;
    journal.note(Event::Begin("commit"));
    commit(&db, journal, true, |tx| {
        let gone: Vec<Entity> = tx.query::<(Entity, &Position)>().map(|(e, _)| e).skip(3).collect();
        Ok(gone.into_iter().try_for_each(|entity| tx.despawn(entity))?)
    })?;
    journal.note(Event::Begin("compaction"));
    db.compact()?.wait()?;
    fill(&db, journal, true)?;
    go_back(&db, journal, back, then)?;
    fill(&db, journal, true)?;
    journal.note(Event::Begin("incremental snapshot"));
    db.snapshot()?.wait()?;
    journal.note(Event::Begin("close"));
    db.close()?;
    journal.note(Event::Begin("opening"));
    let db = open_with(disk, archiving)?;
    journal.note(Event::Begin("rotation"));
    fill(&db, journal, true)?;
    journal.note(Event::Begin("incremental snapshot"));
    db.snapshot()?.wait()?;
    journal.note(Event::Begin("commit"));
    fill(&db, journal, false)?;
    journal.note(Event::Begin("close"));
    db.close()
}

fn go_back(db: &Database, journal: &Journal<Event>, to: Lsn, then: Digest) -> ecsdb::Result<()> {
    journal.note(Event::Begin("restore"));
    // Noted ahead: the job appends and waits in one go.
    journal.note(Event::Committed(db.lsn().next(), then));
    let lsn = db.restore(Moment::Lsn(to))?.wait()?;
    Ok(journal.note(Event::Durable(lsn)))
}

/// The first transaction of the tour.
pub fn first(db: &Database, journal: &Journal<Event>) -> ecsdb::Result<()> {
    commit(db, journal, true, |tx| {
        tx.insert_resource(Progress(0));
        tx.spawn_batch((0..4).map(|i| (Position { x: i as f32, y: 0.0 }, Counter(i))));
        Ok(())
    })
}

/// One small transaction more.
pub fn step(db: &Database, journal: &Journal<Event>, wait: bool) -> ecsdb::Result<()> {
    commit(db, journal, wait, |tx| {
        tx.resource_mut::<Progress>()?.0 += 1;
        let number = tx.resource::<Progress>()?.0;
        let entity = tx.spawn((Counter(number), Name(format!("name {number}"))));
        if number % 3 == 0 {
            tx.insert(entity, Position { x: 1.0, y: number as f32 })?;
        }
        tx.query::<&mut Position>().take(2).for_each(|p| p.x += 1.0);
        Ok(())
    })
}

/// The whole life of a small world: what [`commits`] and [`lifecycle`] do, in a few kilobytes, so that it can be crashed and damaged
/// millions of times. It ends with a full snapshot and increments of it, archived segments, several segments of log, and several
/// manifests.
pub fn tour(
    disk: &SimDisk,
    journal: &Journal<Event>,
    settings: fn(&mut PersistenceConfig),
) -> ecsdb::Result<Database> {
    let begin = |what| journal.note(Event::Begin(what));
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    begin("opening");
    let db = open_with(disk, settings)?;
    begin("commit");
    first(&db, journal)?;
    step(&db, journal, true)?;
    begin("group commit");
    for i in 0..4 {
        step(&db, journal, i == 3)?;
    }
    let (back, then) = (db.lsn(), db.view()?.digest()?);
    begin("rotation");
    db.rotate_log()?;
    step(&db, journal, true)?;
    begin("full snapshot");
    db.snapshot()?.wait()?;
    begin("rotation");
    step(&db, journal, true)?;
    db.rotate_log()?;
    step(&db, journal, true)?;
    begin("incremental snapshot");
    db.snapshot()?.wait()?;
    go_back(&db, journal, back, then)?;
    begin("compaction");
    commit(&db, journal, true, |tx| {
        let gone: Option<Entity> = tx.query::<(Entity, &Position)>().map(|(e, _)| e).next();
        Ok(gone.into_iter().try_for_each(|entity| tx.despawn(entity))?)
    })?;
    db.compact()?.wait()?;
    begin("close");
    db.close()?;
    begin("opening");
    let db = open_with(disk, settings)?;
    for round in 0..4 {
        begin("rotation");
        step(&db, journal, true)?;
        db.rotate_log()?;
        step(&db, journal, true)?;
        begin(if round % 2 == 0 { "incremental snapshot" } else { "full snapshot" });
        db.snapshot()?.wait()?;
    }
    begin("group commit");
    step(&db, journal, true)?;
    step(&db, journal, false)?;
    step(&db, journal, true)?;
    db.rotate_log()?;
    begin("commit");
    step(&db, journal, true)?;
    step(&db, journal, true)?;
    Ok(db)
}

/// Copies of the running world and of a moment of its past, in directories of their own.
pub fn copies(disk: &SimDisk, journal: &Journal<Event>) -> ecsdb::Result<()> {
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    let db = open_with(disk, archiving)?;
    first(&db, journal)?;
    step(&db, journal, true)?;
    let (past, then) = (db.lsn(), db.view()?.digest()?);
    step(&db, journal, true)?;
    journal.note(Event::Begin("backup"));
    db.backup_to(BACKUP)?.wait()?;
    journal.note(Event::Copied(BACKUP, db.view()?.digest()?));
    step(&db, journal, true)?;
    journal.note(Event::Begin("restore into a directory"));
    db.restore_to(PAST, Moment::Lsn(past))?.wait()?;
    journal.note(Event::Copied(PAST, then));
    db.close()
}

/// Where [`copies`] makes them.
pub const BACKUP: &str = "/data/backup";
pub const PAST: &str = "/data/past";

/// A life of random steps.
pub fn life(disk: &SimDisk, journal: &Journal<Event>, seed: u64) -> ecsdb::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let begin = |what| journal.note(Event::Begin(what));
    disk.put_dir("/data").map_err(ecsdb::RecoveryError::from)?;
    begin("opening");
    let mut db = open_with(disk, keeping)?;
    let mut history = Vec::new();
    begin("commit");
    first(&db, journal)?;
    for _ in 0..24 {
        history.push((db.lsn(), db.view()?.digest()?));
        match random.u8(..14) {
            0..4 => {
                begin("commit");
                step(&db, journal, true)?;
            }
            4..7 => {
                begin("group commit");
                for _ in 0..3 {
                    // Some of many sectors, of which a power cut keeps any.
                    let long = random.usize(..3) * random.usize(..6_000);
                    commit(&db, journal, false, |tx| {
                        tx.spawn(Name("x".repeat(long)));
                        Ok(())
                    })?;
                }
                step(&db, journal, true)?;
            }
            7 => {
                begin("rotation");
                db.rotate_log()?;
                step(&db, journal, true)?;
            }
            8..11 => {
                begin("snapshot");
                db.snapshot()?.wait()?;
            }
            11 => {
                begin("compaction");
                db.compact()?.wait()?;
            }
            12 => {
                let (to, then) = history[random.usize(..history.len())];
                // What is not retained any more is refused.
                if to < db.lsn() && go_back(&db, journal, to, then).is_err() {
                    begin("commit");
                    step(&db, journal, true)?;
                }
            }
            _ => {
                begin("close");
                db.close()?;
                begin("opening");
                db = open_with(disk, keeping)?;
            }
        }
    }
    begin("close");
    db.close()
}
