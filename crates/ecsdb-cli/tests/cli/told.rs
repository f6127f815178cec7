//! What an opening did is told, a dry run says what the real one does, and what is damaged or gone is told with what helps.

use std::fs;
use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use serde_json::Value as Json;

use crate::fixture::{Fixture, files};

/// `world` with four segments, two of them in the archive, and two snapshots.
fn segments() -> Fixture {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = fixture.open("world");
    for _ in 0..2 {
        db.rotate_log().unwrap();
        db.write(|tx| Ok(tx.spawn_batch((0..50).map(|_| ())).len())).unwrap();
    }
    db.close().unwrap();
    fixture.ok(&["snapshot", "world"]);
    let db = Database::builder(fixture.path("world")).keep_all().open().unwrap();
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    db.close().unwrap();
    fixture
}

/// Those files of a directory whose names end like that, in their order.
fn ending(dir: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut all: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.to_string_lossy().ends_with(end));
    all.sort();
    all
}

/// Damages what a file holds in its middle, or at its end.
fn spoil(file: &Path, at_end: bool) {
    let mut bytes = fs::read(file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Behind a segment's header, where there is one.
    let at = match end {
        _ if at_end => end - 2,
        4097.. => 4096 + (end - 4096) / 2,
        _ => end / 2,
    };
    bytes[at] ^= 0xff;
    fs::write(file, bytes).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            // A file that is being made has another name the next moment.
            false => match fs::copy(entry.path(), to.join(entry.file_name())) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            },
        }
    }
}

#[test]
fn a_loss_by_salvage_is_told_whatever_was_asked_for() {
    for command in ["snapshot", "compact"] {
        for json in [false, true] {
            let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
            let db = fixture.open("world");
            db.rotate_log().unwrap();
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
            db.close().unwrap();
            spoil(&fixture.path("world/log/0000000000000001.seg"), false);
            fs::write(fixture.path("world/ecsdb.toml"), "[recovery]\npolicy = \"salvage\"\n").unwrap();
            let arguments = [&[command, "world"][..], if json { &["--json"] } else { &[] }].concat();
            let (code, _, _) = fixture.run(&[&arguments[..], &["--dry-run"]].concat());
            assert_eq!(code, 4, "as the real one");
            let (code, out, error) = fixture.run(&arguments);
            assert!(
                code == 4 && error.contains("what had been acknowledged is lost: LSN "),
                "{code} {error}"
            );
            if json {
                let told: Json = serde_json::from_str(&out).unwrap();
                assert_eq!(told["opening"]["data_loss"], "acknowledged");
                assert!(told["opening"]["lost"][0]["last"] == 6 && told["written"] == true, "{told}");
                assert!(error.lines().all(|line| serde_json::from_str::<Json>(line).is_ok()), "{error}");
            } else {
                assert!(!out.contains("nothing"), "{out}");
            }
            // Once it is told, it is done with.
            assert_eq!(fixture.json(&[command, "world"])["opening"]["data_loss"], "none");
        }
    }
}

#[test]
fn what_an_opening_cuts_and_sets_aside_is_told() {
    let fixture = segments();
    let snapshot = ending(&fixture.path("world/snapshots"), ".snap").pop().unwrap();
    spoil(&snapshot, false);
    for (is, dry) in [("would be", &["--dry-run"][..]), ("is", &[])] {
        let (code, _, error) = fixture.run(&[&["snapshot", "world"], dry].concat());
        assert!(code == 0 && error.contains(&format!("{is} passed over")), "{code} {error}");
        assert!(error.contains(&format!("{is} set aside")), "{error}");
    }
    // What a kill leaves: no end is noted in the manifest.
    let db = fixture.open("open");
    copy(&fixture.path("open"), &fixture.path("killed"));
    db.close().unwrap();
    spoil(&fixture.path("killed/log/0000000000000001.seg"), true);
    for (is, dry) in [("would be", &["--dry-run"][..]), ("is", &[])] {
        let (code, _, error) = fixture.run(&[&["compact", "killed"], dry].concat());
        assert!(code == 0 && error.contains(is) && error.contains("the end of the log"), "{code} {error}");
    }
}

