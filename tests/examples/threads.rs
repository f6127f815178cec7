//! Attacker of threads: `threads MODE ARGS`.
#![allow(missing_docs, clippy::all, clippy::pedantic, unsafe_code, clippy::disallowed_methods)]
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;
use ecsdb::{ByteSize, Error, Job, Moment, PersistenceConfig};
use ecsdb_tests::components::{Counter, Name};

fn tiny(c: &mut PersistenceConfig) {
    c.wal.segment_bytes_first = ByteSize(64 << 10);
    c.wal.segment_bytes_max = ByteSize(64 << 10);
}

fn watchdog(what: impl Fn() -> String + Send + 'static, secs: u64) -> Arc<AtomicU64> {
    let beat = Arc::new(AtomicU64::new(0));
    let b = beat.clone();
    std::thread::spawn(move || {
        let mut last = 0;
        let mut since = Instant::now();
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = b.load(Ordering::Relaxed);
            if now == u64::MAX { return; }
            if now != last { last = now; since = Instant::now(); }
            if since.elapsed() > Duration::from_secs(secs) {
                eprintln!("HANG {} pid {}", what(), std::process::id());
                if std::env::var("STAY").is_ok() { loop { std::thread::sleep(Duration::from_secs(100)); } }
                std::process::exit(99);
            }
        }
    });
    beat
}

