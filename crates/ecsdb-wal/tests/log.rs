//! Logs written and read back: sizes, rotation, damage at every byte, failures, many threads.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test, which also spoils files behind the back of the engine"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ecsdb_io::{Disk, LockKind, Vfs};
use ecsdb_wal::{
    Durability, Known, Log, LogError, LogOptions, LogScan, LogStart, Lsn, Payload, Replay, SegmentEnd,
    SegmentHeader, Tail, Threads,
};
use proptest::prelude::*;

const DATABASE: u128 = 77;

fn options(threads: Threads) -> LogOptions {
    LogOptions {
        segment_bytes_first: 16 << 10,
        segment_bytes_max: 64 << 10,
        part_bytes_max: 5_000,
        threads,
        ..LogOptions::default()
    }
}

fn start() -> LogStart {
    LogStart {
        lock: None,
        database: DATABASE,
        incarnation: 1,
        segment: 1,
        lsn: Lsn(1),
        previous: SegmentEnd::default(),
        last_unix_ns: 0,
    }
}

fn open(dir: &Path, options: LogOptions) -> Log {
    Log::start(Arc::new(Disk), Arc::new(Disk), dir, options, start()).unwrap()
}

fn scan(dir: &Path) -> LogScan {
    LogScan::run(&Disk, &[dir.into()], DATABASE, Known::default(), 0).unwrap()
}

fn read(scan: &LogScan, after: Lsn) -> Vec<(Lsn, Vec<u8>)> {
    let mut replay = Replay::new(&Disk, scan, after, scan.last_lsn);
    let mut all = Vec::new();
    let mut payload = Vec::new();
    while let Some(transaction) = replay.next(&mut payload).unwrap() {
        assert!(transaction.unix_ns > 0);
        all.push((transaction.lsn, std::mem::take(&mut payload)));
        let (done, total) = replay.progress();
        assert!(done <= total, "{done} of {total}");
    }
    let (done, total) = replay.progress();
    assert!(done <= total, "{done} of {total}");
    all
}

#[test]
fn the_largest_options_are_no_overflow() {
    for threads in [Threads::None, Threads::Background] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(
            dir.path(),
            LogOptions {
                segment_bytes_max: u64::MAX,
                part_bytes_max: u32::MAX,
                queue_bytes_max: u64::MAX,
                transaction_bytes_max: u64::MAX,
                flush_interval: Duration::MAX,
                segment_age_max: Some(Duration::MAX),
                ..options(threads)
            },
        );
        let lsn = log.append(Payload::from(&body(1, 10_000)[..]), Durability::Batched).unwrap();
        log.rotate().unwrap();
        log.admit().unwrap();
        log.rotate_aged().unwrap();
        log.wait(lsn).unwrap();
        log.close().unwrap();
    }
}

fn body(i: usize, len: usize) -> Vec<u8> {
    (0..len).map(|k| (i * 31 + k) as u8).collect()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join(ecsdb_io::FileKind::Segment.name(number))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_of_any_size_read_back_in_order(
        sizes in proptest::collection::vec(prop_oneof![3 => 0usize..300, 2 => 0usize..9_000, 1 => 0usize..200_000], 1..60),
        shared in 0usize..4, flush_every in 1usize..20, compression in proptest::option::of(1i32..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), LogOptions { compression, ..options(Threads::Background) });
        let mut expected = Vec::new();
        for (i, &size) in sizes.iter().enumerate() {
            let body = body(i, size);
            // Cut into inline bytes and shared blocks at arbitrary places.
            let cut = size / (shared + 1);
            let (mut inline, mut blocks) = (body[..size - cut * shared].to_vec(), Vec::new());
            let half = inline.split_off(inline.len() / 2);
            for k in 0..shared {
                let from = size - cut * shared + k * cut;
                blocks.push((inline.len(), Bytes::copy_from_slice(&body[from..from + cut])));
            }
            let mut whole = inline.clone();
            blocks.iter().for_each(|(_, block)| whole.extend_from_slice(block));
            whole.extend_from_slice(&half);
            inline.extend_from_slice(&half);
            let lsn = log.append(Payload { inline: &inline, shared: &blocks }, Durability::Batched).unwrap();
            prop_assert_eq!(lsn, Lsn(i as u64 + 1));
            expected.push((lsn, whole));
            if i % flush_every == 0 {
                prop_assert_eq!(log.flush().unwrap(), lsn);
                prop_assert!(log.durable_lsn() >= lsn);
            }
        }
        log.close().unwrap();
        prop_assert!(matches!(log.append(b"x"[..].into(), Durability::Batched), Err(LogError::Closed)));
        let scan = scan(dir.path());
        prop_assert_eq!(&scan.tail, &Tail::Clean);
        prop_assert_eq!(scan.last_lsn, Lsn(sizes.len() as u64));
        prop_assert!(scan.unused.is_empty());
        // WAL-9
        for segment in &scan.segments {
            prop_assert!(segment.end.offset <= segment.header.bytes, "{:?}", segment.header);
        }
        prop_assert_eq!(&read(&scan, Lsn::ZERO), &expected);
        let half = sizes.len() / 2;
        prop_assert_eq!(&read(&scan, Lsn(half as u64)), &expected[half..]);
    }
}

