//! What opening costs in memory beyond the world, counted for the whole process: one test in a binary of its own.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use ecsdb::prelude::*;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; the counters are plain numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Component, Clone, Copy)]
#[component(name = "wide", plain)]
#[repr(C)]
struct Wide([u64; 64]);

const MIB: usize = 1 << 20;

/// Eight and more batches of the log were read ahead, however large the transactions in them were (IO-1).
#[test]
fn opening_reads_large_transactions_ahead_by_no_more_than_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        Database::builder(dir.path())
            .config(|config| {
                config.manual();
                config.recovery.threads = 2;
            })
            .open()
            .unwrap()
    };
    let db = open();
    // 8 MiB of world, changed as a whole 15 times.
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..16_384).map(|x| Wide([x; 64]))))).unwrap();
    for _ in 0..15 {
        db.write(|tx| {
            tx.query::<&mut Wide>().for_each(|wide| wide.0[0] += 1);
            Ok(())
        })
        .unwrap();
    }
    db.close().unwrap();
    drop(db);
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let db = open();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    assert_eq!(db.view().unwrap().get::<Wide>(ids[7]).unwrap().0[0], 22);
    // The world, one transaction in a buffer that grew to twice its size, the buffer before, and the window on the log.
    assert!(peak < 48 * MIB, "{} MiB at the peak", peak / MIB);
}