struct WakeFn(Mutex<Option<Box<dyn FnOnce() + Send>>>);
impl Wake for WakeFn {
    fn wake(self: Arc<Self>) {
        let f = self.0.lock().unwrap().take();
        if let Some(f) = f { f() }
    }
}
fn waker(f: impl FnOnce() + Send + 'static) -> Waker { Arc::new(WakeFn(Mutex::new(Some(Box::new(f))))).into() }

fn writer(dir: &Path, secs: f64, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let db = Database::builder(dir).config(tiny).config(|c| {
        c.archive.enabled = Some(true);
        c.retention.bytes_max = ByteSize(if seed % 2 == 0 { 600 << 10 } else { 8 << 20 });
        c.snapshot.after_transactions = 200;
        c.snapshot.chain_max = 3;
        c.compaction.dead_fraction_max = 0.3;
        c.wal.segment_age_max = Duration::from_millis(300);
    }).open().unwrap();
    let (n, v) = { let v = db.view().unwrap(); let all: Vec<u64> = v.query::<&Counter>().unwrap().map(|c| c.0).collect(); (all.len(), all.first().copied().unwrap_or(0)) };
    {
        let v2 = db.view().unwrap();
        assert!(v2.query::<&Counter>().unwrap().all(|c| c.0 == v), "INVARIANT at opening");
    }
    if n == 0 { db.write(|tx| { tx.spawn_batch((0..200).map(|_| (Counter(0),))); Ok(()) }).unwrap(); }
    let mut v = v;
    let began = Instant::now();
    let mut ops = [0u64; 8];
    println!("begin {}", db.lsn().0);
    let mut slowest = Duration::ZERO;
    while began.elapsed().as_secs_f64() < secs {
        v += 1;
        let t = Instant::now();
        let d = match rng.u8(0..4) { 0 => Durability::Immediate, 1 => Durability::Batched, _ => Durability::Buffered };
        let big = rng.u8(0..40) == 0;
        let x = rng.usize(100..60_000);
        db.write_with(d, |tx| {
            for c in tx.query::<&mut Counter>() { c.0 = v; }
            if big { let e = tx.spawn((Name("x".repeat(x)),)); let _ = e; }
            if v % 500 == 0 {
                let names: Vec<_> = tx.query::<(Entity, &Name)>().map(|(e, _)| e).collect();
                for e in names { tx.despawn(e)?; }
            }
            Ok(())
        }).unwrap();
        slowest = slowest.max(t.elapsed());
        match rng.u32(0..300) {
            0 => { ops[0] += 1; db.rotate_log().unwrap(); }
            1 => { ops[1] += 1; drop(db.compact()); }
            2 => { ops[2] += 1; drop(db.snapshot()); }
            3 => { ops[3] += 1; let m = db.stats().unwrap().earliest; if let Some((l, _)) = m { match db.view_at(Moment::Lsn(l)).unwrap().wait() { Ok(v) => { let first = v.query::<&Counter>().unwrap().next().map(|c| c.0); assert!(v.query::<&Counter>().unwrap().all(|c| Some(c.0) == first), "INVARIANT in view_at"); } Err(e) => println!("view_at {l:?}: {e}") } } }
            4 => { ops[4] += 1; let to = dir.with_extension("backup"); let _ = std::fs::remove_dir_all(&to); db.backup_to(&to).unwrap().wait().unwrap(); }
            5 => { ops[5] += 1; let f = db.verify(|_| {}).unwrap().faults; if !f.is_empty() { println!("FAULTS {f:?}"); } }
            6 => { ops[6] += 1; let l = db.lsn(); match db.restore(Moment::Lsn(Lsn(l.0 - l.0.min(5)))).unwrap().wait() { Ok(_) => { v = db.view().unwrap().query::<&Counter>().unwrap().next().map_or(0, |c| c.0); } Err(e) => println!("restore: {e}") } }
            _ => {}
        }
        if rng.u8(0..20) == 0 { std::thread::sleep(Duration::from_millis(rng.u64(0..20))); }
    }
    let st = db.stats().unwrap();
    for f in &st.store.as_ref().unwrap().failures { println!("FAILURE {f:?}"); }
    println!("end {} ops {ops:?} slowest {slowest:?} v {v}", db.lsn().0);
    db.close().unwrap();
}

/// Random jobs from many threads, then closing.
fn stress(secs: f64, seed: u64) {
    let began = Instant::now();
    let mut lives = 0u64;
    let stage: Arc<Mutex<String>> = Arc::default();
    let s2 = stage.clone();
    let beat = watchdog(move || s2.lock().unwrap().clone(), 30);
    let mut worst_close = Duration::ZERO;
    let mut worst_cancel = Duration::ZERO;
    let mut counts = [0u64; 16];
    while began.elapsed().as_secs_f64() < secs {
        let seed = seed.wrapping_mul(1_000_003) + lives;
        lives += 1;
        let mut rng = fastrand::Rng::with_seed(seed);
        *stage.lock().unwrap() = format!("life {seed} open");
        let tmp = tempfile::tempdir_in("/dev/shm").unwrap();
        let world = tmp.path().join("w");
        let rates = [0u64, 1, 1000, 100_000, 50_000_000];
        let rate = rates[rng.usize(0..rates.len())];
        let auto = rng.bool();
        let db = Database::builder(&world).config(tiny).config(|c| {
            if auto { c.snapshot.after_transactions = rng.u64(1..50); c.compaction.dead_fraction_max = 0.1; } else { c.manual() }
            c.snapshot.bytes_per_second_max = ByteSize(rate);
            c.archive.enabled = Some(rng.bool());
            c.snapshot.chain_max = rng.usize(1..4);
            if rng.bool() { c.retention.snapshots_max = rng.usize(1..4); }
        }).open().unwrap();
        let n = [10u64, 1000, 100_000][rng.usize(0..3)];
        db.write(|tx| { tx.spawn_batch((0..n).map(|i| (Counter(i.wrapping_mul(0x9E3779B97F4A7C15)),))); Ok(()) }).unwrap();
        *stage.lock().unwrap() = format!("life {seed} rate {rate} auto {auto} n {n} running");
        let stop = Arc::new(AtomicBool::new(false));
        let cancel_max = Arc::new(Mutex::new(Duration::ZERO));
        let cnt = Arc::new(Mutex::new([0u64; 16]));
        let mut threads = Vec::new();
        for t in 0..rng.usize(2..6) {
            let (db, stop, cm, cnt, tmp) = (db.clone(), stop.clone(), cancel_max.clone(), cnt.clone(), tmp.path().to_path_buf());
            let mut rng = fastrand::Rng::with_seed(seed ^ (t as u64 + 1) << 32);
            threads.push(std::thread::spawn(move || {
                let mut held: Vec<Box<dyn std::any::Any + Send>> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let r = one(&db, &mut rng, &tmp, t, &cm, &cnt, &mut held);
                    if let Err(e) = r {
                        if matches!(e, Error::Closed) { break; }
                        let s = e.to_string();
                        if !(e.is_cancelled() || s.contains("not among what is retained") || s.contains("not empty") || s.contains("closed")) { println!("life {seed} error {s}"); }
                    }
                    if held.len() > 6 { held.remove(0); }
                }
                if rng.bool() { std::mem::forget(held) }
            }));
        }
        std::thread::sleep(Duration::from_millis(rng.u64(1..250)));
        *stage.lock().unwrap() = format!("life {seed} rate {rate} auto {auto} n {n} closing");
        let t = Instant::now();
        match rng.u8(0..3) {
            0 => { if let Err(e) = db.close() { println!("life {seed} close: {e}"); } }
            1 => { let closers: Vec<_> = (0..3).map(|_| { let db = db.clone(); std::thread::spawn(move || if let Err(e) = db.close() { println!("life {seed} close: {e}"); }) }).collect(); for c in closers { c.join().unwrap(); } }
            _ => { if let Err(e) = pollster::block_on(db.close_async()) { println!("life {seed} close: {e}"); } }
        }
        worst_close = worst_close.max(t.elapsed());
        if t.elapsed() > Duration::from_secs(3) { println!("life {seed} rate {rate} auto {auto} n {n}: close took {:?}", t.elapsed()); }
        stop.store(true, Ordering::Relaxed);
        *stage.lock().unwrap() = format!("life {seed} rate {rate} auto {auto} n {n} joining");
        for t in threads { if t.join().is_err() { println!("life {seed} PANIC"); } }
        drop(db);
        *stage.lock().unwrap() = format!("life {seed} reopening");
        let again = Database::builder(&world).config(tiny).open().unwrap();
        let f = again.verify(|_| {}).unwrap().faults;
        if !f.is_empty() { println!("life {seed} FAULTS {f:?}"); }
        drop(again);
        let c = *cancel_max.lock().unwrap();
        if c > Duration::from_secs(2) { println!("life {seed} rate {rate} auto {auto} n {n}: a cancelled job took {c:?}"); }
        worst_cancel = worst_cancel.max(c);
        for (a, b) in counts.iter_mut().zip(*cnt.lock().unwrap()) { *a += b; }
        beat.fetch_add(1, Ordering::Relaxed);
    }
    beat.store(u64::MAX, Ordering::Relaxed);
    println!("stress: {lives} lives, worst close {worst_close:?}, worst cancel {worst_cancel:?}, counts {counts:?}");
}