/// What is compressed takes less, whatever is switched on the way, and bytes that do not shrink lie there as they are.
#[test]
fn compressed_transactions_take_less_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { part_bytes_max: 1 << 20, ..options(Threads::Background) };
    let log = open(dir.path(), options.clone());
    let mut x = 1u64;
    let mut random = || {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (x >> 56) as u8
    };
    let noise: Vec<u8> = (0..60_000).map(|_| random()).collect();
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for (level, body) in [
        (None, body(0, 60_000)),
        (Some(1), body(0, 60_000)),
        (Some(1), noise),
        // Below the least that is.
        (Some(22), body(0, 4_000)),
        (None, body(0, 60_000)),
    ] {
        log.set_options(&LogOptions { compression: level, ..options.clone() });
        let before = log.stats().bytes_written;
        let lsn = log.append(body[..].into(), Durability::Batched).unwrap();
        log.wait(lsn).unwrap();
        bytes.push(log.stats().bytes_written - before);
        expected.push((lsn, body));
    }
    log.close().unwrap();
    assert!(bytes[1] * 4 < bytes[0], "{bytes:?}");
    assert!(bytes[2] >= 60_000 && bytes[3] >= 4_000 && bytes[4] >= 60_000, "{bytes:?}");
    assert_eq!(read(&scan(dir.path()), Lsn::ZERO), expected);
}

#[test]
fn a_cut_anywhere_leaves_a_prefix_and_a_flip_anywhere_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    let mut expected = Vec::new();
    for i in 0..12 {
        let body = body(i, 30 + i * 10);
        let lsn = log.append(body[..].into(), Durability::Immediate).unwrap();
        expected.push((lsn, body));
        if i % 3 == 2 {
            log.wait(lsn).unwrap();
        }
    }
    log.close().unwrap();
    let path = segment(dir.path(), 1);
    let good = std::fs::read(&path).unwrap();
    let end = scan(dir.path()).segments[0].end.offset as usize;

    let header = SegmentHeader::decode(&path, good.first_chunk().unwrap()).unwrap();
    for len in (0..=end).rev() {
        // What an interrupted write leaves: the zeros that the file was made of.
        let mut torn = good[..len].to_vec();
        torn.resize(header.prepared_bytes as usize, 0);
        std::fs::write(&path, &torn).unwrap();
        let scanned = scan(dir.path());
        let found = read(&scanned, Lsn::ZERO);
        assert_eq!(found, expected[..found.len()], "zeros from {len} on");
        // A header is durable before there is any record, so that one which is torn has none behind it.
        let is_corrupt = matches!(scanned.tail, Tail::Corrupt { .. });
        assert!(!is_corrupt, "zeros from {len} on: {:?}", scanned.tail);

        // And what no interrupted write leaves: a file that is shorter than it was made. Without its header it says nothing of that.
        std::fs::write(&path, &good[..len]).unwrap();
        let scanned = scan(dir.path());
        assert_eq!(read(&scanned, Lsn::ZERO), found, "cut to {len}");
        let is_corrupt = matches!(scanned.tail, Tail::Corrupt { .. });
        // The header's last bytes may be zeros.
        let has_header = good[len.min(128)..128].iter().all(|&byte| byte == 0);
        assert_eq!(is_corrupt, has_header && len < end, "cut to {len}: {:?}", scanned.tail);
    }
    for at in (0..end).flat_map(|byte| [byte * 8, byte * 8 + 5]) {
        let mut bad = good.clone();
        bad[at / 8] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).unwrap();
        let scan = scan(dir.path());
        let found = read(&scan, Lsn::ZERO);
        assert_eq!(found, expected[..found.len()], "bit {at}");
        // Damage to what the close frame (or a later group) says was durable is corruption; only damage to that last
        // frame itself, and to padding, cannot be told.
        if found.len() < expected.len() {
            assert!(matches!(scan.tail, Tail::Corrupt { .. }), "bit {at}: {:?}", scan.tail);
        }
    }
}

