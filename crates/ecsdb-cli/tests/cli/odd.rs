//! Odd names, strangers' files, and files of another kind than was asked for.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::fixture::{Fixture, files, told};

#[cfg(unix)]
#[test]
fn a_path_that_is_no_unicode_is_told_by_its_bytes() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    let fixture = Fixture::new();
    let odd = |name: &str| OsString::from_vec([name.as_bytes(), b"\xff"].concat());
    let told_as = |name: &OsStr| {
        let hex: String = name.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        json!({ "text": name.to_string_lossy(), "bytes": hex })
    };
    let world = odd("world");
    std::fs::rename(fixture.path("world"), fixture.dir.path().join(&world)).unwrap();
    let run = |arguments: &[&str], path: &OsStr, more: &[&OsStr]| {
        told(fixture.command(arguments).arg(path).args(more).output().unwrap())
    };
    std::fs::write(fixture.dir.path().join(odd("settings")), "").unwrap();
    // What is read, and what is told of it; a place that is written to comes last.
    let none: &[&OsStr] = &[];
    for (arguments, path, more, key) in [
        (&["init"][..], odd("made"), none, Some("dir")),
        (&["info"], world.clone(), none, None),
        (&["inspect"], world.clone(), none, None),
        (&["query"], world.clone(), none, None),
        (&["hash"], world.clone(), none, None),
        (&["diff"], world.clone(), &[&world], None),
        (&["history"], world.clone(), &[OsStr::new("0v1")], None),
        (&["dump", "--output"], odd("dumped"), &[&world], Some("file")),
        (&["load"], odd("loaded"), &[&odd("dumped")], Some("to")),
        (&["export", "--parquet"], world.clone(), &[&odd("tables")], None),
        (&["wal", "ls"], world.clone(), none, None),
        (&["wal", "show"], world.clone(), none, None),
        (&["wal", "tail"], world.clone(), none, None),
        (&["verify"], world.clone(), none, None),
        (&["repair", "--dry-run"], world.clone(), none, None),
        (&["snapshot"], world.clone(), none, None),
        (&["restore"], world.clone(), &[&odd("restored")], None),
        (&["backup"], world.clone(), &[&odd("backed")], None),
        (&["compact"], world.clone(), none, None),
        (&["repair"], world.clone(), none, None),
        (&["config", "check"], odd("settings"), none, Some("file")),
        (&["man"], odd("pages"), none, Some("dir")),
        (&["bench", "--seconds", "0", "--entities", "1"], odd("pages"), none, Some("dir")),
    ] {
        let (code, out, error) = run(&[&["--json"], arguments].concat(), &path, more);
        assert!(code == 0 && error.is_empty(), "{arguments:?}: {code} {out}{error}");
        for line in out.lines() {
            let line: Json = serde_json::from_str(line).unwrap();
            if let Some(key) = key {
                assert_eq!(line[key], told_as(&path), "{arguments:?}: {line}");
            }
        }
    }
    // A moment is behind the last @, whatever is before it.
    let mut at = world.clone();
    at.push("@2");
    let (code, out, error) = run(&["diff", "--json"], &at, &[&world]);
    assert_eq!(code, 8, "{error}");
    assert_eq!(serde_json::from_str::<Json>(out.lines().next().unwrap()).unwrap()["a"]["lsn"], 2);
    // No file of settings can name it.
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let (code, out, error) = run(arguments, &world, &[]);
        assert!(code == 2 && out.is_empty() && error.contains("is no Unicode"), "{code} {out}{error}");
    }
    // What is away of it is told likewise.
    let archive = Path::new(&world).join("archive");
    for entry in
        std::fs::read_dir(fixture.dir.path().join(&archive)).unwrap().map(|entry| entry.unwrap().path())
    {
        if entry.to_string_lossy().contains(".seg") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    for command in ["info", "verify"] {
        let (code, out, error) = run(&[command, "--json"], &world, &[]);
        let line: Json = serde_json::from_str(&out).unwrap();
        assert!(code == 0 && line["away"][0]["bytes"].is_string(), "{code} {out}{error}");
    }
}

