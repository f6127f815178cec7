//! Which settings hold, wherever they are said: for dry runs, new databases, copies, and for what becomes of the past.

use std::path::Path;

use ecsdb::prelude::*;
use serde_json::{Value as Json, json};

use crate::fixture::{Fixture, Health, files, told};

pub(crate) type Environment<'a> = &'a [(&'a str, &'a str)];

/// Runs a command with these variables.
pub(crate) fn with(
    fixture: &Fixture,
    environment: Environment<'_>,
    arguments: &[&str],
) -> (i32, String, String) {
    told(fixture.command(arguments).envs(environment.iter().copied()).output().unwrap())
}

pub(crate) fn ok(fixture: &Fixture, environment: Environment<'_>, arguments: &[&str]) -> String {
    let (code, out, error) = with(fixture, environment, arguments);
    assert_eq!(code, 0, "{environment:?} {arguments:?}: {out}{error}");
    out
}

fn json_of(fixture: &Fixture, environment: Environment<'_>, arguments: &[&str]) -> Json {
    let out = ok(fixture, environment, &[arguments, &["--json"]].concat());
    serde_json::from_str(&out).unwrap()
}

pub(crate) fn empty() -> Fixture {
    Fixture { dir: tempfile::tempdir().unwrap() }
}

/// One more session of a program, which says what it says and takes a snapshot.
fn session(dir: &Path, say: impl FnOnce(&mut PersistenceConfig)) {
    let db = Database::builder(dir).config(say).open().unwrap();
    for now in 0..3 {
        db.write(|tx| Ok(tx.spawn(Health { now, max: 9 }))).unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
}

/// Sessions of a program that keeps everything.
pub(crate) fn with_past(fixture: &Fixture, sessions: usize) {
    for _ in 0..sessions {
        session(&fixture.path("world"), |config| {
            config.archive.enabled = Some(true);
            config.retention.unlimited = true;
            config.snapshot.chain_max = 1;
        });
    }
}

fn first_moment(fixture: &Fixture) -> u64 {
    fixture.json(&["info", "world"])["moments"]["first"]["lsn"].as_u64().unwrap_or(0)
}

#[test]
fn a_dry_run_of_a_repair_changes_nothing_wherever_the_files_lie() {
    for (owner, moved, in_file) in
        [(true, false, false), (false, false, false), (true, true, false), (false, true, true)]
    {
        let fixture = empty();
        let root = fixture.dir.path().canonicalize().unwrap();
        let [log, snapshots, archive] = ["L", "S", "A"].map(|name| root.join(name).display().to_string());
        let environment =
            [("ECDB_WAL_DIR", &*log), ("ECDB_SNAPSHOT_DIR", &*snapshots), ("ECDB_ARCHIVE_DIR", &*archive)];
        ok(&fixture, &environment, &["init", "world"]);
        let mut config = PersistenceConfig::new(fixture.path("world"));
        (config.wal.dir, config.snapshot.dir) = (Some(log.clone().into()), Some(snapshots.clone().into()));
        let db = Database::new_with_persistence(config).unwrap();
        for now in 0..5 {
            db.write(|tx| Ok(tx.spawn(Health { now: 1000 + now, max: 77 }))).unwrap();
        }
        db.close().unwrap();
        let segment = Path::new(&log).join("0000000000000001.seg");
        let segment = if segment.exists() { segment } else { Path::new(&log).join("0000000000000002.seg") };
        let mut bytes = std::fs::read(&segment).unwrap();
        let value = [1002u32.to_le_bytes(), 77u32.to_le_bytes()].concat();
        let at = bytes.windows(8).position(|window| window == value).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        if !owner {
            std::fs::remove_file(root.join("L/OWNER")).unwrap();
        }
        let name = if moved { "elsewhere" } else { "world" };
        if moved {
            std::fs::rename(fixture.path("world"), fixture.path(name)).unwrap();
        }
        let mut environment = &environment[..];
        if in_file {
            let text = format!(
                "[wal]\ndir = {log:?}\n[snapshot]\ndir = {snapshots:?}\n[archive]\ndir = {archive:?}\n"
            );
            std::fs::write(fixture.path(name).join("ecsdb.toml"), text).unwrap();
            environment = &[];
        }
        let before = files(&root);
        let would = json_of(&fixture, environment, &["repair", name, "--dry-run"]);
        assert_eq!(would["lost"][0]["first"], 3, "{would}");
        let text = ok(&fixture, environment, &["repair", name, "--dry-run"]);
        assert_eq!(files(&root), before, "{text}");
        let temporary = std::env::temp_dir().display().to_string();
        for told in [text, would.to_string()] {
            assert!(told.contains(&*segment.to_string_lossy()), "{told}");
            assert!(!told.replace(&*root.to_string_lossy(), "").contains(&temporary), "{told}");
        }
        // And it was true.
        assert_eq!(json_of(&fixture, environment, &["repair", name])["lost"], would["lost"]);
    }
}

#[test]
fn the_settings_that_are_shown_and_the_example_change_nothing_as_a_file() {
    for file in [&["config", "show", "world"][..], &["config", "example"]] {
        for program in [false, true] {
            let fixture = Fixture::new();
            if program {
                with_past(&fixture, 3);
            } else {
                for _ in 0..3 {
                    session(&fixture.path("world"), |config| config.manual());
                    fixture.ok(&["snapshot", "world"]);
                }
            }
            let before = first_moment(&fixture);
            let shown = fixture.ok(file);
            std::fs::write(fixture.path("world").join("ecsdb.toml"), shown).unwrap();
            for command in ["snapshot", "compact"] {
                let would = fixture.json(&[command, "world", "--dry-run"]);
                assert_eq!(would["given_up"]["segments"], 0, "{file:?} {would}");
                let was = fixture.json(&[command, "world"]);
                assert_eq!(
                    (&was["given_up"], first_moment(&fixture)),
                    (&would["given_up"], before),
                    "{file:?}"
                );
            }
            assert_eq!(
                fixture.ok(&["snapshot", "world"]).lines().last(),
                Some("nothing of the past is given up")
            );
        }
    }
}

#[test]
fn what_is_noted_is_shown_and_not_said() {
    let fixture = Fixture::new();
    let shown = fixture.ok(&["config", "show", "world"]);
    assert!(shown.starts_with("# Nothing was ever said of archive.enabled and retention: "), "{shown}");
    assert!(!shown.contains("enabled =") && !shown.contains("[retention]"), "{shown}");
    session(&fixture.path("world"), |config| config.archive.enabled = Some(true));
    let shown = fixture.ok(&["config", "show", "world"]);
    assert!(shown.contains("archive.enabled = true, retention.bytes_max = \"10 GiB\"."), "{shown}");
    let noted = fixture.json(&["config", "show", "world"])["noted"].clone();
    assert_eq!(
        (&noted["archive"]["enabled"], &noted["retention"]["bytes_max"]),
        (&json!(true), &json!("10 GiB"))
    );
    let shown = ok(&fixture, &[("ECDB_RETENTION_AGE_MAX", "7days")], &["config", "show", "world"]);
    assert!(shown.contains("\n[retention]\nsnapshots_max = 0\nage_max = \"7days\"\n"), "{shown}");
}

#[test]
fn what_is_noted_and_cannot_be_read_is_not_taken_for_nothing() {
    let fixture = Fixture::new();
    for path in std::fs::read_dir(fixture.path("world")).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_some_and(|ending| ending == "manifest") {
            std::fs::write(path, "spoilt").unwrap();
        }
    }
    let shown = fixture.ok(&["config", "show", "world"]);
    assert!(
        shown.starts_with("# What is noted of archive.enabled and retention cannot be read: "),
        "{shown}"
    );
    std::fs::write(fixture.path("shown.toml"), shown).unwrap();
    fixture.ok(&["config", "check", "shown.toml"]);
    assert_eq!(fixture.json(&["config", "show", "world"])["noted"], Json::Null);
}