fn with_job<T: Send + 'static>(job: Job<T>, rng: &mut fastrand::Rng, cm: &Mutex<Duration>, held: &mut Vec<Box<dyn std::any::Any + Send>>, db: &Database, cnt: &Mutex<[u64; 16]>) -> Result<(), Error> {
    let a = rng.usize(0..9);
    cnt.lock().unwrap()[a] += 1;
    if rng.bool() { std::thread::sleep(Duration::from_micros(rng.u64(0..3000))); }
    match a {
        0 => drop(job),
        1 => { job.pause(); drop(job) }
        2 => { job.pause(); held.push(Box::new(job)); }
        3 | 4 => {
            if a == 4 { job.pause(); std::thread::sleep(Duration::from_micros(rng.u64(0..3000))); }
            let t = Instant::now();
            job.cancel();
            let r = job.wait();
            let e = t.elapsed();
            let mut m = cm.lock().unwrap();
            if e > *m { *m = e; }
            if let Err(e) = r { if !e.is_cancelled() { return Err(e); } }
        }
        5 => {
            // waits, while another thread cancels? through polling with a waker that starts another job
            let mut job = job;
            let db2 = db.clone();
            let w = waker(move || { drop(db2.snapshot()); drop(db2); });
            match Pin::new(&mut job).poll(&mut Context::from_waker(&w)) { Poll::Ready(r) => { r?; } Poll::Pending => { if rng.bool() { job.pause(); } held.push(Box::new(job)); } }
        }
        6 => {
            let mut job = job;
            let w = waker(|| panic!("meant"));
            drop(Pin::new(&mut job).poll(&mut Context::from_waker(&w)));
            job.resume();
            held.push(Box::new(job));
        }
        7 => {
            // a wait that another ends: rate lifted for a moment
            let _ = ecsdb_tests::reconfigure(db, |c| c.snapshot.bytes_per_second_max = ByteSize(0));
            held.clear();
            let t = Instant::now();
            // others may hold paused ones: wait bounded by polling
            let mut job = job;
            while t.elapsed() < Duration::from_millis(300) {
                match Pin::new(&mut job).poll(&mut Context::from_waker(Waker::noop())) { Poll::Ready(r) => { r?; return Ok(()); } Poll::Pending => std::thread::sleep(Duration::from_millis(1)) }
            }
            job.cancel();
            let t = Instant::now();
            let r = job.wait();
            let e = t.elapsed();
            let mut m = cm.lock().unwrap();
            if e > *m { *m = e; }
            if let Err(e) = r { if !e.is_cancelled() { return Err(e); } }
        }
        _ => { job.pause(); job.resume(); job.pause(); drop(job.progress()); held.push(Box::new(job)); }
    }
    Ok(())
}

