//! Calls that cannot be obeyed, surroundings that cannot be right, and what is said of them.

use std::process::Output;

use serde_json::Value as Json;

use crate::fixture::{Fixture, told};

fn with(fixture: &Fixture, name: &str, value: &str, arguments: &[&str]) -> (i32, String, String) {
    told(fixture.command(arguments).env(name, value).output().unwrap())
}

#[test]
fn a_call_that_is_none_is_a_line_of_json_where_that_is_asked_for() {
    let fixture = Fixture::new();
    for (arguments, what) in [
        (&["--json"][..], "requires a subcommand"),
        (&["wal", "--json"], "requires a subcommand"),
        (&["hahs", "--json"], "unrecognized subcommand 'hahs'; tip: a similar subcommand exists: 'hash'"),
        (&["--json", "inspect", "world", "0x"], "is no entity id"),
        (&["hash", "world", "--lsn", "1", "--snapshot", "1", "--json"], "cannot be used with"),
        (&["restore", "world", "--json"], "<TO>"),
        (&["demo", "--flights", "0", "--json"], "--flights"),
        (&["bench", "--entities", "100000000", "--json"], "--entities"),
        (&["bench", "--seconds", "1e9", "--json"], "--seconds"),
        (&["wal", "show", "world", "--from", "5", "--to", "3", "--json"], "--from 5 is behind --to 3"),
    ] {
        let (code, out, error) = fixture.run(arguments);
        assert!(code == 2 && out.is_empty() && error.lines().count() == 1, "{arguments:?}: {out}{error}");
        let json: Json = serde_json::from_str(&error).unwrap_or_else(|e| panic!("{e}: {error}"));
        assert_eq!((&json["kind"], &json["code"]), (&"usage".into(), &2.into()));
        let text = json["error"].as_str().unwrap();
        assert!(text.contains(what) && !text.contains("demo-child") && !text.contains("Usage:"), "{text}");
    }
    let (code, _, error) = fixture.run(&["restore", "world"]);
    assert!(code == 2 && error.contains("Usage: ecsdb restore"), "{error}");
    assert!(fixture.ok(&["hash", "--help", "--json"]).contains("Usage: ecsdb hash"));
    // What follows it is no option.
    let (code, _, error) = fixture.run(&["restore", "world", "--", "to", "--json"]);
    assert!(code == 2 && error.contains("Usage:"), "{error}");
    let help = fixture.ok(&["export", "--help"]);
    assert!(help.contains("Usage: ecsdb export [OPTIONS] <DIR> --parquet <TO>"), "{help}");
}

#[test]
fn settings_that_are_there_and_cannot_be_read_are_no_settings_that_are_not_there() {
    let fixture = Fixture::new();
    let file = fixture.path("world").join("ecsdb.toml");
    let refused = |wanted: i32, what: &str| {
        for command in [&["info", "world"][..], &["snapshot", "world"], &["config", "check", "world"]] {
            let (code, out, error) = fixture.run(command);
            assert!(code == wanted && error.contains(what), "{command:?}: {code} {out}{error}");
        }
    };
    std::fs::create_dir(&file).unwrap();
    refused(2, "ecsdb.toml is no file");
    std::fs::remove_dir(&file).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", &file).unwrap();
        refused(2, "ecsdb.toml is a link to nothing");
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("ecsdb.toml", &file).unwrap();
        refused(1, "ecsdb.toml: ");
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, "dir = \"/elsewhere\"\n").unwrap();
    refused(2, "of the database in /elsewhere, not of that in world");
    for own in [".", "../world"] {
        std::fs::write(&file, format!("dir = \"{own}\"\n")).unwrap();
        fixture.ok(&["info", "world"]);
        fixture.ok(&["config", "check", "world"]);
    }
}

#[test]
fn a_variable_that_is_no_setting_is_one_warning() {
    let fixture = Fixture::new();
    let stray = |arguments: &[&str]| with(&fixture, "ECDB_WAL_DIRR", "x", arguments);
    let wanted = "environment variable ECDB_WAL_DIRR names no setting: did you mean ECDB_WAL_DIR?";
    let (code, out, error) = stray(&["diff", "world", "world"]);
    assert!(code == 0 && out.contains("the same"), "{out}{error}");
    assert_eq!(error, format!("warning: {wanted}\n"));
    let (code, _, error) = stray(&["hash", "world", "--json"]);
    assert_eq!((code, serde_json::from_str(&error).unwrap()), (0, serde_json::json!({ "warning": wanted })));
    assert_eq!(stray(&["config", "check", "world"]).0, 2);
}