/// What is said holds, wherever it is said, and what is not gives nothing up; dry runs say just what is done then.
#[test]
fn what_of_the_past_goes_is_foreseen_and_goes_by_what_is_said_at_random() {
    let mut random = fastrand::Rng::with_seed(5);
    let (mut gone, mut kept, mut alone) = (0, 0, 0);
    for case in 0..30 {
        let fixture = empty();
        fixture.ok(&["init", "world"]);
        with_past(&fixture, random.usize(0..5));
        if random.bool() {
            // What a program that says nothing has left.
            session(&fixture.path("world"), |config| config.archive.enabled = Some(false));
            session(&fixture.path("world"), |_| {});
        }
        let choices = [
            ("archive", "enabled", &["", "", "true", "false"][..]),
            ("retention", "snapshots_max", &["", "", "1", "2"]),
            ("snapshot", "chain_max", &["1", "2"]),
        ];
        let said =
            choices.map(|(section, name, values)| (section, name, values[random.usize(0..values.len())]));
        let said: Vec<_> = said.into_iter().filter(|(_, _, value)| !value.is_empty()).collect();
        let in_file = random.bool();
        let (mut text, mut environment) = (String::new(), Vec::new());
        for (section, name, value) in &said {
            text += &format!("{section}.{name} = {value}\n");
            environment.push((format!("ECDB_{section}_{name}").to_uppercase(), *value));
        }
        let mut environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (&**name, *value)).collect();
        if in_file {
            environment.clear();
            std::fs::write(fixture.path("world").join("ecsdb.toml"), text).unwrap();
        }
        let command = ["snapshot", "compact", "repair"][random.usize(0..3)];
        let first = first_moment(&fixture);
        let would = json_of(&fixture, &environment, &[command, "world", "--dry-run"]);
        let was = json_of(&fixture, &environment, &[command, "world"]);
        let context = format!("{case}: {command} {said:?} {in_file}: {would} {was}");
        assert_eq!(would["given_up"], was["given_up"], "{context}");
        let text = ok(&fixture, &environment, &[command, "world"]);
        assert!(!text.contains("of the past is given up: "), "there was nothing left to give up: {text}");
        let now = first_moment(&fixture);
        let moments = &was["given_up"]["moments_before"];
        assert_eq!(moments.as_u64(), (now > first).then_some(now), "{context}");
        // What is said to be gone is gone, and what is said to be left is there.
        let left: Vec<u64> = serde_json::from_value(was["given_up"]["moments_kept"].clone()).unwrap();
        let last = fixture.json(&["hash", "world"])["state"]["lsn"].as_u64().unwrap();
        for lsn in (1..=last).filter(|lsn| left.contains(lsn) || random.u8(..4) == 0) {
            let is_there = moments.as_u64().is_none_or(|before| lsn >= before || left.contains(&lsn));
            let (code, _, error) = fixture.run(&["hash", "world", "--lsn", &lsn.to_string()]);
            if moments.is_u64() || lsn >= now {
                assert_eq!(code, if is_there { 0 } else { 3 }, "{lsn}: {error} {context}");
            }
            alone += u32::from(left.contains(&lsn));
        }
        let says = |name: &str| said.iter().any(|(_, said, _)| *said == name);
        if !says("enabled") && !says("snapshots_max") {
            assert_eq!((&was["given_up"]["segments"], now), (&json!(0), first), "{context}");
            kept += 1;
        }
        gone += u32::from(was["given_up"]["segments"] != 0);
    }
    assert!(gone > 2 && kept > 2 && alone > 2, "{gone} {kept} {alone}");
}