fn one(db: &Database, rng: &mut fastrand::Rng, tmp: &Path, t: usize, cm: &Mutex<Duration>, cnt: &Mutex<[u64; 16]>, held: &mut Vec<Box<dyn std::any::Any + Send>>) -> Result<(), Error> {
    let began = Instant::now();
    let what = rng.u8(0..14);
    match what {
        0 | 1 => with_job(db.snapshot()?, rng, cm, held, db, cnt)?,
        2 => with_job(db.compact()?, rng, cm, held, db, cnt)?,
        3 => { let to = tmp.join(format!("b{t}-{}", rng.u32(..))); with_job(db.backup_to(to)?, rng, cm, held, db, cnt)? }
        4 => with_job(db.view_at(Moment::Latest)?, rng, cm, held, db, cnt)?,
        5 => with_job(db.restore(Moment::Lsn(Lsn(db.lsn().0.saturating_sub(2))))?, rng, cm, held, db, cnt)?,
        6 => { let to = tmp.join(format!("r{t}-{}", rng.u32(..))); with_job(db.restore_to(to, Moment::Latest)?, rng, cm, held, db, cnt)? }
        7 | 8 => { for i in 0..rng.u64(1..20) { let x = rng.usize(1..3000); db.write_with(if i % 2 == 0 { Durability::Batched } else { Durability::Immediate }, |tx| Ok(tx.spawn((Counter(i), Name("y".repeat(x))))))?; } }
        9 => { db.rotate_log()?; db.stats()?; }
        10 => { let r = [0u64, 1, 10_000, 10_000_000][rng.usize(0..4)]; let th = rng.usize(0..4); let ch = rng.usize(1..4); let at = rng.u64(0..20); ecsdb_tests::reconfigure(db, |c| { c.snapshot.bytes_per_second_max = ByteSize(r); c.snapshot.threads = th; c.snapshot.chain_max = ch; c.snapshot.after_transactions = at; })?; }
        11 => { db.pause_background(); if rng.bool() { db.resume_background(); } }
        12 => { let mut ev = db.events(); let db2 = db.clone(); let w = waker(move || { if std::env::var("CAREFUL").is_err() { let _ = db2.stats(); } let _ = db2.close(); let _ = db2.lsn(); if db2.lsn().0 % 3 == 0 { panic!("meant") } });
            if rng.u8(0..8) != 0 { drop(db.stats()?); } else { let mut f = Box::pin(ev.next()); drop(f.as_mut().poll(&mut Context::from_waker(&w))); drop(f); held.push(Box::new(ev)); } }
        _ => { pollster::block_on(db.write_async(|tx| Ok(tx.spawn(Counter(7)))))?; }
    }
    let e = began.elapsed();
    if e > Duration::from_secs(3) { println!("  op {what} took {e:?}"); }
    Ok(())
}