/// REC-2: each group says what was durable before it. Of a log that nobody closed, damage before that is no write that was interrupted.
#[test]
fn damage_before_what_a_later_record_proves_is_no_torn_tail() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(dir.path(), options(Threads::Background));
    for i in 0..4 {
        let lsn = log.append(body(i, 300)[..].into(), Durability::Immediate).unwrap();
        log.wait(lsn).unwrap();
    }
    // As a kill leaves it.
    let bytes = std::fs::read(segment(dir.path(), 1)).unwrap();
    log.close().unwrap();
    let find = |i| bytes.windows(300).position(|window| window == body(i, 300)).unwrap();
    // Of all but the last one a later group says that they were durable.
    for (i, is_proved) in [(0, true), (1, true), (2, true), (3, false)] {
        let mut bytes = bytes.clone();
        bytes[find(i) + 150] ^= 1;
        std::fs::write(segment(copy.path(), 1), bytes).unwrap();
        let scan = scan(copy.path());
        assert_eq!(scan.last_lsn, Lsn(i as u64));
        match scan.tail {
            Tail::Corrupt { evidence, .. } => {
                assert!(is_proved && evidence.contains("says that LSN"), "{evidence}")
            }
            tail => assert!(!is_proved, "{i}: {tail:?}"),
        }
    }
}

#[test]
fn damage_in_an_earlier_segment_is_corruption_and_never_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    for i in 0..40 {
        log.append(body(i, 1_500)[..].into(), Durability::Immediate).unwrap();
    }
    log.close().unwrap();
    assert!(scan(dir.path()).segments.len() >= 3);
    let path = segment(dir.path(), 1);
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[9_000] ^= 4;
    std::fs::write(&path, &bad).unwrap();
    match scan(dir.path()).tail {
        Tail::Corrupt { first_lost, .. } => assert_eq!(first_lost, Lsn(4)),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, &good).unwrap();
    std::fs::remove_file(segment(dir.path(), 2)).unwrap();
    assert!(matches!(scan(dir.path()).tail, Tail::Corrupt { .. }), "a missing segment is seen");
}

/// Seed 448117 of the simulation: a bit flipped in the zeros that say that the segment before them was there.
#[test]
fn a_segment_that_is_gone_is_missed_whatever_flips_in_the_one_that_was_prepared_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    for i in 0..40 {
        log.append(body(i, 1_000)[..].into(), Durability::Immediate).unwrap();
    }
    log.close().unwrap();
    let last = scan(dir.path()).last_file;
    assert!(last > 1);
    std::fs::remove_file(segment(dir.path(), last)).unwrap();
    for at in [0, 20, 110, 2_000, 4_096, 5_000, 65_535] {
        let mut zeros = vec![0; 64 << 10];
        zeros[at] = 4;
        std::fs::write(segment(dir.path(), last + 1), zeros).unwrap();
        assert!(matches!(scan(dir.path()).tail, Tail::Corrupt { .. }), "byte {at}");
    }
}