#[test]
fn a_copy_keeps_what_was_said_of_the_past() {
    let fixture = empty();
    with_past(&fixture, 2);
    std::fs::write(fixture.path("world").join("ecsdb.toml"), "[snapshot]\nchain_max = 2\n").unwrap();
    let told = fixture.ok(&["backup", "world", "copy"]);
    assert!(told.contains("the settings in world/ecsdb.toml are no part of it"), "{told}");
    let copied = fixture.path("copied");
    ecsdb::restore_copy(
        &PersistenceConfig::new(fixture.path("world")),
        &fixture.path("restored"),
        Moment::Latest,
        |_| {},
    )
    .unwrap();
    let db = Database::open(fixture.path("world")).unwrap();
    db.backup_to(&copied).unwrap().wait().unwrap();
    db.close().unwrap();
    let noted = |name: &str| fixture.json(&["config", "show", name])["noted"].clone();
    for name in ["copy", "restored", "copied"] {
        assert_eq!(noted(name), noted("world"), "{name}");
        assert_eq!(noted(name)["retention"]["unlimited"], true);
    }
    // A program that says nothing goes on to keep all.
    for _ in 0..3 {
        session(&copied, |_| {});
    }
    assert_eq!(fixture.json(&["hash", "copied", "--lsn", "7"])["state"]["lsn"], 7);
}

