//! What is said to be skipped was there, and what cannot be printed ends the command: `wal show` and `wal tail`, of a log that was killed, copied, or is
//! written just then.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use ecsdb::{ByteSize, prelude::*};
use serde_json::Value as Json;

use crate::fixture::{Bag, Clock, Fixture, bag, told};

/// Long enough for anything but a command that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database that keeps its past, in small segments.
fn open(fixture: &Fixture) -> Database {
    let builder = Database::builder(fixture.path("world")).keep_all().config(|config| {
        config.wal.segment_bytes_first = ByteSize(64 << 10);
        config.manual();
    });
    builder.open().unwrap()
}

fn tick(db: &Database) -> u64 {
    let now = Clock(db.view().unwrap().lsn().0);
    db.write(|tx| Ok(tx.insert_resource(now))).unwrap();
    db.view().unwrap().lsn().0
}

/// `world` as a kill leaves it within a transaction of several parts. Gives the number of that.
fn kill_within(fixture: &Fixture) -> u64 {
    let db = open(fixture);
    // What is done in the background may be at work. The manifest is that of before: one that is later knows that the transaction was durable.
    let names = || {
        let dirs = ["world", "world/log"].map(|dir| fs::read_dir(fixture.path(dir)).unwrap());
        dirs.into_iter().flatten().map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    loop {
        let before = names();
        std::thread::sleep(Duration::from_millis(100));
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(fixture.path("world")).arg(fixture.path("killed")).stderr(Stdio::null());
        if copy.status().unwrap().success() && names() == before {
            break;
        }
        fs::remove_dir_all(fixture.path("killed")).unwrap();
    }
    let noise = (0..6 << 20).map(|_| fastrand::u8(..)).collect();
    db.write(|tx| {
        let ship = tx.spawn((Clock(0),));
        Ok(tx.spawn(Bag { data: noise, ..bag(ship) }))
    })
    .unwrap();
    let lsn = db.view().unwrap().lsn().0;
    for segment in names().into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg")) {
        fs::copy(&segment, fixture.path("killed/log").join(segment.file_name().unwrap())).unwrap();
    }
    db.close().unwrap();
    fs::remove_dir_all(fixture.path("world")).unwrap();
    fs::rename(fixture.path("killed"), fixture.path("world")).unwrap();
    let all = fixture.json(&["wal", "ls", "world"]);
    let last = all["segments"].as_array().unwrap().last().unwrap();
    assert_eq!(last["last_lsn"], lsn);
    let file = fixture.dir.path().join(last["file"].as_str().unwrap());
    let used = last["used_bytes"].as_u64().unwrap() as usize;
    let mut bytes = fs::read(&file).unwrap();
    bytes[used - (1 << 20)..].fill(0);
    fs::write(file, bytes).unwrap();
    lsn
}

/// The LSNs that are shown, one by one. What is skipped is none of them.
fn shown(lines: &[Json]) -> Vec<u64> {
    lines.iter().map(|line| line["lsn"].as_u64().unwrap_or_else(|| panic!("{line}"))).collect()
}

/// A number that an opening passes over was never a transaction's, and is not missing: in the middle, at the end, below a snapshot, archived.
#[test]
fn what_never_was_is_not_said_to_be_skipped() {
    let mut random = fastrand::Rng::with_seed(8);
    let mut killed = 0;
    for case in 0..6 {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
        let (mut last, mut never) = (tick(&open(&fixture)), Vec::new());
        let mut done = vec!["open"];
        for _ in 0..6 {
            match random.u8(..5) {
                0 if never.len() < 3 => {
                    last = kill_within(&fixture);
                    never.push(last);
                    done.push("kill");
                    killed += 1;
                }
                1 => {
                    fixture.ok(&["snapshot", "world"]);
                    done.push("snapshot");
                }
                2 => {
                    fixture.ok(&["compact", "world"]);
                    done.push("compact");
                }
                3 => {
                    open(&fixture).close().unwrap();
                    done.push("open");
                }
                _ => {
                    let db = open(&fixture);
                    (0..random.u8(1..3)).for_each(|_| last = tick(&db));
                    db.close().unwrap();
                    done.push("write");
                }
            }
            let wanted: Vec<u64> = (1..=last).filter(|lsn| !never.contains(lsn)).collect();
            for call in [&["wal", "show", "world"][..], &["wal", "tail", "world", "-n", "99"]] {
                assert_eq!(shown(&fixture.lines(call)), wanted, "{case}: {done:?}: {call:?}");
            }
        }
    }
    assert!(killed > 5, "{killed}");
}

struct Followed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Followed {
    fn new(fixture: &Fixture, call: &[&str]) -> Followed {
        let mut child = fixture.command(call).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Followed { child, lines }
    }