/// Seeds 836486, 838765 and 871505 of the simulation: the newest segment of a killed log was gone, nothing was prepared behind it, and no manifest
/// had said that it was there.
#[test]
fn a_newest_segment_that_is_gone_is_missed_by_the_one_before() {
    let (live, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(live.path(), options(Threads::None));
    for i in 0..40 {
        let lsn = log.append(body(i, 1_000)[..].into(), Durability::Immediate).unwrap();
        log.wait(lsn).unwrap();
        // As it is at any moment: nobody closes it.
        let own = scan(live.path());
        assert_eq!((own.last_lsn, &own.tail), (lsn, &Tail::Clean));
        for number in 1..=own.last_file {
            std::fs::copy(segment(live.path(), number), segment(dir.path(), number)).unwrap();
        }
        let Some(before) = own.segments.len().checked_sub(2).map(|at| &own.segments[at]) else { continue };
        let newest = segment(dir.path(), own.last_file);
        let stranger = b"a page of something else".repeat(200);
        std::fs::remove_file(&newest).unwrap();
        for bytes in [None, Some(vec![]), Some(vec![0; 4096]), Some(vec![0; 128 << 10]), Some(stranger)] {
            if let Some(bytes) = &bytes {
                std::fs::write(&newest, bytes).unwrap();
            }
            let found = scan(dir.path());
            assert_eq!(found.last_lsn, before.end.last_lsn);
            assert!(matches!(found.tail, Tail::Corrupt { .. }), "{i}, {bytes:?}: {:?}", found.tail);
        }
    }
    log.close().unwrap();
    assert!(scan(live.path()).segments.len() > 2);
}

/// A segment is ended in three steps (the next one's header, the frame that says so, the first record), and a crash comes between any two.
#[test]
fn no_crash_between_two_segments_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    log.append(body(1, 100)[..].into(), Durability::Immediate).unwrap();
    log.rotate().unwrap();
    let first = scan(dir.path()).segments[0].clone();
    let (end, path) = (first.end.offset as usize, segment(dir.path(), 1));
    assert!(!first.followed, "its end is where the next one says, before that frame");
    let header = std::fs::read(segment(dir.path(), 2)).unwrap();
    let good = std::fs::read(&path).unwrap();
    let frame = good[end..].iter().rposition(|&byte| byte != 0).unwrap();
    for kept in (0..=frame).rev() {
        let mut bytes = good.clone();
        bytes[end + kept..].fill(0);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(scan(dir.path()).tail, Tail::Clean, "{kept} bytes of the frame");
        // Before it the next one's header is durable: with half a frame there need be none.
        std::fs::write(segment(dir.path(), 2), [0; 4096]).unwrap();
        let found = scan(dir.path());
        assert!(!matches!(found.tail, Tail::Corrupt { .. }), "{kept} bytes of the frame: {:?}", found.tail);
        assert_eq!(found.last_lsn, Lsn(1));
        std::fs::write(segment(dir.path(), 2), &header).unwrap();
    }
    drop(log);
}

#[test]
fn a_known_durable_lsn_beyond_the_end_is_proof_of_loss() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    log.append(b"one"[..].into(), Durability::Immediate).unwrap();
    log.close().unwrap();
    let scan =
        LogScan::run(&Disk, &[dir.path().into()], DATABASE, Known { durable: Lsn(2), ..Known::default() }, 0)
            .unwrap();
    assert!(matches!(scan.tail, Tail::Corrupt { first_lost: Lsn(2), .. }), "{:?}", scan.tail);
    let other = LogScan::run(&Disk, &[dir.path().into()], 1, Known::default(), 0);
    assert!(matches!(other, Err(LogError::OtherDatabase { .. })));
}