#[test]
fn an_archive_that_is_away_or_has_lost_segments_is_told_by_every_command_that_looks() {
    for lose in ["directory", "segments", "first", "middle", "last"] {
        let fixture = empty();
        with_past(&fixture, 5);
        assert_eq!(fixture.json(&["verify", "world"])["away"], json!([]));
        let archive = fixture.path("world/archive");
        let mut segments: Vec<_> =
            std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
        segments.retain(|path| path.to_string_lossy().contains(".seg"));
        segments.sort();
        assert!(segments.len() > 2, "{segments:?}");
        let lost = match lose {
            "first" => &segments[..1],
            "middle" => &segments[1..2],
            "last" => &segments[segments.len() - 1..],
            _ => &segments[..],
        };
        match lose {
            "directory" => std::fs::rename(&archive, fixture.path("away")).unwrap(),
            _ => lost.iter().for_each(|path| std::fs::remove_file(path).unwrap()),
        }
        let named = if lost.len() == 1 { &lost[0] } else { &archive };
        for command in ["verify", "info"] {
            // A hole that later segments prove is damage, too.
            let (_, out, _) = fixture.run(&[command, "world", "--json"]);
            let found: Json = serde_json::from_str(&out).unwrap();
            let named = named.canonicalize().unwrap_or(named.clone());
            assert_eq!(found["away"], json!([named]), "{lose} {command}");
            assert!(fixture.run(&[command, "world"]).1.to_lowercase().contains("away"), "{lose} {command}");
        }
        session(&fixture.path("world"), |config| config.manual());
        for command in ["snapshot", "compact"] {
            let (code, _, error) = fixture.run(&[command, "world", "--dry-run"]);
            let (was, out, told) = fixture.run(&[command, "world"]);
            let wanted = if lose == "directory" { "is away" } else { "the archive has a hole" };
            assert!(told.contains(wanted), "{lose} {command}: {out}{told}");
            // A dry run says what the real one does.
            assert!(code == was && error == told, "{lose} {command}: {code} {was} {error}");
        }
    }
}

/// The segments that are missing are listed, and what is behind them is there.
#[test]
fn the_last_transactions_are_shown_behind_a_hole_in_the_archive() {
    let fixture = empty();
    with_past(&fixture, 6);
    let all = fixture.json(&["wal", "ls", "world"]);
    let last = all["last_lsn"].as_u64().unwrap();
    assert_eq!((&all["tail"], &all["holes"]), (&"clean".into(), &json!([])));
    let gone = all["segments"].as_array().unwrap()[1].clone();
    assert_eq!(gone["archived"], true, "{all}");
    let file = fixture.dir.path().join(gone["file"].as_str().unwrap());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    for damaged in [false, true] {
        if damaged {
            std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        }
        let (code, out, error) = fixture.run(&["wal", "ls", "world", "--json"]);
        let holed: Json = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (code, &holed["last_lsn"], &holed["tail"]),
            (4, &last.into(), &"corrupt".into()),
            "{error}"
        );
        let (code, out, error) = fixture.run(&["wal", "ls", "world"]);
        assert!(code == 4 && error.contains("transactions are lost from LSN"), "{out}{error}");
        assert!(out.contains(if damaged { "DAMAGED" } else { "MISSING" }), "{out}");
        assert!(out.contains(&format!("the last transaction that is there is {last}")), "{out}");
        if !damaged {
            assert_eq!(holed["holes"][0]["number"], gone["number"]);
        }
        let tail = fixture.lines(&["wal", "tail", "world", "-n", "1"]);
        assert_eq!((tail.len(), &tail[0]["lsn"]), (1, &last.into()));
        let (code, out, error) = fixture.run(&["wal", "tail", "world", "-n", "99", "--json"]);
        assert!(code == 4 && error.contains("the archive has lost") && error.contains(".seg.zst"), "{error}");
        assert!(out.lines().last().unwrap().contains(&format!("\"lsn\":{last},")), "{out}");
    }
}