/// Whatever state a directory is in, a dry run ends as the real one does, says what that says, and changes nothing.
#[test]
fn a_dry_run_says_what_the_real_one_does_whatever_there_is() {
    let base = segments();
    base.ok(&["compact", "world"]);
    // Of another database, under the same numbers.
    drop(base.open("stranger"));
    let mut random = fastrand::Rng::with_seed(11);
    let mut codes = std::collections::BTreeSet::new();
    for step in 0..150 {
        drop(fs::remove_dir_all(base.path("now")));
        copy(&base.path("world"), &base.path("now"));
        let now = base.path("now");
        if random.bool() {
            let db = Database::builder(&now).keep_all().open().unwrap();
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
            db.close().unwrap();
        }
        if random.u8(..4) == 0 {
            // Nothing says that the end of the log had been durable.
            let db = Database::builder(&now).keep_all().open().unwrap();
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
            copy(&now, &base.path("killed"));
            db.close().unwrap();
            fs::remove_dir_all(&now).unwrap();
            fs::rename(base.path("killed"), &now).unwrap();
        }
        let mut lock = None;
        let mut done = Vec::new();
        for _ in 0..random.usize(..3) {
            let what = random.u8(..10);
            let (dir, end) =
                [("snapshots", ".snap"), ("log", ".seg"), ("archive", ".seg"), ("", ".manifest")]
                    [random.usize(..4)];
            let all = ending(&now.join(dir), end);
            done.push(format!("{what} {dir}"));
            if what == 0 {
                if !dir.is_empty() {
                    drop(fs::remove_dir_all(now.join(dir)));
                }
                continue;
            }
            if what == 1 && lock.is_none() {
                let file = fs::File::open(now.join("LOCK")).unwrap();
                match random.bool() {
                    true => file.try_lock().unwrap(),
                    // Somebody who only reads.
                    false => file.try_lock_shared().unwrap(),
                }
                lock = Some(file);
                continue;
            }
            if all.is_empty() {
                continue;
            }
            let (file, other) = (&all[random.usize(..all.len())], &all[random.usize(..all.len())]);
            // One that an earlier turn made a directory, or a link to nothing.
            if !file.is_file() || !other.is_file() {
                continue;
            }
            match what {
                2 => spoil(file, false),
                3 => spoil(file, true),
                4 => fs::remove_file(file).unwrap(),
                5 => {
                    // In its header.
                    let mut bytes = fs::read(file).unwrap();
                    bytes[40] ^= 1;
                    fs::write(file, bytes).unwrap();
                }
                6 => {
                    let [a, b] = [file, other].map(|path| fs::read(path).unwrap());
                    fs::write(file, b).unwrap();
                    fs::write(other, a).unwrap();
                }
                7 => {
                    let stray = format!("{:016}{end}", random.u64(1..30));
                    fs::write(now.join(dir).join(stray), fs::read(file).unwrap()).unwrap();
                }
                8 => {
                    let to = base.path("moved");
                    fs::rename(file, &to).unwrap();
                    match random.u8(..4) {
                        0 => fs::create_dir(file).unwrap(),
                        1 => fs::rename(&to, now.join("elsewhere")).unwrap(),
                        #[cfg(unix)]
                        2 => std::os::unix::fs::symlink(&to, file).unwrap(),
                        #[cfg(unix)]
                        3 => std::os::unix::fs::symlink(base.path("nowhere"), file).unwrap(),
                        _ => {}
                    }
                }
                _ => {
                    let strangers = ending(&base.path("stranger").join(dir), end);
                    if let Some(stranger) = strangers.first() {
                        fs::copy(stranger, file).unwrap();
                    }
                }
            }
        }
        let policy = ["truncate-tail", "strict", "salvage"][random.usize(..3)];
        let settings = format!("[recovery]\npolicy = \"{policy}\"\n");
        fs::write(now.join("ecsdb.toml"), settings).unwrap();
        let command = ["snapshot", "compact", "repair"][random.usize(..3)];
        let before = files(&now);
        let (would, would_say, why) = base.run(&[command, "now", "--dry-run", "--json"]);
        assert_eq!(files(&now), before, "{step}: {command}");
        let (was, said, error) = base.run(&[command, "now", "--json"]);
        let state =
            format!("{step}: {command} after {done:?} by {policy}: {why}{would_say}then {error}{said}");
        assert_eq!(would, was, "{state}");
        assert_eq!(plain(&why), plain(&error), "{state}");
        codes.insert(was);
        if !said.is_empty() {
            let [mut would, mut was]: [Json; 2] =
                [&would_say, &said].map(|text| serde_json::from_str(text).unwrap());
            if command != "repair" {
                assert_eq!(would["would_write"], was["written"], "{state}");
            }
            assert_eq!(would["written"], false, "{state}");
            for only in ["would_write", "snapshot_bytes", "log_bytes", "keeps_all", "written", "seconds"] {
                would.as_object_mut().unwrap().remove(only);
                was.as_object_mut().unwrap().remove(only);
            }
            assert_eq!(would, was, "{state}");
        }
        drop(lock);
    }
    assert!([0, 3, 4, 5].iter().all(|code| codes.contains(code)), "{codes:?}");
}

