//! `cargo xtask shuttle`: small checks of what threads do to one another (commits in groups, waiters, failure, views, closing, control of
//! jobs), each under many random schedules and under PCT ones, which change the thread at few points and find rare orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use ecsdb::{Abort, Bundle, Component, Database, Durability, ErrorKind, Lsn, Transaction};
use ecsdb_io::FileOp;
use ecsdb_io::sync::{block_on, thread};
use ecsdb_sim::{CrashVariant, Fault, SimDisk};
use shuttle::scheduler::PctScheduler;

use crate::machine::{Machine, WORLD};
use crate::run::under;
use crate::scheduler::Seeded;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For so long, about, all checks together.
    #[arg(long, default_value_t = 50)]
    seconds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only checks whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

type Check = fn() -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("a group of commits is durable for each that waited", group_commit),
    ("tickets, futures and syncs all end", waiters),
    ("a failed sync reaches everybody, and nobody is told of success after it", poison),
    ("a view is one commit, whatever goes on", views),
    ("closing while others commit loses nothing acknowledged", closing),
    ("whoever closes is told the same, once it is done", closing_together),
    ("dropping the last handles while others commit loses nothing acknowledged", dropping),
    ("a job is paused, resumed and cancelled at any moment", jobs),
    ("work in the background by itself goes on beside commits and ends with the database", background),
    ("a full queue lets everybody in again", backpressure),
];

/// Switches of a PCT schedule.
const DEPTH: usize = 3;
/// Schedules of each kind between two looks at the clock.
const ROUND: u64 = 20;

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let chosen: Vec<_> = CHECKS.iter().filter(|(name, _)| name.contains(&args.only)).collect();
    let each = Duration::from_secs(args.seconds) / chosen.len().max(1) as u32;
    let mut failures = 0;
    for (name, check) in chosen {
        let (began, mut schedules, mut failure) = (Instant::now(), 0, None);
        while began.elapsed() < each && failure.is_none() {
            for n in 0..ROUND {
                let seed = args.seed + schedules + n;
                // Half and half: a PCT execution is measured first, so it is two.
                let ran = match n % 2 {
                    0 => under(Seeded::new(seed), check),
                    _ => under(PctScheduler::new_from_seed(seed, DEPTH, 2), check),
                };
                if let Err(why) = ran {
                    failure = Some((seed, ["random", "PCT"][n as usize % 2], why));
                    break;
                }
            }
            schedules += ROUND;
        }
        let outcome = if failure.is_none() { "holds" } else { "FAILS" };
        println!("{outcome}: {name} ({schedules} schedules in {:.1} s)", began.elapsed().as_secs_f64());
        if let Some((seed, kind, why)) = failure {
            println!("  seed {seed}, {kind}: {why}");
            failures += 1;
        }
    }
    ensure!(failures == 0, "{failures} checks fail");
    Ok(())
}

#[derive(Component, Clone, Copy)]
#[component(name = "check.n", plain)]
#[repr(C)]
struct N(u64);

fn put(tx: &mut Transaction<'_>, bundle: impl Bundle) -> Result<(), Abort> {
    tx.spawn(bundle);
    Ok(())
}

fn disk() -> Result<SimDisk, String> {
    let disk = SimDisk::new(1);
    disk.put_dir("/data").map_err(|e| e.to_string())?;
    Ok(disk)
}

fn open(disk: &SimDisk) -> ecsdb::Result<Database> {
    let machine = Machine::new(disk.clone());
    Database::builder(WORLD)
        .vfs(machine.vfs())
        .config(|config| {
            config.wal.segment_bytes_first = ecsdb::ByteSize(64 << 10);
            config.wal.segment_bytes_max = ecsdb::ByteSize(64 << 10);
            config.wal.queue_bytes_max = ecsdb::ByteSize(64 << 10);
            config.snapshot.compression_level = 0;
            config.snapshot.threads = 1;
            config.snapshot.after_transactions = 0;
        })
        .open()
}

/// What is there after the power was gone.
fn after(disk: &SimDisk) -> Result<Database, String> {
    open(&disk.crash(CrashVariant::LOST)).map_err(|e| format!("does not open: {e}"))
}

fn count(db: &Database) -> Result<u64, String> {
    db.view().map(|view| view.len() as u64).map_err(text)
}

fn text(e: ecsdb::Error) -> String {
    e.to_string()
}