/// Who waits for a turn beside work that never ends.
fn starve(secs: f64) {
    for busy in ["auto", "jobs"] {
        let tmp = tempfile::tempdir_in("/dev/shm").unwrap();
        let db = Database::builder(tmp.path()).config(tiny).config(|c| { c.manual(); if busy == "auto" { c.snapshot.after_transactions = 1; } }).open().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        db.write(|tx| { tx.spawn_batch((0..1000u64).map(|i| (Counter(i),))); Ok(()) }).unwrap();
        let mut ts = Vec::new();
        { let (db, stop) = (db.clone(), stop.clone()); ts.push(std::thread::spawn(move || while !stop.load(Ordering::Relaxed) { db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(Counter(1)))).unwrap(); std::thread::sleep(Duration::from_micros(100)); })); }
        let done = Arc::new(AtomicU64::new(0));
        if busy == "jobs" { for _ in 0..3 { let (db, stop, done) = (db.clone(), stop.clone(), done.clone()); ts.push(std::thread::spawn(move || while !stop.load(Ordering::Relaxed) { db.snapshot().unwrap().wait().unwrap(); done.fetch_add(1, Ordering::Relaxed); })); } }
        let began = Instant::now();
        let (mut n, mut worst, mut sum) = (0u32, Duration::ZERO, Duration::ZERO);
        while began.elapsed().as_secs_f64() < secs {
            let t = Instant::now();
            db.snapshot().unwrap().wait().unwrap();
            worst = worst.max(t.elapsed()); sum += t.elapsed(); n += 1;
        }
        stop.store(true, Ordering::Relaxed);
        for t in ts { t.join().unwrap(); }
        println!("starve {busy}: {n} waits, mean {:?}, worst {worst:?}; others {}, snapshots {}", sum / n, done.load(Ordering::Relaxed), db.snapshots().unwrap().last().unwrap().sequence);
        db.close().unwrap();
    }
}

#[repr(C)]
struct RLimit { soft: u64, hard: u64 }
unsafe extern "C" {
    fn setrlimit(resource: i32, limit: *const RLimit) -> i32;
}
const NPROC: i32 = 6;
const NOFILE: i32 = 7;
fn limit(resource: i32, soft: u64) { let r = RLimit { soft, hard: 4096 }; assert_eq!(unsafe { setrlimit(resource, &r) }, 0); }
fn threads_now() -> u64 { std::fs::read_dir("/proc/self/task").unwrap().count() as u64 }
fn files_now() -> u64 { std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 }