/// What is said on standard error, whether it was done or would be; without what a turn of the background says, which comes before the end, or does
/// not: that archive and log do not meet, where the opening's own trim gives up what is before the hole or the command's is the first.
fn plain(error: &str) -> Vec<String> {
    let done = |line: &str| {
        let line = line.split(" is done, but ").next().unwrap();
        let line = line.split(" would be done, but ").next().unwrap();
        line.replace(" would be ", " is ").replace(" are ", " is ")
    };
    let is_certain = |line: &&str| {
        !line.contains("; the log behind it is kept") && !line.contains("the archive has a hole")
    };
    error.lines().filter(is_certain).map(done).collect()
}

#[test]
fn verify_says_what_helps_and_repair_what_it_leaves() {
    let fixture = segments();
    fixture.ok(&["compact", "world"]);
    let archived = ending(&fixture.path("world/archive"), ".seg");
    let first = archived[0].clone();
    spoil(&first, false);
    for _ in 0..2 {
        let (code, out, error) = fixture.run(&["verify", "world"]);
        assert!(code == 4 && error.contains("there is nothing to repair"), "{code} {error}");
        assert!(out.contains("cannot be gone back to for that"), "{out}");
        let name = first.file_name().unwrap().to_str().unwrap();
        let text = fixture.ok(&["repair", "world"]);
        assert!(text.contains("left as it is") && text.contains(name), "{text}");
    }
    // One that is missing, and all of them.
    let damaged = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let one = fixture.ok(&["verify", "world"]);
    fs::rename(fixture.path("world/archive"), fixture.path("elsewhere")).unwrap();
    let all = fixture.ok(&["verify", "world"]);
    for text in [one, all] {
        assert!(text.contains("away: ") && text.ends_with("everything that is there verifies\n"), "{text}");
    }
    // What is damaged beside a hole is told all the same.
    fs::rename(fixture.path("elsewhere"), fixture.path("world/archive")).unwrap();
    fs::write(&first, damaged).unwrap();
    fs::remove_file(&archived[2]).unwrap();
    let (code, out, _) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && out.contains("away: ") && out.contains("DAMAGED "), "{code} {out}");
    // Where recovery needs it.
    let fixture = segments();
    let segment = ending(&fixture.path("world/log"), ".seg");
    let with = segment.iter().rev().find(|path| fs::metadata(path).unwrap().len() > 4096).unwrap();
    spoil(with, false);
    let (code, _, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && error.contains("let `ecsdb repair` go on"), "{code} {error}");
}

