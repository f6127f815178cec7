//! What is shown of a log that has a hole, by whoever follows it, and of when a state is.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use ecsdb::{ByteSize, prelude::*};
use serde_json::Value as Json;

use crate::fixture::{Fixture, Health};

/// `world` with so many segments below its newest snapshot, and a transaction above it.
fn segments(count: u32) -> Fixture {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::builder(fixture.path("world")).keep_all().create_new().unwrap();
    let write = |now: u32| {
        let batch = (0..20).map(|i| Health { now, max: i });
        db.write(|tx| Ok(tx.spawn_batch(batch).len())).unwrap();
    };
    for segment in 0..count {
        (0..1 + segment % 3).for_each(write);
        db.rotate_log().unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    write(99);
    db.close().unwrap();
    fixture
}

/// Whatever is damaged below the snapshot, what is behind it is among the last transactions.
#[test]
fn the_last_transactions_reach_back_to_what_is_lost() {
    let mut random = fastrand::Rng::with_seed(15);
    let mut lost = 0;
    for case in 0..8 {
        let fixture = segments(6);
        let all = fixture.json(&["wal", "ls", "world"]);
        let last = all["last_lsn"].as_u64().unwrap();
        let segments = all["segments"].as_array().unwrap();
        for _ in 0..random.usize(1..3) {
            let segment = &segments[random.usize(..segments.len() - 2)];
            let file = fixture.dir.path().join(segment["file"].as_str().unwrap());
            if file.extension().is_some_and(|end| end == "zst") {
                continue;
            }
            let mut bytes = std::fs::read(&file).unwrap();
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            // In its header, or in its last transaction.
            let at = if random.bool() { 40 } else { end - 20 };
            bytes[at] ^= 1;
            std::fs::write(&file, bytes).unwrap();
        }
        // Up to what something is lost.
        let is_whole = |from: u64| fixture.run(&["wal", "show", "world", "--from", &from.to_string()]).0 == 0;
        let behind = (1..=last).find(|from| is_whole(*from)).unwrap() - 1;
        lost += u64::from(behind > 0);
        for n in 1..=last + 2 {
            let (code, out, error) = fixture.run(&["wal", "tail", "world", "-n", &n.to_string(), "--json"]);
            let shown: Vec<u64> =
                out.lines().map(|line| line.parse::<Json>().unwrap()["lsn"].as_u64().unwrap()).collect();
            let wanted: Vec<u64> = (behind.max(last.saturating_sub(n)) + 1..=last).collect();
            assert_eq!(shown, wanted, "{case}: -n {n}, lost up to {behind}: {error}");
            assert_eq!(
                code,
                if behind > 0 && last - behind < n { 4 } else { 0 },
                "{case}: -n {n}, {behind}: {error}"
            );
        }
    }
    assert!(lost > 3, "{lost}");
}

/// The time of a state is that of its last transaction, as long as the log has it, and a snapshot changes nothing of that.
#[test]
fn a_snapshot_does_not_change_when_a_state_is() {
    let fixture = Fixture::new();
    let state = || fixture.json(&["hash", "world"])["state"].clone();
    let before = state();
    for command in ["snapshot", "compact"] {
        fixture.ok(&[command, "world"]);
        assert_eq!(state(), before, "{command}");
    }
    assert!(!fixture.ok(&["info", "world"]).contains("in a snapshot of"));
}

#[test]
fn a_copy_of_a_segment_under_another_number_makes_none_missing() {
    let fixture = segments(5);
    let dir = fixture.path("world/log");
    let names: Vec<u64> = std::fs::read_dir(&dir)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".seg")?.parse().ok())
        .collect();
    let file = |number: u64| dir.join(format!("{number:016}.seg"));
    let highest = *names.iter().max().unwrap();
    for &number in &names {
        std::fs::copy(file(number), file(highest + 2)).unwrap();
        assert_eq!(fixture.json(&["info", "world"])["missing"], serde_json::json!([]), "{number}");
    }
}