/// Everything that starts a thread or opens a file, with so many more threads or files allowed as `more`.
fn refused(dir: &Path, resource: &str, max: u64) {
    let stage: Arc<Mutex<String>> = Arc::default();
    let s2 = stage.clone();
    let beat = watchdog(move || s2.lock().unwrap().clone(), 20);
    let (res, now): (i32, fn() -> u64) = if resource == "threads" { (NPROC, threads_now) } else { (NOFILE, files_now) };
    let say = |what: &str, more: u64, r: Result<(), Error>| match r { Ok(()) => {} Err(e) => println!("{what} with {more} more: {:?}: {e}", e.kind()) };
    for more in 0..max {
        for what in ["open", "watch", "snapshot", "compact", "backup", "view_at", "restore", "restore_to", "async", "close", "wakerdrop", "auto", "verify", "readonly", "stats"] {
            *stage.lock().unwrap() = format!("{resource} {what} {more}");
            beat.fetch_add(1, Ordering::Relaxed);
            let w = dir.join(format!("{resource}-{what}-{more}"));
            let _ = std::fs::remove_dir_all(&w);
            std::fs::create_dir_all(&w).unwrap();
            let world = w.join("w");
            let open = || Database::builder(&world).config(tiny).config(|c| { c.manual(); c.archive.enabled = Some(true); c.snapshot.threads = 2; }).open();
            let made = open().unwrap();
            for i in 0..20u64 { made.write(|tx| Ok(tx.spawn((Counter(i), Name("z".repeat(10_000)))))).unwrap(); }
            made.snapshot().unwrap().wait().unwrap();
            for i in 0..20u64 { made.write(|tx| Ok(tx.spawn((Counter(i), Name("z".repeat(10_000)))))).unwrap(); }
            made.rotate_log().unwrap();
            let lsn = made.lsn();
            let toml = w.join("ecsdb.toml");
            std::fs::write(&toml, "dir = \"w\"\n[snapshot]\nchain_max = 2\n").unwrap();
            let squeeze = || limit(res, now() + more - u64::from(res == NOFILE));
            let loose = || limit(res, 4096);
            let mut db = Some(made);
            let mut dropped = false;
            match what {
                "open" => { db = None; std::thread::sleep(Duration::from_millis(5)); squeeze(); let r = open(); loose(); say(what, more, r.map(|d| drop(d))); }
                "watch" => { squeeze(); let r = db.as_ref().unwrap().watch_config(&toml, |_| {}); loose(); say(what, more, r.map(drop)); }
                "snapshot" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.snapshot().and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "compact" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.compact().and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "backup" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.backup_to(w.join("b")).and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "view_at" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.view_at(Moment::Lsn(Lsn(5))).and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "restore" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.restore(Moment::Lsn(Lsn(25))).and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "restore_to" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.restore_to(w.join("b"), Moment::Lsn(Lsn(25))).and_then(Job::wait); loose(); say(what, more, r.map(drop)); }
                "async" => { let d = db.as_ref().unwrap(); squeeze(); let r = pollster::block_on(d.write_async(|tx| Ok(tx.spawn(Counter(1))))); loose(); say(what, more, r.map(drop)); }
                "close" => { let d = db.as_ref().unwrap(); d.write_with(Durability::Batched, |tx| Ok(tx.spawn(Counter(1)))).unwrap(); squeeze(); let r = d.close(); let r2 = pollster::block_on(d.close_async()); loose(); say(what, more, r); say("close_async", more, r2); }
                "wakerdrop" => {
                    // The last handle is dropped on the thread of a job while no thread is to be had.
                    let d = db.take().unwrap();
                    let mut job = d.snapshot().unwrap();
                    job.pause();
                    let (s, r) = std::sync::mpsc::channel();
                    let wk = waker(move || { drop(d); s.send(()).unwrap(); });
                    let pending = Pin::new(&mut job).poll(&mut Context::from_waker(&wk)).is_pending();
                    std::thread::sleep(Duration::from_millis(5));
                    let _ = squeeze; limit(res, if res == NPROC { 1 } else { 3 });
                    if !pending { wk.wake_by_ref(); }
                    job.resume();
                    let got = r.recv_timeout(Duration::from_secs(10));
                    if got.is_err() { println!("{what} with {more}: HANG of the waker"); }
                    drop(wk);
                    std::thread::sleep(Duration::from_millis(50));
                    loose();
                    drop(job);
                    dropped = true;
                }
                "auto" => { let d = db.as_ref().unwrap(); squeeze(); let r = ecsdb_tests::reconfigure(d, |c| c.snapshot.after_transactions = 1); std::thread::sleep(Duration::from_millis(60)); loose(); say(what, more, r);
                    let t = Instant::now(); while d.stats().unwrap().store.unwrap().snapshot_lsn != d.lsn() { if t.elapsed() > Duration::from_secs(10) { println!("auto with {more}: no snapshot any more: {:?}", d.stats().unwrap().store.unwrap().failures); break; } std::thread::sleep(Duration::from_millis(10)); } }
                "verify" => { let d = db.as_ref().unwrap(); squeeze(); let r = d.verify(|_| {}); loose(); if let Ok(v) = &r { if !v.faults.is_empty() { println!("verify with {more}: FAULTS {:?}", v.faults); } } say(what, more, r.map(drop)); }
                "readonly" => { db = None; std::thread::sleep(Duration::from_millis(5)); squeeze(); let r = Database::open_read_only(&world); let v = ecsdb::verify(&PersistenceConfig::new(&world), |_| {}); loose(); if let Ok(v) = &v { if !v.faults.is_empty() { println!("closed verify with {more}: FAULTS {:?}", v.faults); } } say(what, more, r.map(drop)); say("closed verify", more, v.map(drop)); }
                _ => { let d = db.as_ref().unwrap(); squeeze(); let r = d.stats(); let r2 = d.write(|tx| Ok(tx.spawn((Counter(1), Name("q".repeat(50_000)))))); let r3 = d.write(|tx| Ok(tx.spawn((Counter(1), Name("q".repeat(50_000)))))); loose(); say(what, more, r.map(drop)); say("write", more, r2.map(drop)); say("write", more, r3.map(drop)); }
            }
            // Still usable?
            if let Some(d) = &db {
                if what != "close" {
                    if let Err(e) = d.write(|tx| Ok(tx.spawn(Counter(99)))) { println!("{what} with {more}: NOT WRITABLE after: {:?} {e}", e.kind()); }
                    else if let Err(e) = d.snapshot().and_then(Job::wait) { println!("{what} with {more}: no snapshot after: {e}"); }
                    if let Err(e) = d.close() { println!("{what} with {more}: close after: {e}"); }
                }
            }
            drop(db);
            let t = Instant::now();
            let again = loop { match open() { Ok(d) => break Some(d), Err(e) => { if t.elapsed() > Duration::from_secs(if dropped { 3 } else { 1 }) { println!("{what} with {more}: NOT OPENED AGAIN: {:?} {e}", e.kind()); break None; } std::thread::sleep(Duration::from_millis(10)); } } };
            if let Some(d) = again { if d.lsn() < lsn { println!("{what} with {more}: LOST {:?} < {lsn:?}", d.lsn()); } let f = d.verify(|_| {}).unwrap().faults; if !f.is_empty() { println!("{what} with {more}: FAULTS {f:?}"); } d.close().unwrap(); }
            let _ = std::fs::remove_dir_all(&w);
        }
    }
    beat.store(u64::MAX, Ordering::Relaxed);
    println!("refused {resource}: done, threads now {}, files {}", threads_now(), files_now());
}