#[test]
fn a_zone_that_is_none_is_said() {
    let fixture = Fixture::new();
    let bogus = |arguments: &[&str]| with(&fixture, "TZ", "Bogus/Zone", arguments);
    let (code, out, error) = bogus(&["info", "world"]);
    assert!(code == 0 && out.contains("+00:00") && error.lines().count() == 1, "{out}{error}");
    assert!(error.contains("\"Bogus/Zone\"") && error.contains("UTC"), "{error}");
    let (code, _, error) = bogus(&["hash", "world", "--time", "2100-01-01T00:00:00"]);
    assert!(code == 2 && error.contains("write the time with an offset"), "{error}");
    let (code, out, error) = bogus(&["hash", "world", "--time", "2100-01-01T00:00:00Z", "--json"]);
    assert!(code == 0 && error.is_empty(), "no time is shown in a zone: {out}{error}");
    for none in ["", "UTC", "EST5EDT,M3.2.0,M11.1.0"] {
        let (code, _, error) = with(&fixture, "TZ", none, &["info", "world"]);
        assert!(code == 0 && error.is_empty(), "{error}");
    }
}

#[test]
fn names_that_are_none_are_met_with_the_nearest_one() {
    let fixture = Fixture::new();
    for (arguments, what) in [
        (
            &["history", "world", "0v1", "game.helth"][..],
            "no component game.helth: did you mean game.health?",
        ),
        (&["query", "world", "--with", ""], "no component with the empty name"),
    ] {
        let (code, _, error) = fixture.run(arguments);
        assert!(code == 2 && error.contains(what), "{arguments:?}: {code} {error}");
    }
    let (code, _, error) = fixture.run(&["history", "world", "0v1", "game.bag"]);
    assert!(code == 3 && error.contains("has no entity 0v1 with game.bag"), "{error}");
    let (code, _, error) = fixture.run(&["hash", "world", "--snapshot", "7"]);
    assert!(code == 3 && error.contains("retained: there are no snapshots"), "{error}");
}

#[test]
fn a_dump_that_is_none_is_named() {
    let fixture = Fixture::new();
    let dump = fixture.ok(&["dump", "world"]);
    std::fs::write(fixture.path("cut"), &dump[..dump.len() - 7]).unwrap();
    std::fs::write(fixture.path("short"), &dump[..dump[..dump.len() - 1].rfind('\n').unwrap() + 1]).unwrap();
    std::fs::write(fixture.path("other"), "root:x:0:0\n").unwrap();
    for (file, wanted, what) in [
        ("cut", 2, "cut: line 12: the dump ends too early"),
        ("short", 2, "short: it ends too early: its last line is missing"),
        ("other", 2, "other: line 1: it does not begin with {"),
        ("nowhere", 3, "there is no file nowhere"),
        (".", 2, ".: it is a directory"),
    ] {
        let (code, _, error) = fixture.run(&["load", "new", file]);
        assert!(code == wanted && error.starts_with(&format!("error: {what}")), "{file}: {code} {error}");
        assert!(!fixture.path("new").exists());
    }
}

#[test]
fn a_snapshot_of_nothing_new_is_none() {
    let fixture = Fixture::new();
    assert!(fixture.ok(&["snapshot", "world", "--dry-run"]).contains("at LSN 5 would be written"));
    assert_eq!(fixture.json(&["snapshot", "world"])["written"], true);
    let again = fixture.json(&["snapshot", "world"]);
    assert_eq!((&again["written"], &again["number"], &again["lsn"]), (&false.into(), &1.into(), &5.into()));
    for command in [&["snapshot", "world"][..], &["snapshot", "world", "--dry-run"]] {
        let text = fixture.ok(command);
        assert!(text.contains("snapshot 1 has everything already, up to LSN 5"), "{text}");
    }
    let info = fixture.ok(&["info", "world"]);
    assert!(info.contains("as of LSN 5, 20") && info.contains("any moment from LSN 0 to 5, or"), "{info}");
}