#[test]
fn a_strangers_segment_is_passed_over_unless_one_is_missed_in_its_place() {
    // CKP-10.
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = open(dir.path(), options(Threads::None));
    for i in 0..60 {
        log.append(body(i, 1_000)[..].into(), Durability::Immediate).unwrap();
    }
    log.close().unwrap();
    let start = LogStart { database: 1, ..start() };
    Log::start(Arc::new(Disk), Arc::new(Disk), other.path(), options(Threads::None), start)
        .unwrap()
        .close()
        .unwrap();
    let stranger = std::fs::read(segment(other.path(), 1)).unwrap();
    let own = scan(dir.path());
    let (last, count) = (own.segments.last().unwrap().header.sequence, own.segments.len());
    assert!(
        count > 2 && own.tail == Tail::Clean && own.segments.iter().all(|segment| segment.damage.is_none())
    );
    for number in 1..last + 4 {
        let path = segment(dir.path(), number);
        let was = std::fs::read(&path).ok();
        std::fs::write(&path, &stranger).unwrap();
        let known = Known { durable: own.last_lsn, next_segment: last + 1, ..Known::default() };
        let found = LogScan::run(&Disk, &[dir.path().into()], DATABASE, known, 0);
        match found {
            Err(LogError::OtherDatabase { path: at, .. }) => {
                assert!(number <= last && at == path, "{number}")
            }
            found => {
                let found = found.unwrap();
                assert!(number > last && found.tail == Tail::Clean, "{number}: {:?}", found.tail);
                assert_eq!((found.last_lsn, found.segments.len()), (own.last_lsn, count));
                assert!(
                    !found.unused.contains(&path) && found.last_file >= number,
                    "nobody takes it for ours"
                );
            }
        }
        match was {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
}

#[test]
fn bytes_of_another_segment_or_database_never_validate() {
    // WAL-11: frames of a segment, copied behind the valid ones of another, are no continuation of it.
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, n) in [(&a, 3), (&b, 6)] {
        let log = open(dir.path(), options(Threads::None));
        for i in 0..n {
            let lsn = log.append(body(i, 100)[..].into(), Durability::Immediate).unwrap();
            log.wait(lsn).unwrap();
        }
        drop(log);
    }
    let end = scan(a.path()).segments[0].end.offset as usize;
    let mut bytes = std::fs::read(segment(a.path(), 1)).unwrap();
    let other = std::fs::read(segment(b.path(), 1)).unwrap();
    bytes[end..].copy_from_slice(&other[end..]);
    std::fs::write(segment(a.path(), 1), &bytes).unwrap();
    let scan = scan(a.path());
    assert_eq!(scan.last_lsn, Lsn(3));
    assert!(matches!(scan.tail, Tail::Torn { .. }), "{:?}", scan.tail);
}

#[test]
fn garbage_is_read_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    for i in 0..20 {
        log.append(body(i, 200)[..].into(), Durability::Immediate).unwrap();
    }
    log.close().unwrap();
    let path = segment(dir.path(), 1);
    let good = std::fs::read(&path).unwrap();
    let mut random = 1u64;
    let mut next = || {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) as usize
    };
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..1 + next() % 20 {
            let (at, len) = (next() % bad.len(), next() % 200);
            for byte in bad.iter_mut().skip(at).take(len) {
                *byte = next() as u8;
            }
        }
        std::fs::write(&path, &bad).unwrap();
        match LogScan::run(&Disk, &[dir.path().into()], DATABASE, Known::default(), 0) {
            Ok(scan) => drop(read(&scan, Lsn::ZERO)),
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    }
}

#[test]
fn many_threads_wait_and_each_is_durable_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::Background));
    std::thread::scope(|scope| {
        for i in 0..16 {
            let log = &log;
            scope.spawn(move || {
                for k in 0..60 {
                    let lsn = log.append(body(i, 40 + k)[..].into(), Durability::Immediate).unwrap();
                    log.wait(lsn).unwrap();
                    assert!(log.durable_lsn() >= lsn);
                }
            });
        }
    });
    drop(log);
    let scan = scan(dir.path());
    assert_eq!((scan.last_lsn, &scan.tail), (Lsn(960), &Tail::Clean));
    assert_eq!(read(&scan, Lsn::ZERO).len(), 960);
}