#[test]
fn what_is_gone_is_told_and_not_counted() {
    let fixture = segments();
    let told = |arguments: &[&str]| fixture.json(arguments);
    let named = told(&["info", "world"])["snapshots"].as_array().unwrap().len();
    let snapshots = fixture.path("world/snapshots");
    assert!(named > 0 && told(&["info", "world"])["missing"] == serde_json::json!([]));
    fs::rename(&snapshots, fixture.path("elsewhere")).unwrap();
    for arguments in [&["info", "world"][..], &["snapshot", "world", "--list"]] {
        let now = told(arguments);
        assert_eq!(
            (now["snapshots"].as_array().unwrap().len(), now["missing"].as_array().unwrap().len()),
            (0, named)
        );
        assert!(fixture.ok(arguments).contains("MISSING"), "{arguments:?}");
    }
    fs::rename(fixture.path("elsewhere"), &snapshots).unwrap();
    let log = ending(&fixture.path("world/log"), ".seg");
    assert!(log.len() > 2, "{log:?}");
    fs::remove_file(&log[1]).unwrap();
    let missing = told(&["info", "world"])["missing"].clone();
    assert_eq!(
        missing,
        serde_json::json!([fs::canonicalize(&snapshots)
            .unwrap()
            .parent()
            .unwrap()
            .join("log")
            .join(log[1].file_name().unwrap())])
    );
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_no_place_for_something_new() {
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    std::os::unix::fs::symlink("nowhere", fixture.path("link")).unwrap();
    for command in [
        &["init", "link"][..],
        &["init", "link/new"],
        &["load", "link", "dumped"],
        &["restore", "world", "link"],
        &["backup", "world", "link"],
    ] {
        for dry in [&["--dry-run"][..], &[]] {
            let (code, _, error) = fixture.run(&[command, dry].concat());
            assert!(code == 6 && error.contains("is a link to nothing"), "{command:?}: {code} {error}");
        }
    }
}

/// Who may write everywhere is refused only where nobody may.
#[cfg(unix)]
#[test]
fn where_nothing_can_be_written_a_dry_run_fails_too() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("closed")).unwrap();
    fs::set_permissions(fixture.path("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    for command in [&["init", "closed/new"][..], &["backup", "world", "closed/new"]] {
        let (would, _, why) = fixture.run(&[command, &["--dry-run"]].concat());
        let (was, _, error) = fixture.run(command);
        assert_eq!(would, was, "{command:?}: {why}then {error}");
    }
}

/// A database without snapshots that was not closed: three segments in the log.
fn logged() -> (Fixture, Vec<PathBuf>) {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = fixture.open("open");
    for _ in 0..2 {
        db.rotate_log().unwrap();
        for _ in 0..3 {
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
        }
    }
    copy(&fixture.path("open"), &fixture.path("world"));
    fs::remove_file(fixture.path("world/LOCK")).unwrap();
    db.close().unwrap();
    let segments = ending(&fixture.path("world/log"), ".seg");
    (fixture, segments)
}

#[test]
fn a_log_that_has_lost_its_beginning_is_shown_with_the_loss() {
    let (fixture, segments) = logged();
    assert_eq!(fixture.json(&["wal", "ls", "world"])["holes"], serde_json::json!([]));
    fs::remove_file(&segments[0]).unwrap();
    for (command, shown, code) in [
        (&["wal", "show", "world"][..], 6, 4),
        (&["wal", "show", "world", "--from", "2", "--to", "7"], 2, 4),
        (&["wal", "show", "world", "--to", "4"], 0, 4),
        (&["wal", "show", "world", "--from", "6"], 6, 0),
        (&["wal", "show", "world", "--from", "99"], 0, 3),
        (&["wal", "tail", "world", "-n", "6"], 6, 0),
        (&["wal", "tail", "world", "-n", "7"], 6, 4),
    ] {
        let (found, out, error) = fixture.run(&[command, &["--json"]].concat());
        assert_eq!((out.lines().count(), found), (shown, code), "{command:?}: {out}{error}");
        assert!(code != 4 || error.contains("lost from LSN 1 to 5"), "{command:?}: {error}");
    }
    let (code, out, error) = fixture.run(&["wal", "ls", "world", "--json"]);
    let listed: Json = serde_json::from_str(&out).unwrap();
    let hole =
        serde_json::json!({ "number": 1, "last_number": 1, "first_lsn": 1, "last_lsn": 5, "file": null });
    assert_eq!((code, &listed["holes"]), (4, &serde_json::json!([hole])), "{error}");
}