fn segment(fixture: &Fixture, world: &str, number: u64) -> std::path::PathBuf {
    fixture.path(world).join(format!("log/{number:016}.seg"))
}

#[test]
fn a_strangers_segment_is_in_nobodys_way_unless_one_is_missed_there() {
    let fixture = Fixture::new();
    fixture.open("other").close().unwrap();
    let stranger = std::fs::read(segment(&fixture, "other", 1)).unwrap();
    let digest = fixture.json(&["hash", "world"])["digest"].clone();
    for free in [7, 99] {
        std::fs::write(segment(&fixture, "world", free), &stranger).unwrap();
    }
    for command in [
        &["info", "world"][..],
        &["hash", "world", "--lsn", "3"],
        &["wal", "ls", "world"],
        &["wal", "show", "world"],
        &["history", "world", "0v1"],
        &["verify", "world"],
        &["repair", "world", "--dry-run"],
        &["snapshot", "world"],
        &["compact", "world"],
        &["repair", "world"],
        &["verify", "world"],
        &["backup", "world", "copy"],
    ] {
        fixture.ok(command);
        assert_eq!(fixture.json(&["hash", "world"])["digest"], digest, "{command:?}");
    }
    for free in [7, 99] {
        assert_eq!(std::fs::read(segment(&fixture, "world", free)).unwrap(), stranger);
    }
    // In the place of one that is needed it is said, and nothing is made of it.
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    fixture.ok(&["repair", "world"]);
    let last = (1..).take_while(|number| segment(&fixture, "world", *number).exists()).last().unwrap();
    assert!(last > 1);
    for needed in [1, last] {
        let own = std::fs::read(segment(&fixture, "world", needed)).unwrap();
        std::fs::write(segment(&fixture, "world", needed), &stranger).unwrap();
        // Whoever looks at it to repair it has it locked meanwhile.
        let there = || {
            let mut files = files(&fixture.path("world"));
            files.retain(|(path, ..)| !path.ends_with("LOCK.holder"));
            files
        };
        let before = there();
        for command in ["info", "verify", "repair"] {
            let (code, out, error) = fixture.run(&[command, "world"]);
            let all = format!("{out}{error}");
            // The newest snapshot covers the first.
            let matters = needed == last || command == "verify";
            assert!(
                !matters || (code == 4 && all.contains("belongs to database")),
                "{needed} {command}: {code} {all}"
            );
            if command == "verify" {
                assert!(out.contains("1 snapshot"), "it goes on: {out}");
            }
            if matters {
                assert_eq!(there(), before, "{command}");
            } else {
                break;
            }
        }
        std::fs::write(segment(&fixture, "world", needed), own).unwrap();
        fixture.ok(&["verify", "world"]);
    }
}

#[test]
fn what_is_no_such_file_has_its_exit_code() {
    let fixture = Fixture::new();
    let dir = |name: &str| std::fs::create_dir(fixture.path(name)).unwrap();
    dir("dir");
    dir("used");
    std::fs::write(fixture.path("used/notes"), "mine").unwrap();
    std::fs::write(fixture.path("file"), b"\x7fELF\xff\xfe").unwrap();
    let newer = fixture.ok(&["dump", "world"]).replacen("\"ecsdb_dump\":1", "\"ecsdb_dump\":9", 1);
    std::fs::write(fixture.path("newer"), newer).unwrap();
    std::fs::write(fixture.path("large.toml"), " ".repeat(2 << 20)).unwrap();
    unfinished(&fixture.path("half"));
    for (arguments, wanted, what) in [
        (&["load", "new", "file"][..], 2, "file: line 1: it does not begin with {"),
        (&["load", "new", "dir"], 2, "dir: it is a directory"),
        (&["load", "new", "newer"], 7, "newer: line 1: it is a dump of format 9"),
        (&["init", "file"], 6, "file is there, and no directory"),
        (&["init", "used"], 6, "used is not empty"),
        (&["info", "world", "--config", "dir"], 2, "dir is no file, where a file of settings was expected"),
        (&["info", "world", "--config", "large.toml"], 2, "has more than 1 MiB"),
        (&["config", "check", "large.toml"], 2, "has more than 1 MiB"),
        (&["info", "half"], 3, "half is a copy that was not finished"),
        (&["verify", "half"], 3, "half is a copy that was not finished"),
    ] {
        let (code, out, error) = fixture.run(arguments);
        assert!(code == wanted && error.contains(what), "{arguments:?}: {code} {out}{error}");
    }
    assert!(!fixture.path("new").exists());
    if cfg!(unix) {
        let (code, _, error) = fixture.run(&["config", "check", "/dev/zero"]);
        assert!(code == 2 && error.contains("is no file"), "{code} {error}");
    }
    if Path::new("/dev/full").exists() {
        let full = std::fs::File::create("/dev/full").unwrap();
        let (code, _, error) = told(fixture.command(&["info", "world"]).stdout(full).output().unwrap());
        assert!(code == 1 && error.contains("standard output"), "{code} {error}");
    }
}