#[test]
fn futures_complete_and_dropped_ones_cancel_nothing() {
    use std::future::Future;
    use std::task::{Context, Wake, Waker};
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::Background));
    let waker: Waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    for i in 0..100 {
        let lsn = log.append(body(i, 50)[..].into(), Durability::Immediate).unwrap();
        let mut future = Box::pin(log.durable(lsn));
        if i % 3 == 0 {
            // WAL-13: polled once, then dropped.
            let _ = future.as_mut().poll(&mut context);
            continue;
        }
        while future.as_mut().poll(&mut context).is_pending() {
            std::thread::park();
        }
        assert!(log.durable_lsn() >= lsn);
    }
    drop(log);
    assert_eq!(scan(dir.path()).last_lsn, Lsn(100));
}

#[test]
fn tickets_that_gather_are_written_before_anybody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(
        dir.path(),
        LogOptions { flush_interval: Duration::from_secs(3600), ..options(Threads::Background) },
    );
    for i in 0..1000 {
        log.append(body(i, 50)[..].into(), Durability::Immediate).unwrap();
    }
    let began = std::time::Instant::now();
    while log.durable_lsn() < Lsn(64) {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody writes: {log:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn limits_are_kept_before_anything_is_queued() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { transaction_bytes_max: 100, ..options(Threads::None) };
    let log = open(dir.path(), options);
    let refused = log.append(body(0, 101)[..].into(), Durability::Immediate);
    assert!(matches!(refused, Err(LogError::TransactionTooLarge { bytes: 101, limit: 100 })));
    assert_eq!(log.append(body(0, 100)[..].into(), Durability::Immediate).unwrap(), Lsn(1));
    assert!(matches!(log.wait(Lsn(2)), Err(LogError::NotAppended { .. })));
    log.close().unwrap();
    log.close().unwrap();
}

/// A rotation syncs what others wrote without a sync; whoever then waited for it used to wait for ever.
#[test]
fn rotating_while_others_commit_and_flush_neither_loses_nor_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { flush_interval: Duration::from_micros(200), ..options(Threads::Background) };
    let log = open(dir.path(), options);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for i in 0..300 {
                    log.append(body(i, 20)[..].into(), Durability::Buffered).unwrap();
                    if i % 7 == 0 {
                        log.flush().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| (0..40).for_each(|_| log.rotate().unwrap()));
    });
    assert_eq!(log.flush().unwrap(), Lsn(600));
    drop(log);
    assert_eq!(read(&scan(dir.path()), Lsn::ZERO).len(), 600);
}

#[test]
fn an_idle_segment_is_ended_when_it_is_of_age_and_an_empty_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let age = Some(Duration::from_millis(20));
    let log = open(dir.path(), LogOptions { segment_age_max: age, ..options(Threads::Background) });
    log.append(body(0, 20)[..].into(), Durability::Immediate).unwrap();
    log.flush().unwrap();
    let started = std::time::Instant::now();
    while log.segment() == 1 {
        assert!(started.elapsed() < Duration::from_secs(30), "the segment never came of age");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(log.segment(), 2, "a segment without transactions stays");
    log.append(body(1, 20)[..].into(), Durability::Immediate).unwrap();
    drop(log);
    assert_eq!(read(&scan(dir.path()), Lsn::ZERO).len(), 2);
}

/// WAL-4: what was merely written is not durable, and is not said to be.
#[test]
fn what_was_written_without_a_sync_is_not_called_durable() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::Background));
    let mut lsn = Lsn::ZERO;
    // More than once: what comes after a write is done by the time of the next one.
    for _ in 0..20 {
        lsn = log.append(b"buffered"[..].into(), Durability::Buffered).unwrap();
        while log.written_lsn() < lsn {
            std::thread::yield_now();
        }
        assert_eq!(log.durable_lsn(), Lsn::ZERO);
    }
    log.wait(lsn).unwrap();
    assert_eq!(log.durable_lsn(), lsn);
}

