//! What is encoded ahead of a slow disk is bounded in bytes, however large values are. One test, since memory is counted for the whole process.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ecsdb_core::{Component, Lsn, World};
use ecsdb_io::{Disk, FileKind, Urgency};
use ecsdb_snapshot::{WriteOptions, write};

/// Counts what is allocated, and the most that ever was.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system allocator's; the counters are plain numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes - layout.size();
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "text", archived)]
struct Text(String);

#[test]
fn what_is_ahead_of_a_slow_disk_is_bounded_in_bytes() {
    const ROWS: usize = 32_000;
    const VALUE: usize = 4 << 10;
    let mut world = World::new();
    let mut random = 1u64;
    // In pieces, since a transaction has its changes in memory, too.
    for lsn in 1..=20 {
        let mut open = world.begin();
        open.transaction().spawn_batch((0..ROWS / 20).map(|_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (Text(format!("{random:x}").repeat(VALUE / 16)),)
        }));
        open.prepare().unwrap().commit(Lsn(lsn));
    }
    let dir = tempfile::tempdir().unwrap();
    for (sequence, threads, compression) in [(1, 1, None), (2, 4, None), (3, 4, Some(1))] {
        let path = dir.path().join(FileKind::Snapshot.name(sequence));
        let options = WriteOptions {
            database: 9,
            salt: 1,
            created_unix_ns: 1,
            sequence,
            compression,
            threads,
            parent: None,
            urgency: &Urgency::of_caller(),
        };
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let written = write(&Disk, &path, world.view(), &options, &mut |progress| {
            // The others have time to get as far ahead as they may.
            if progress.bytes_written < 64 << 20 {
                std::thread::sleep(Duration::from_millis(10));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(written.raw_bytes > 120 << 20);
        let most = MOST.load(Ordering::Relaxed) - before;
        assert!(most < 64 << 20, "{threads} threads held {most} bytes");
    }
}