/// A directory in which a copy was left unfinished.
fn unfinished(dir: &Path) {
    std::fs::create_dir(dir).unwrap();
    std::fs::write(ecsdb_io::Layout::new(dir).unfinished_file(), "").unwrap();
}

/// Nobody waits for whoever would write into a pipe.
#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_the_lock_is_refused_at_once() {
    let fixture = Fixture::new();
    let lock = fixture.path("world/LOCK");
    let _ = std::fs::remove_file(&lock);
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    for call in
        [&["snapshot", "world"][..], &["snapshot", "world", "--dry-run"], &["compact", "world", "--dry-run"]]
    {
        let mut child = fixture.command(call).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let since = std::time::Instant::now();
        while child.try_wait().unwrap().is_none() && since.elapsed().as_secs() < 30 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = child.kill();
        let (code, _, error) = told(child.wait_with_output().unwrap());
        assert!(code == 1 && error.contains("LOCK: it is no regular file"), "{call:?}: {code} {error}");
    }
}

/// Numbers are whatever somebody wrote: what is listed of them is no longer for that.
#[cfg(unix)]
#[test]
fn a_header_with_huge_numbers_is_listed_as_it_is() {
    let fixture = Fixture::new();
    let db = ecsdb::Database::open(fixture.path("world")).unwrap();
    db.write(|tx| Ok(tx.insert_resource(crate::fixture::Clock(1)))).unwrap();
    db.close().unwrap();
    let listed = fixture.json(&["wal", "ls", "world"]);
    let segments = listed["segments"].as_array().unwrap();
    let [.., before, last] = &segments[..] else { panic!("{listed}") };
    let (number, file) =
        (before["number"].as_u64().unwrap(), fixture.dir.path().join(last["file"].as_str().unwrap()));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let huge = 1_u64 << 40;
    for (sequence, previous, is_damaged) in [
        (huge, huge - 1, false),
        (number + 1, huge, true),
        (number + 1, u64::MAX, true),
        (number + 1, number + 1, true),
    ] {
        let mut bytes = bytes.clone();
        bytes[40..48].copy_from_slice(&sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&previous.to_le_bytes());
        let sum = ecsdb_io::checksum(0, &bytes[..124]);
        bytes[124..128].copy_from_slice(&sum.to_le_bytes());
        let file = file.with_file_name(format!("{sequence:016}.seg"));
        std::fs::write(&file, bytes).unwrap();
        // No test takes the machine with it.
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg("ulimit -v 4000000; exec \"$0\" \"$@\"").arg(env!("CARGO_BIN_EXE_ecsdb"));
        shell.args(["wal", "ls", "world", "--json"]).current_dir(fixture.dir.path());
        let (code, out, error) = told(shell.output().unwrap());
        assert_eq!(code, 4, "{sequence} {previous}: {error}");
        let listed: Json = out.parse().unwrap();
        let holes = listed["holes"].as_array().unwrap();
        let (first, last) = (holes.first().unwrap(), holes.last().unwrap());
        assert!(first["number"] == number + 1 && holes.len() < 4, "{listed}");
        match is_damaged {
            true => assert!(first["file"].is_string(), "{listed}"),
            false => assert!(last["last_number"] == previous && last["file"].is_null(), "{listed}"),
        }
        std::fs::remove_file(file).unwrap();
    }
}