/// Runs `f` on `n` threads, and gives their errors.
fn on_threads(
    n: u64,
    db: &Database,
    f: impl Fn(u64, &Database) -> Result<(), String> + Send + Sync + 'static,
) -> Result<(), String> {
    let f = Arc::new(f);
    let threads: Vec<_> = (0..n)
        .map(|i| {
            let (f, db) = (f.clone(), db.clone());
            thread::spawn(move || f(i, &db))
        })
        .collect();
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
}

fn group_commit() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    on_threads(3, &db, |i, db| {
        for k in 0..2 {
            let ticket = db.submit(|tx| put(tx, N(i * 10 + k))).map_err(text)?;
            let lsn = ticket.lsn();
            ticket.wait().map_err(text)?;
            if db.durable_lsn() < lsn {
                return Err(format!("LSN {lsn} was waited for, and {} is durable", db.durable_lsn()));
            }
        }
        Ok(())
    })?;
    let there = count(&after(&disk)?)?;
    if there != 6 {
        return Err(format!("6 were acknowledged, {there} are there"));
    }
    db.close().map_err(text)
}

fn waiters() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    on_threads(4, &db, |i, db| match i {
        0 => {
            let ticket = db.submit(|tx| put(tx, N(0))).map_err(text)?;
            block_on(ticket).map_err(text)
        }
        1 => {
            // Polled or not, a dropped ticket cancels nothing.
            let ticket = db.submit(|tx| put(tx, N(1))).map_err(text)?;
            drop(ticket);
            db.sync().map(drop).map_err(text)
        }
        2 => db.write(|tx| put(tx, N(2))).map_err(text),
        _ => {
            db.write_with(Durability::Batched, |tx| put(tx, N(3))).map_err(text)?;
            block_on(db.sync_async()).map(drop).map_err(text)
        }
    })?;
    let there = count(&after(&disk)?)?;
    if there != 4 {
        return Err(format!("4 were acknowledged, {there} are there"));
    }
    db.close().map_err(text)
}

fn poison() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    disk.inject(Fault::on(FileOp::Sync).of_names_ending(".seg.tmp").skip(1));
    disk.inject(Fault::on(FileOp::Sync).of_names_ending(".seg").skip(1));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let by_threads = acknowledged.clone();
    on_threads(3, &db, move |i, db| {
        for k in 0..3 {
            let large = "x".repeat(if k == 1 { 40_000 } else { 1 });
            let written = db.submit(|tx| put(tx, (N(i), Text(large))));
            match written.and_then(|ticket| Ok((ticket.lsn(), ticket.wait()?))) {
                Ok((lsn, ())) => drop(by_threads.fetch_max(lsn.0, Ordering::Relaxed)),
                Err(e) if e.kind() == ErrorKind::Reopen => return Ok(()),
                Err(e) => return Err(format!("a failed log says: {e}")),
            }
        }
        Ok(())
    })?;
    let failed = disk.faults_fired() > 0;
    if failed && db.write(|tx| put(tx, N(9))).is_ok() && db.durable_lsn() < db.lsn() {
        return Err("acknowledged after a failed sync".into());
    }
    drop(db);
    disk.clear_faults();
    let back = after(&disk)?.lsn();
    let acknowledged = Lsn(acknowledged.load(Ordering::Relaxed));
    if back < acknowledged {
        Err(format!("{acknowledged} was acknowledged, {back} is there"))
    } else {
        Ok(())
    }
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "check.text", archived)]
struct Text(String);

fn views() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    on_threads(3, &db, |i, db| {
        for _ in 0..3 {
            if i == 0 {
                // Two at each commit, and the number of the commit as a resource.
                let view = db.view().map_err(text)?;
                let commits = view.resource::<N>().map_or(0, |n| n.0);
                if view.len() as u64 != 2 * commits || view.lsn() != Lsn(commits) {
                    return Err(format!(
                        "{} entities after {commits} commits at LSN {}",
                        view.len(),
                        view.lsn()
                    ));
                }
            } else {
                let written = db.write_with(Durability::Buffered, |tx| {
                    tx.spawn(N(i));
                    let before = tx.resource::<N>().map_or(0, |n| n.0);
                    tx.insert_resource(N(before + 1));
                    tx.spawn(N(i));
                    Ok(())
                });
                written.map_err(text)?;
            }
        }
        Ok(())
    })?;
    db.close().map_err(text)
}