    fn next(&mut self) -> Json {
        self.lines.next().unwrap().unwrap().parse().unwrap()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Where nothing is in the log, it goes on from the snapshot; and over what never was.
#[test]
fn a_log_that_is_followed_begins_with_what_comes() {
    for begin in ["backup", "trimmed", "killed"] {
        for n in ["0", "3", "99"] {
            let fixture = Fixture::new();
            match begin {
                "backup" => {
                    fixture.ok(&["backup", "world", "copy"]);
                    fs::remove_dir_all(fixture.path("world")).unwrap();
                    fs::rename(fixture.path("copy"), fixture.path("world")).unwrap();
                }
                "trimmed" => {
                    let db = Database::open(fixture.path("world")).unwrap();
                    db.snapshot().unwrap().wait().unwrap();
                    db.close().unwrap();
                }
                _ => {
                    kill_within(&fixture);
                    fixture.ok(&["snapshot", "world"]);
                }
            }
            let before = fixture.lines(&["wal", "tail", "world", "-n", n]);
            let mut followed =
                Followed::new(&fixture, &["wal", "tail", "world", "--follow", "-n", n, "--json"]);
            assert_eq!(shown(&before), shown(&before.iter().map(|_| followed.next()).collect::<Vec<_>>()));
            // Once it has looked.
            std::thread::sleep(Duration::from_millis(500));
            let db = Database::open(fixture.path("world")).unwrap();
            for _ in 0..2 {
                let lsn = tick(&db);
                let line = followed.next();
                assert_eq!(line["lsn"], lsn, "{begin} -n {n}: {line}");
            }
        }
    }
}

/// The settings are those of the beginning, whatever becomes of their file.
#[test]
fn settings_are_read_once() {
    for call in [
        &["wal", "tail", "world", "--follow", "-n", "1", "--json"][..],
        &["info", "world", "--watch", "--json"],
    ] {
        for text in ["[wal]\nflush_intervall = \"1s\"\n", "[wal]\ndir = \"elsewhere\"\n"] {
            let fixture = Fixture::new();
            let mut followed = Followed::new(&fixture, call);
            followed.next();
            fs::write(fixture.path("world/ecsdb.toml"), text).unwrap();
            std::thread::sleep(Duration::from_millis(1200));
            let lsn = tick(&Database::open(fixture.path("world")).unwrap());
            let since = Instant::now();
            loop {
                let line = followed.next();
                if line["lsn"] == lsn || line["state"]["lsn"] == lsn {
                    break;
                }
                assert!(since.elapsed() < PATIENCE, "{call:?}: {line}");
            }
        }
    }
}

fn ended(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_some()
}

/// Somebody writes, and so what goes wrong may be a race, but not where the lines go.
#[test]
fn an_output_that_fails_ends_the_command_while_somebody_writes() {
    let fixture = Fixture::new();
    let db = open(&fixture);
    for now in 0..2000 {
        db.write_with(Durability::Buffered, |tx| Ok(tx.insert_resource(Clock(now)))).unwrap();
    }
    for call in [&["wal", "show", "world", "--json"][..], &["wal", "tail", "world", "-n", "9999"]] {
        for is_closed in [false, true] {
            let mut command = fixture.command(call);
            command.stderr(Stdio::piped());
            let mut child = if is_closed {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                command.stdout(writer).spawn().unwrap()
            } else {
                command.stdout(File::options().write(true).open("/dev/full").unwrap()).spawn().unwrap()
            };
            let since = Instant::now();
            while !ended(&mut child) && since.elapsed() < PATIENCE {
                tick(&db);
            }
            let is_ended = ended(&mut child);
            let _ = child.kill();
            let (code, _, error) = told(child.wait_with_output().unwrap());
            assert!(is_ended, "{call:?}: it looks again and again");
            match is_closed {
                true => assert_eq!((code, &*error), (0, ""), "{call:?}"),
                false => assert!(code == 1 && error.contains("cannot write to standard output"), "{error}"),
            }
        }
    }
}

/// A pipe that takes no more, and does not wait, of which somebody goes on to read: nothing comes after what it did not take.
#[test]
fn nothing_comes_after_a_line_that_is_lost() {
    use rustix::fs::{OFlags, fcntl_setfl};
    let fixture = Fixture::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut command = fixture.command(&["wal", "tail", "world", "--follow", "-n", "1", "--json"]);
    let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let read = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), [0; 64 << 10]);
        while let Ok(n @ 1..) = reader.read(&mut part) {
            all.extend_from_slice(&part[..n]);
            std::thread::sleep(Duration::from_millis(3));
        }
        all
    });
    let db = open(&fixture);
    let since = Instant::now();
    let mut now = 0;
    while !ended(&mut child) && since.elapsed() < PATIENCE {
        for _ in 0..3000 {
            now += 1;
            db.write_with(Durability::Buffered, |tx| Ok(tx.insert_resource(Clock(now)))).unwrap();
        }
        tick(&db);
    }
    let is_ended = ended(&mut child);
    let _ = child.kill();
    let (code, _, error) = told(child.wait_with_output().unwrap());
    let read = String::from_utf8(read.join().unwrap()).unwrap();
    let whole = read.rsplit_once('\n').unwrap().0;
    for (line, lsn) in whole.lines().zip(5..) {
        let told: Json = line.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(told["lsn"], lsn, "{line}");
    }
    assert!(is_ended, "it goes on");
    assert!(code == 1 && error.contains("cannot write to standard output"), "{code} {error}");
}