#[test]
fn every_segment_without_a_header_is_listed() {
    for flipped in [&[0][..], &[1], &[0, 1]] {
        let (fixture, segments) = logged();
        for &segment in flipped {
            let mut bytes = fs::read(&segments[segment]).unwrap();
            bytes[40] ^= 1;
            fs::write(&segments[segment], bytes).unwrap();
        }
        let (code, out, error) = fixture.run(&["wal", "ls", "world", "--json"]);
        let listed: Json = serde_json::from_str(&out).unwrap();
        let mut files: Vec<&str> =
            listed["holes"].as_array().unwrap().iter().filter_map(|hole| hole["file"].as_str()).collect();
        files.sort_unstable();
        let expected: Vec<_> = flipped.iter().map(|&segment| segments[segment].to_str().unwrap()).collect();
        assert!(code == 4 && files.len() == expected.len(), "{flipped:?}: {files:?} {error}");
        assert!(files.iter().zip(&expected).all(|(file, expected)| expected.ends_with(file)), "{files:?}");
    }
}

#[test]
fn a_log_that_has_lost_its_end_or_all_is_not_clean() {
    let fixture = segments();
    let segments = ending(&fixture.path("world/log"), ".seg");
    let listed = |lost: &str| {
        assert_eq!(fixture.run(&["verify", "world"]).0, 4, "{lost}");
        let (code, out, error) = fixture.run(&["wal", "ls", "world", "--json"]);
        let listed: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &listed["tail"]), (4, &"corrupt".into()), "{lost}: {out}{error}");
        let (code, out, _) = fixture.run(&["wal", "ls", "world"]);
        assert!(code == 4 && out.contains("MISSING"), "{lost}: {out}");
        listed["holes"].as_array().unwrap().len()
    };
    fs::remove_file(segments.last().unwrap()).unwrap();
    assert_eq!(listed("the newest"), 1);
    fs::rename(fixture.path("world/log"), fixture.path("elsewhere")).unwrap();
    fs::create_dir(fixture.path("world/log")).unwrap();
    assert_eq!(listed("all"), 1);
}

#[test]
fn what_a_newer_manifest_has_given_up_is_not_missing_where_it_does_not_validate() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = fixture.open("world");
    for _ in 0..2 {
        db.rotate_log().unwrap();
        db.write(|tx| Ok(tx.spawn(()))).unwrap();
        db.snapshot().unwrap().wait().unwrap();
    }
    db.close().unwrap();
    let newest = ending(&fixture.path("world"), ".manifest").pop().unwrap();
    spoil(&newest, false);
    assert_eq!(fixture.json(&["info", "world"])["missing"], serde_json::json!([]));
    let name = newest.file_name().unwrap().to_str().unwrap();
    let (code, _, error) = fixture.run(&["verify", "world"]);
    assert!(code == 4 && error.contains("`ecsdb snapshot` sets it aside"), "{code} {error}");
    for command in ["snapshot", "compact"] {
        let opening = fixture.json(&[command, "world", "--dry-run"])["opening"].clone();
        assert!(opening["passed_over"].to_string().contains(name), "{command}: {opening}");
        assert!(opening["set_aside"].to_string().contains(name), "{command}: {opening}");
    }
    let opening = fixture.json(&["snapshot", "world"])["opening"].clone();
    assert!(opening["passed_over"].to_string().contains(name), "{opening}");
    assert!(opening["set_aside"].to_string().contains(name), "{opening}");
    assert_eq!(fixture.run(&["verify", "world"]).0, 0);
}

#[test]
fn a_directory_in_the_place_of_a_file_is_one_for_a_dry_run_too() {
    let fixture = segments();
    let snapshot = ending(&fixture.path("world/snapshots"), ".snap").pop().unwrap();
    fs::remove_file(&snapshot).unwrap();
    fs::create_dir(&snapshot).unwrap();
    let told = |arguments: &[&str]| {
        let (code, out, error) = fixture.run(arguments);
        let told: Json = serde_json::from_str(&out).unwrap_or_default();
        (code, told["passed_over"].clone(), error)
    };
    let would = told(&["repair", "world", "--dry-run", "--json"]);
    assert_eq!(would, told(&["repair", "world", "--json"]));
}