/// Case r499708 of `corrupt`: the log had lost LSN 2, which a snapshot holds, and LSNs above it had been seen, so that it went on with LSN 5.
/// Whoever has LSN 2 was sent through the segment that lost it.
#[test]
fn what_follows_a_number_that_was_passed_over_needs_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), options(Threads::None));
    log.append(b"one"[..].into(), Durability::Immediate).unwrap();
    log.close().unwrap();
    let end = SegmentEnd { last_lsn: Lsn(2), ..scan(dir.path()).segments[0].end };
    let on = LogStart { incarnation: 2, segment: 2, lsn: Lsn(5), previous: end, ..start() };
    let log = Log::start(Arc::new(Disk), Arc::new(Disk), dir.path(), options(Threads::None), on).unwrap();
    log.append(b"five"[..].into(), Durability::Immediate).unwrap();
    log.close().unwrap();
    for (after, needed) in [(0, 1), (1, 1), (2, 2), (3, 2), (9, 2)] {
        assert_eq!(LogScan::first_needed(&Disk, &[dir.path().into()], Lsn(after)).unwrap(), needed);
    }
    let scan = LogScan::run(&Disk, &[dir.path().into()], DATABASE, Known::default(), 2).unwrap();
    assert_eq!((scan.tail.clone(), scan.last_lsn), (Tail::Clean, Lsn(5)));
    assert_eq!(read(&scan, Lsn(2)), [(Lsn(5), b"five".to_vec())]);
}

/// The files of a log, with what is in them.
fn all_bytes(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn nothing_is_written_behind_the_end_of_a_closed_log() {
    for threads in [Threads::None, Threads::Background] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), options(threads));
        log.append(Payload::from(&b"x"[..]), Durability::Immediate).unwrap();
        log.close().unwrap();
        let closed = all_bytes(dir.path());
        assert!(matches!(log.rotate(), Err(LogError::Closed)));
        log.set_options(&LogOptions { segment_age_max: Some(Duration::ZERO), ..options(threads) });
        assert!(matches!(log.rotate_aged(), Ok(()) | Err(LogError::Closed)));
        assert!(matches!(log.append(Payload::from(&b"y"[..]), Durability::Immediate), Err(LogError::Closed)));
        assert!(log.close().is_ok() && log.wait(Lsn(1)).is_ok());
        assert!(all_bytes(dir.path()) == closed);
    }
}

/// Whoever waits for the writer while it is closed comes too late, or in time.
#[test]
fn a_log_that_is_closed_while_it_is_rotated_ends_where_it_was_closed() {
    for life in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), options(Threads::Background));
        let ready = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    ready.wait();
                    loop {
                        let appended = log.append(Payload::from(&b"x"[..]), Durability::Immediate);
                        match appended.and_then(|_| log.rotate()) {
                            Ok(()) => {}
                            Err(LogError::Closed) => return,
                            Err(e) => panic!("life {life}: {e}"),
                        }
                    }
                });
            }
            ready.wait();
            std::thread::sleep(Duration::from_micros(300 * life));
            log.close().unwrap();
            let closed = all_bytes(dir.path());
            std::thread::sleep(Duration::from_millis(2));
            assert!(all_bytes(dir.path()) == closed, "life {life}");
        });
        assert_eq!(scan(dir.path()).tail, Tail::Clean, "life {life}");
    }
}

/// REC-12: whose lock is gone may have the directory no more, and makes no segment there.
#[test]
fn no_segment_is_made_without_the_lock() {
    for threads in [Threads::None, Threads::Background] {
        let dir = tempfile::tempdir().unwrap();
        let lock = Disk.try_lock(&dir.path().join("LOCK"), LockKind::Exclusive, "me").unwrap();
        let start = LogStart { lock: Some(Arc::downgrade(&lock)), ..start() };
        let log = Log::start(Arc::new(Disk), Arc::new(Disk), dir.path(), options(threads), start).unwrap();
        for _ in 0..3 {
            log.append(Payload::from(&b"x"[..]), Durability::Immediate).unwrap();
            log.rotate().unwrap();
        }
        log.append(Payload::from(&b"x"[..]), Durability::Immediate).unwrap();
        drop(lock);
        // What was made ready before is not used, either.
        assert!(log.rotate().is_err());
        assert_eq!(scan(dir.path()).segments.len(), 4);
    }
}