/// Whoever reads goes: nothing is written, so that nobody would ever be told.
#[cfg(unix)]
#[test]
fn a_log_that_is_followed_is_left_when_nobody_reads_any_more() {
    let fixture = Fixture::new();
    let mut child = fixture
        .command(&["wal", "tail", "world", "--follow", "-n", "1", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("\"lsn\":5"), "{line}");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "somebody reads");
    drop(reader);
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_file_that_is_not_there_has_one_exit_code() {
    let fixture = Fixture::new();
    for command in [
        &["load", "new", "nowhere"][..],
        &["config", "check", "nowhere"],
        &["info", "world", "--config", "nowhere"],
        &["init", "new", "--config", "nowhere"],
        &["info", "nowhere"],
    ] {
        let (code, _, error) = fixture.run(command);
        assert!(code == 3 && error.contains("nowhere"), "{command:?}: {code} {error}");
    }
}

/// A database of so many transactions, in small segments, of which the past is kept.
fn many(transactions: u64) -> Fixture {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let builder = Database::builder(fixture.path("world")).keep_all().config(|config| {
        (config.wal.segment_bytes_first, config.wal.segment_bytes_max) =
            (ByteSize(64 << 10), ByteSize(64 << 10));
    });
    let db = builder.create_new().unwrap();
    for now in 0..transactions {
        let batch = (0..20).map(|max| Health { now: now as u32, max });
        db.write_with(Durability::Buffered, |tx| Ok(tx.spawn_batch(batch).len())).unwrap();
    }
    db.close().unwrap();
    fixture
}

/// From where to where each line is.
fn told(line: &str) -> (u64, u64) {
    let line: Json = line.parse().unwrap();
    match line.get("skipped") {
        Some(skipped) => (skipped["from"].as_u64().unwrap(), skipped["to"].as_u64().unwrap()),
        None => (line["lsn"].as_u64().unwrap(), line["lsn"].as_u64().unwrap()),
    }
}

/// Whoever reads is slow, and the past is given up meanwhile: what is not shown is said.
#[cfg(unix)]
#[test]
fn what_is_given_up_while_it_is_shown_is_said() {
    for call in [&["wal", "show", "world", "--json"][..], &["wal", "tail", "world", "-n", "1000", "--json"]] {
        let fixture = many(1000);
        let mut child = fixture.command(call).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut next = told(&lines.next().unwrap()).1 + 1;
        let mut compact = fixture.command(&["compact", "world"]);
        compact.env("ECDB_ARCHIVE_ENABLED", "false").env("ECDB_RETENTION_SNAPSHOTS_MAX", "1");
        assert!(compact.output().unwrap().status.success());
        let mut skipped = 0;
        for line in lines {
            let (from, to) = told(&line);
            assert_eq!(from, next, "{line}");
            skipped += u64::from(line.contains("skipped")) * (to + 1 - from);
            next = to + 1;
        }
        assert!(child.wait().unwrap().success());
        assert!(next == 1001 && skipped > 0, "{call:?}: up to {next}, {skipped} skipped");
    }
}

#[cfg(unix)]
#[test]
fn another_database_in_its_place_is_not_followed() {
    for is_earlier in [false, true] {
        let fixture = Fixture::new();
        if is_earlier {
            let mut copy = std::process::Command::new("cp");
            copy.arg("-a").arg(fixture.path("world")).arg(fixture.path("other"));
            assert!(copy.status().unwrap().success());
            Database::open(fixture.path("world"))
                .unwrap()
                .write(|tx| Ok(tx.insert_resource(crate::fixture::Clock(1))))
                .unwrap();
        } else {
            fixture.open("other").close().unwrap();
        }
        let call = ["wal", "tail", "world", "--follow", "-n", "1", "--json"];
        let mut child = fixture.command(&call).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(told(&lines.next().unwrap()).0, 5 + u64::from(is_earlier));
        std::fs::rename(fixture.path("world"), fixture.path("was")).unwrap();
        std::fs::rename(fixture.path("other"), fixture.path("world")).unwrap();
        assert_eq!(lines.next(), None);
        let ended = child.wait_with_output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{error}");
        // Between the two there was none.
        assert!(
            error.contains("is another database, or an earlier state") || error.contains("no database"),
            "{error}"
        );
    }
}

/// A copy has no log until it is opened to be written: nothing is missing.
#[test]
fn a_fresh_copy_has_no_transactions_and_no_damage() {
    let fixture = Fixture::new();
    fixture.ok(&["backup", "world", "backup"]);
    fixture.ok(&["restore", "world", "restored", "--lsn", "3"]);
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    fixture.ok(&["load", "loaded", "dumped"]);
    for copy in ["backup", "restored", "loaded"] {
        for from in ["1", "3", "5", "6"] {
            let (code, out, error) = fixture.run(&["wal", "show", copy, "--from", from]);
            assert!(code == 3 && error.contains("no transaction of these"), "{copy}: {code} {out}{error}");
        }
        assert_eq!(fixture.ok(&["wal", "tail", copy]), "no transaction is in the log or the archive\n");
        assert_eq!(fixture.ok(&["wal", "tail", copy, "--json"]), "");
        // One that had a log misses it.
        Database::open(fixture.path(copy))
            .unwrap()
            .write(|tx| Ok(tx.insert_resource(crate::fixture::Clock(1))))
            .unwrap();
        fixture.ok(&["snapshot", copy]);
        assert_eq!(fixture.ok(&["wal", "tail", copy, "--json"]).lines().count(), 1);
        for segment in std::fs::read_dir(fixture.path(&format!("{copy}/log"))).unwrap() {
            std::fs::remove_file(segment.unwrap().path()).unwrap();
        }
        for command in ["show", "tail"] {
            let (code, out, error) = fixture.run(&["wal", command, copy]);
            assert!(code == 4 && error.contains("lost"), "{copy}: {code} {out}{error}");
        }
    }
}