/// What several threads were told while one ends the database.
fn ended(end: fn(Database) -> Result<(), String>) -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let (of_writers, of_main) = (acknowledged.clone(), db.clone());
    let writers: Vec<_> = (0..2)
        .map(|i| {
            let (db, acknowledged) = (db.clone(), of_writers.clone());
            thread::spawn(move || {
                for _ in 0..3 {
                    match db.write(|tx| put(tx, N(i))) {
                        Ok(()) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                        Err(e) if e.kind() == ErrorKind::Closed => return Ok(()),
                        Err(e) => return Err(e.to_string()),
                    }
                }
                Ok(())
            })
        })
        .collect();
    drop(db);
    end(of_main)?;
    for writer in writers {
        writer.join().map_err(|_| "a thread panicked")??;
    }
    let (there, acknowledged) = (count(&after(&disk)?)?, acknowledged.load(Ordering::Relaxed));
    if there < acknowledged {
        Err(format!("{acknowledged} were acknowledged, {there} are there"))
    } else {
        Ok(())
    }
}

fn closing() -> Result<(), String> {
    ended(|db| {
        db.close().map_err(text)?;
        match db.write(|tx| put(tx, N(0))) {
            Err(e) if e.kind() == ErrorKind::Closed => Ok(()),
            other => Err(format!("after closing: {other:?}")),
        }
    })
}

/// Two close at once, of a log that fails or does not.
fn closing_together() -> Result<(), String> {
    let told = |fails: bool| {
        let disk = disk()?;
        let db = open(&disk).map_err(text)?;
        db.write_with(Durability::Buffered, |tx| put(tx, N(0))).map_err(text)?;
        if fails {
            disk.inject(Fault::on(FileOp::Sync).of_names_containing(".seg").times(u64::MAX));
        }
        let (failed, of_disk) = (Arc::new(AtomicU64::new(0)), disk.clone());
        let by_threads = failed.clone();
        on_threads(2, &db, move |_, db| {
            if db.close().is_err() {
                by_threads.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            // It is done: the directory is free, and everything is durable.
            let there = count(&after(&of_disk)?)?;
            if there == 1 { Ok(()) } else { Err(format!("closed, and {there} of 1 are there")) }
        })?;
        disk.clear_faults();
        open(&disk).map_err(|e| format!("closed twice, and not free: {e}"))?.close().map_err(text)?;
        Ok::<_, String>(failed.load(Ordering::Relaxed))
    };
    match (told(false)?, told(true)?) {
        (0, 2) => Ok(()),
        other => Err(format!(
            "of two that closed, so many were told of a failure, without and with one: {other:?}"
        )),
    }
}

fn dropping() -> Result<(), String> {
    ended(|db| {
        drop(db);
        Ok(())
    })
}

fn jobs() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    db.write(|tx| put(tx, N(0))).map_err(text)?;
    on_threads(2, &db, |i, db| {
        let job = db.snapshot().map_err(text)?;
        job.pause();
        db.write_with(Durability::Batched, |tx| put(tx, N(i))).map_err(text)?;
        job.resume();
        if i == 0 {
            job.cancel();
        }
        match job.wait() {
            Ok(_) => Ok(()),
            Err(e) if e.is_cancelled() && i == 0 => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    })?;
    db.close().map_err(text)?;
    let there = count(&after(&disk)?)?;
    if there == 3 { Ok(()) } else { Err(format!("3 were there at the close, and {there} are")) }
}

fn background() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    db.reconfigure_with(|config| config.snapshot.after_transactions = 2).map(drop).map_err(text)?;
    on_threads(2, &db, |i, db| {
        if i == 0 {
            db.pause_background();
        }
        for _ in 0..3 {
            db.write_with(Durability::Batched, |tx| put(tx, N(i))).map_err(text)?;
        }
        db.resume_background();
        Ok(())
    })?;
    db.close().map_err(text)?;
    let there = count(&after(&disk)?)?;
    if there == 6 { Ok(()) } else { Err(format!("6 were there at the close, and {there} are")) }
}

fn backpressure() -> Result<(), String> {
    let disk = disk()?;
    let db = open(&disk).map_err(text)?;
    on_threads(3, &db, |i, db| {
        for _ in 0..3 {
            let text_of = Text("y".repeat(40_000));
            db.write_with(Durability::Buffered, |tx| put(tx, (N(i), text_of))).map_err(text)?;
        }
        Ok(())
    })?;
    db.close().map_err(text)?;
    let there = count(&after(&disk)?)?;
    if there == 9 { Ok(()) } else { Err(format!("9 were there at the close, and {there} are")) }
}