struct Listener(Mutex<(Option<ecsdb::Events>, fastrand::Rng)>, Arc<dyn Fn(&mut fastrand::Rng) + Send + Sync>);
impl Wake for Listener {
    fn wake(self: Arc<Self>) {
        let w = Waker::from(self.clone());
        loop {
            let Some(mut g) = self.0.try_lock().ok() else { return };
            let Some(ev) = g.0.as_mut() else { return };
            let r = { let mut n = Box::pin(ev.next()); n.as_mut().poll(&mut Context::from_waker(&w)) };
            let mut rng = g.1.fork();
            match r { Poll::Ready(Some(_)) => { drop(g); (self.1)(&mut rng) } _ => return }
        }
    }
}

/// Configuration files followed, listeners that do anything, handles dropped anywhere.
fn follow(secs: f64, seed: u64) {
    let began = Instant::now();
    let mut lives = 0u64;
    let stage: Arc<Mutex<String>> = Arc::default();
    let s2 = stage.clone();
    let beat = watchdog(move || s2.lock().unwrap().clone(), 30);
    let calls = Arc::new(AtomicU64::new(0));
    while began.elapsed().as_secs_f64() < secs {
        let seed = seed.wrapping_mul(1_000_003) + lives;
        lives += 1;
        let mut rng = fastrand::Rng::with_seed(seed);
        let tmp = tempfile::tempdir_in("/dev/shm").unwrap();
        std::fs::create_dir(tmp.path().join("etc")).unwrap();
        let file = tmp.path().join("etc/ecsdb.toml");
        let put = |i: u64| std::fs::write(&file, format!("dir = \"../w\"\n[wal]\nsegment_bytes_first = \"64KiB\"\nsegment_bytes_max = \"64KiB\"\n[snapshot]\nchain_max = {}\nafter_transactions = {}\nbytes_per_second_max = \"{}\"\n", 1 + i % 3, 1 + i % 7, ["0", "1B", "100KiB", "1MiB"][(i % 4) as usize])).unwrap();
        put(seed);
        *stage.lock().unwrap() = format!("follow {seed} open");
        let db = Database::new_with_persistence(PersistenceConfig::from_file(&file).unwrap()).unwrap();
        *stage.lock().unwrap() = format!("follow {seed} running");
        let watches: Arc<Mutex<Vec<ecsdb::ConfigWatch>>> = Arc::default();
        for _ in 0..rng.usize(1..4) { let w = db.watch_config(&file, |c| c.snapshot.threads = 1).unwrap(); watches.lock().unwrap().push(w); }
        let ws = watches.clone();
        let slot: Arc<Mutex<Option<Database>>> = Arc::new(Mutex::new(Some(db.clone())));
        let sl = slot.clone();
        let calls2 = calls.clone();
        let act: Arc<dyn Fn(&mut fastrand::Rng) + Send + Sync> = Arc::new(move |rng| {
            calls2.fetch_add(1, Ordering::Relaxed);
            let Some(db) = sl.lock().unwrap().clone() else { return };
            match rng.u8(0..16) {
                0 => drop(db.snapshot()), 1 => drop(db.view_at(Moment::Latest)),
                2 => { if let Ok(j) = db.compact() { j.pause(); drop(j) } }
                3 => drop(ecsdb_tests::reconfigure(&db, |c| c.snapshot.bytes_per_second_max = ByteSize(1))),
                4 => drop(db.write(|tx| Ok(tx.spawn(Counter(1))))),
                5 => drop(db.config()), 6 => drop(db.sync()), 7 => drop(db.rotate_log()),
                8 => { db.pause_background(); db.resume_background() }
                9 => { let w = ws.lock().unwrap().pop(); drop(w) }
                10 => { if rng.u8(0..10) == 0 { *sl.lock().unwrap() = None; } }
                11 => { if rng.u8(0..10) == 0 { drop(db.close()) } }
                12 => { if let Ok(j) = db.snapshot() { j.cancel(); drop(j) } }
                13 => drop(pollster::block_on(db.write_async(|tx| Ok(tx.spawn(Counter(2)))))),
                14 => { if std::env::var("CAREFUL").is_ok() { drop(db.snapshots()) } else { drop(db.stats()) } }
                _ => {}
            }
        });
        for i in 0..2 { Arc::new(Listener(Mutex::new((Some(db.events()), fastrand::Rng::with_seed(seed + i))), act.clone())).wake(); }
        let mut ths = Vec::new();
        for t in 0..2u64 { let db = db.clone(); let mut rng = fastrand::Rng::with_seed(seed ^ t); ths.push(std::thread::spawn(move || for i in 0..rng.u64(1..200) { if db.write_with(Durability::Batched, |tx| Ok(tx.spawn((Counter(i), Name("n".repeat(1000)))))).is_err() { break } })); }
        for i in 0..rng.u64(1..6) { put(seed + i); std::thread::sleep(Duration::from_millis(rng.u64(0..130))); }
        *stage.lock().unwrap() = format!("follow {seed} ending");
        match rng.u8(0..3) { 0 => { if let Err(e) = db.close() { println!("follow {seed} close {e}") } drop(db) } 1 => drop(db), _ => { let w: Vec<_> = std::mem::take(&mut *watches.lock().unwrap()); drop(w); drop(db) } }
        for t in ths { t.join().unwrap(); }
        let d = slot.lock().unwrap().take();
        drop(d);
        drop(act);
        let w: Vec<_> = std::mem::take(&mut *watches.lock().unwrap());
        drop(w);
        *stage.lock().unwrap() = format!("follow {seed} reopening");
        let t = Instant::now();
        loop { match Database::open(tmp.path().join("w")) { Ok(d) => { let f = d.verify(|_| {}).unwrap().faults; if !f.is_empty() { println!("FAULTS {f:?}"); } break } Err(e) => { if t.elapsed() > Duration::from_secs(10) { println!("follow {seed} NOT REOPENED {e}"); break } std::thread::sleep(Duration::from_millis(5)) } } }
        beat.fetch_add(1, Ordering::Relaxed);
    }
    beat.store(u64::MAX, Ordering::Relaxed);
    println!("follow: {lives} lives, {} calls in wakers", calls.load(Ordering::Relaxed));
}