#[test]
fn the_settings_that_are_shown_are_a_file_that_says_them() {
    let fixture = Fixture::new();
    let shown = fixture.ok(&["config", "show", "world"]);
    for wanted in ["/world/log\"", "/world/snapshots\"", "/world/archive\""] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    std::fs::write(fixture.path("shown.toml"), &shown).unwrap();
    assert_eq!(fixture.ok(&["config", "show", "world", "--config", "shown.toml"]), shown);
    // What was said last, and is noted in the database, is what holds.
    std::fs::write(fixture.path("world").join("ecsdb.toml"), "[archive]\nenabled = true\n").unwrap();
    fixture.ok(&["snapshot", "world"]);
    std::fs::remove_file(fixture.path("world").join("ecsdb.toml")).unwrap();
    let shown = fixture.ok(&["config", "show", "world"]);
    assert!(shown.contains("enabled = true") && shown.contains("bytes_max = \"10 GiB\""), "{shown}");
}

#[test]
fn what_the_disk_refuses_is_no_mistake_in_a_setting() {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let fixture = Fixture::new();
        let allow = |mode| {
            std::fs::set_permissions(fixture.path("world"), PermissionsExt::from_mode(mode)).unwrap();
        };
        allow(0o000);
        // The superuser is refused nothing.
        if std::fs::read_dir(fixture.path("world")).is_err() {
            let (code, _, error) = fixture.run(&["info", "world"]);
            assert!(code == 1 && error.contains("ermission denied"), "{code} {error}");
        }
        allow(0o700);
    }
}

#[test]
fn a_demo_speaks_json_and_leaves_nothing_behind_when_it_is_interrupted_or_nobody_listens() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    std::fs::create_dir(fixture.path("tmp")).unwrap();
    let demo = |arguments: &[&str]| {
        let mut demo = fixture.command(&[&["demo", "--flights", "300"], arguments].concat());
        demo.env("TMPDIR", fixture.path("tmp"));
        demo
    };
    let Output { status, stdout, .. } = demo(&["--kills", "0", "--json"]).output().unwrap();
    let played: Json = serde_json::from_slice(&stdout).unwrap();
    assert!(status.success() && played["transactions"] == 478, "{played}");
    assert!(played["kills"].as_array().unwrap().is_empty() && played["digest"].is_string(), "{played}");
    let empty = || std::fs::read_dir(fixture.path("tmp")).unwrap().count() == 0;
    assert!(empty());

    let mut unheard = demo(&["--kills", "0"]);
    let mut unheard =
        unheard.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(unheard.stdout.take());
    let (code, _, error) = told(unheard.wait_with_output().unwrap());
    assert!(code == 0 && error.is_empty() && empty(), "{code} {error}");

    for to in [None, Some("given/world")] {
        if !cfg!(unix) {
            break;
        }
        let dir = to.map_or_else(Vec::new, |to| vec!["--dir", to]);
        let mut interrupted = demo(&[&["--kills", "0"], &dir[..]].concat());
        let mut interrupted = interrupted
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let begun = || !empty() || fixture.path("given/world/log").exists();
        while !begun() {
            assert!(interrupted.try_wait().unwrap().is_none());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::process::Command::new("kill").args(["-INT", &interrupted.id().to_string()]).status().unwrap();
        let (code, out, error) = told(interrupted.wait_with_output().unwrap());
        assert_eq!(code, 130, "{out}{error}");
        assert!(empty() && !fixture.path("given").exists(), "{to:?}");
    }
}

#[test]
fn a_time_before_all_times_is_told_as_it_was_asked_for() {
    let fixture = Fixture::new();
    for (time, told) in
        [("1960-01-02T03:04:05Z", "1960-01-02T03:04:05."), ("2001-01-01T00:00:00Z", "2001-01-01T00:00:00.")]
    {
        let (code, out, error) = fixture.run(&["hash", "world", "--time", time]);
        assert!(code == 3 && error.contains(told), "{code} {out}{error}");
    }
    assert!(fixture.ok(&["hash", "world", "--time", "9000-01-01T00:00:00Z"]).contains("LSN 5"));
}

#[test]
fn the_version_is_json_where_that_is_asked_for() {
    let fixture = Fixture::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(fixture.json(&["--version"]), serde_json::json!({ "version": version }));
    assert_eq!(fixture.ok(&["--version"]), format!("ecsdb {version}\n"));
}