/// Copies beside snapshots.
fn copies(secs: f64) {
    let tmp = tempfile::tempdir_in("/dev/shm").unwrap();
    let db = Database::builder(tmp.path().join("w")).config(tiny).config(PersistenceConfig::manual).open().unwrap();
    let began = Instant::now();
    let (mut n, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| while began.elapsed().as_secs_f64() < secs { db.write(|tx| Ok(tx.spawn(Counter(1)))).unwrap(); db.snapshot().unwrap().wait().unwrap(); });
        while began.elapsed().as_secs_f64() < secs {
            n += 1;
            if let Err(e) = db.backup_to(tmp.path().join(format!("b{n}"))).unwrap().wait() { failed += 1; if failed < 3 { println!("copy {n}: {:?} {e}", e.kind()); } }
            let _ = std::fs::remove_dir_all(tmp.path().join(format!("b{n}")));
        }
    });
    println!("copies: {failed} of {n} failed");
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    std::panic::set_hook(Box::new(|i| { let s = i.to_string(); if !s.contains("meant") { eprintln!("PANIC {s}"); } }));
    let f = |i: usize| a[i].parse::<f64>().unwrap();
    match a[1].as_str() {
        "writer" => writer(&PathBuf::from(&a[2]), f(3), f(4) as u64),
        "stress" => stress(f(2), f(3) as u64),
        "follow" => follow(f(2), f(3) as u64),
        "copies" => copies(f(2)),
        "starve" => starve(f(2)),
        "refused" => refused(Path::new(&a[2]), &a[3], f(4) as u64),
        _ => panic!("mode"),
    }
}
