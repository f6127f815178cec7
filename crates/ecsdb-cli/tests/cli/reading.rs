//! Commands that only read.

use std::io::Read;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ecsdb::prelude::*;

use crate::fixture::{Fixture, Name, told};

#[test]
fn whoever_looks_is_not_confused_by_whoever_writes() {
    let fixture = Fixture::new();
    let db = fixture.open("open");
    let changes = db.reconfigure_with(|config| config.snapshot.chain_max = 2).unwrap();
    assert_eq!(changes.live, ["snapshot.chain_max"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let name = Name(format!("{i}").repeat(50));
                db.write_with(Durability::Batched, |tx| Ok(tx.spawn(name.clone()))).unwrap();
                // Files come and go.
                match i % 4800 {
                    1600 => db.rotate_log().unwrap(),
                    3200 => drop(db.snapshot().unwrap().wait().unwrap()),
                    0 => drop(db.compact().unwrap().wait().unwrap()),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let looked = std::panic::catch_unwind(|| {
            let mut last = 0;
            for _ in 0..8 {
                let lsn = fixture.json(&["hash", "open"])["state"]["lsn"].as_u64().unwrap();
                assert!(lsn >= last, "{lsn} after {last}");
                last = lsn;
                fixture.ok(&["info", "open"]);
                fixture.ok(&["wal", "tail", "open"]);
                fixture.ok(&["history", "open", "0v1"]);
                fixture.ok(&["verify", "open"]);
            }
            assert!(last > 5);
        });
        stop.store(true, Ordering::Relaxed);
        if let Err(panicked) = looked {
            std::panic::resume_unwind(panicked);
        }
    });
    db.close().unwrap();
}

#[test]
fn info_shows_the_moments_that_can_be_gone_back_to() {
    let fixture = Fixture::new();
    let info = fixture.json(&["info", "world"]);
    assert_eq!(info["entities"], 4);
    assert_eq!(info["state"]["lsn"], 5);
    assert_eq!((&info["moments"]["first"]["lsn"], &info["moments"]["last"]["lsn"]), (&0.into(), &5.into()));
    assert_eq!(info["log"]["segments"], 1);
    fixture.ok(&["snapshot", "world"]);
    let info = fixture.json(&["info", "world"]);
    assert_eq!(info["snapshots"][0]["lsn"], 5);
    let text = fixture.ok(&["info", "world"]);
    assert!(text.contains("can go back to") && text.contains("full"), "{text}");
    let listed = fixture.json(&["snapshot", "world", "--list"]);
    assert_eq!(listed["snapshots"], info["snapshots"]);
    let (code, _, error) = fixture.run(&["info", "world", "--watch"]);
    assert!(code == 2 && error.contains("needs a terminal"), "{error}");
}

#[test]
fn inspect_shows_components_with_their_types_and_values_of_an_entity() {
    let fixture = Fixture::new();
    let all = fixture.json(&["inspect", "world"]);
    let health =
        all["components"].as_array().unwrap().iter().find(|one| one["name"] == "game.health").unwrap();
    assert_eq!((&health["kind"], &health["type"]), (&"plain".into(), &"{ now: u32, max: u32 }".into()));
    assert_eq!(health["entities"], 3);
    assert_eq!(all["resources"]["game.clock"], u64::MAX);
    let archetypes = all["archetypes"].as_array().unwrap();
    assert_eq!(archetypes.iter().map(|one| one["entities"].as_u64().unwrap()).sum::<u64>(), 4);

    let ship = fixture.json(&["inspect", "world", "0v1"]);
    assert_eq!(ship["components"]["game.name"], "ship");
    assert_eq!(ship["components"]["game.health"], serde_json::json!({ "now": 7, "max": 100 }));
    assert_eq!(ship["components"]["game.position"], serde_json::json!({ "x": 0.5, "y": -1.0 }));
    let bag = &fixture.json(&["inspect", "world", "1v2"])["components"]["game.bag"];
    assert_eq!(bag["items"]["item 07"], u64::MAX - 7);
    assert_eq!(bag["odds"].as_array().unwrap().len(), 20);
    assert_eq!(bag["floats"][0], "NaN");
    assert_eq!(bag["floats"][1], "NaN:fff8000000000123");
    assert_eq!(bag["floats"][5], 0.1);
    assert_eq!(bag["narrow"][3], 0.1);
    assert_eq!(bag["numbers"][2], u128::MAX.to_string());
    assert_eq!(bag["orders"][1], serde_json::json!({ "Move": { "x": 1.5, "y": -0.0 } }));
    assert_eq!(bag["orders"][2], serde_json::json!({ "Follow": "0v1" }));
    assert_eq!(bag["maybe"], serde_json::json!({ "some": null }));

    let before = fixture.json(&["inspect", "world", "0v1", "--lsn", "2"]);
    assert_eq!(
        (&before["state"]["lsn"], &before["components"]["game.health"]["now"]),
        (&2.into(), &100.into())
    );
    let (code, _, error) = fixture.run(&["inspect", "world", "1v1"]);
    assert!(code == 3 && error.contains("there is no entity 1v1, as of LSN 5"), "{error}");
}

#[test]
fn history_shows_each_value_with_its_transaction() {
    let fixture = Fixture::new();
    let moved = |arguments: &[&str]| -> Vec<(u64, String, String)> {
        let lines = fixture.lines(&[&["history", "world"], arguments].concat());
        lines
            .iter()
            .map(|line| {
                assert!(line["time"].as_str().unwrap().ends_with('Z'));
                (
                    line["lsn"].as_u64().unwrap(),
                    line["what"].as_str().unwrap().to_string(),
                    line["value"].to_string(),
                )
            })
            .collect()
    };
    let health = moved(&["0v1", "game.health"]);
    let value = |lsn, now| (lsn, "value".to_string(), format!("{{\"now\":{now},\"max\":100}}"));
    assert_eq!(health, [value(1, 100), value(3, 7)]);
    let monster: Vec<String> =
        moved(&["1v1"]).into_iter().map(|(lsn, what, _)| format!("{lsn} {what}")).collect();
    assert_eq!(monster, ["2 spawned", "2 value", "2 value", "4 despawned"]);
    // The archive keeps what the snapshot covers.
    fixture.ok(&["compact", "world"]);
    assert_eq!(moved(&["0v1", "game.health"]), health);
    let (code, _, error) = fixture.run(&["history", "world", "99v1"]);
    assert!(code == 3 && error.contains("99v1"), "{error}");
}

#[test]
fn queries_filter_by_components_and_values() {
    let fixture = Fixture::new();
    let found = |arguments: &[&str]| -> Vec<String> {
        let lines = fixture.lines(&[&["query", "world"], arguments].concat());
        assert_eq!(lines[0]["state"]["lsn"], 5);
        let (end, found) = lines[1..].split_last().unwrap();
        assert_eq!(end["entities"], found.len());
        found.iter().map(|line| line["entity"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(found(&[]).len(), 4);
    assert_eq!(found(&["--with", "game.health,game.position"]), ["0v1"]);
    assert_eq!(found(&["--with", "game.health", "--without", "game.position"]).len(), 2);
    assert_eq!(found(&["--where", "game.health.now < 10"]), ["0v1"]);
    assert_eq!(found(&["--where", "game.health.now >= 20 and game.health.now <= 20"]), ["2v1"]);
    assert_eq!(found(&["--where", "game.health.now > 7.5"]).len(), 2);
    assert_eq!(found(&["--where", "game.name = 'monster 3'"]), ["3v1"]);
    assert_eq!(found(&["--where", "game.name != ship"]).len(), 2);
    assert_eq!(found(&["--where", "game.position.x = 0.5"]), ["0v1"]);
    assert_eq!(found(&["--where", "game.bag.owner = 0v1"]), ["1v2"]);
    assert_eq!(found(&["--where", "game.bag.owner = null"]), Vec::<String>::new());
    assert_eq!(found(&["--where", "game.bag.orders.0 = Hold"]), ["1v2"]);
    assert_eq!(found(&["--where", "game.bag.numbers.0 = 18446744073709551615"]), ["1v2"]);
    assert_eq!(found(&["--with", "game.name", "--limit", "2"]).len(), 2);
    let limited = |n: &str| fixture.ok(&["query", "world", "--with", "game.name", "--limit", n]);
    assert!(limited("2").contains("2 entities, and there are more, as of"), "{}", limited("2"));
    assert!(limited("3").contains("3 entities, as of"), "{}", limited("3"));
    for (n, more) in [("0", true), ("2", true), ("3", false), ("4", false)] {
        let lines = fixture.lines(&["query", "world", "--with", "game.name", "--limit", n]);
        assert_eq!(lines.last().unwrap()["more"], more, "{n}");
    }
    let lines =
        fixture.lines(&["query", "world", "--with", "game.health", "--select", "game.name,game.health.now"]);
    assert_eq!(lines[1]["values"], serde_json::json!({ "game.name": "ship", "game.health.now": 7 }));
    let text = fixture.ok(&["query", "world", "--where", "game.health.now < 10", "--select", "game.name"]);
    assert!(text.contains("ship") && text.contains("1 entity, as of LSN 5"), "{text}");
    for (arguments, what) in [
        (["--with", "game.heath"], "did you mean game.health?"),
        (["--where", "game.health.nw < 1"], "no field nw in game.health: did you mean now?"),
        (["--where", "health.now < 1"], "did you mean game.health.now?"),
        (["--with", "health"], "did you mean game.health?"),
        (["--where", "game.health.now = abc"], "game.health.now is u32"),
        (["--where", "game.health.now"], "is no condition"),
        (["--where", "game.name = 'ship"], "has no closing"),
    ] {
        let (code, _, error) = fixture.run(&[&["query", "world"], &arguments[..]].concat());
        assert!(code == 2 && error.contains(what), "{error}");
    }
}

#[test]
fn differences_between_moments_and_databases() {
    let fixture = Fixture::new();
    let (code, out, error) = fixture.run(&["diff", "world@2", "world", "--json"]);
    assert_eq!(code, 8, "{error}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["a"]["lsn"], &lines[0]["b"]["lsn"]), (&2.into(), &5.into()));
    let told: Vec<String> = lines[1..]
        .iter()
        .map(|line| format!("{} {} {}", line["what"], line["entity"], line["component"]).replace('"', ""))
        .collect();
    for expected in [
        "changed 0v1 game.health",
        "removed 1v1 null",
        "removed 1v1 game.name",
        "added 1v2 null",
        "added 1v2 game.bag",
        "added null game.clock",
    ] {
        assert!(told.contains(&expected.to_string()), "{expected} in {told:?}");
    }
    let (code, out, error) = fixture.run(&["diff", "world@3", "world@4"]);
    assert!(code == 8 && error.is_empty() && out.contains("- 1v1 game.name"), "{out}{error}");
    fixture.ok(&["backup", "world", "copy"]);
    assert!(fixture.ok(&["diff", "world", "copy"]).contains("the same"));
    let (code, _, error) = fixture.run(&["diff", "world@yesterday", "world"]);
    assert!(code == 2 && error.contains("RFC 3339"), "{error}");
}

#[test]
fn the_log_is_listed_shown_and_followed() {
    let fixture = Fixture::new();
    let log = fixture.json(&["wal", "ls", "world"]);
    assert_eq!(
        (&log["last_lsn"], &log["tail"], &log["segments"][0]["first_lsn"]),
        (&5.into(), &"clean".into(), &1.into())
    );
    let all = fixture.lines(&["wal", "show", "world"]);
    assert_eq!(all.len(), 5);
    assert_eq!(all[3]["lsn"], 4);
    let ops: Vec<&str> =
        all[3]["changes"].as_array().unwrap().iter().map(|op| op["op"].as_str().unwrap()).collect();
    assert!(ops.contains(&"despawn") && ops.contains(&"put_resource"), "{ops:?}");
    assert_eq!(fixture.lines(&["wal", "show", "world", "--from", "2", "--to", "3"]).len(), 2);
    let tail = fixture.lines(&["wal", "tail", "world", "-n", "2"]);
    assert_eq!(tail[0]["lsn"], 4);
    let text = fixture.ok(&["wal", "show", "world", "--from", "2", "--to", "2"]);
    assert!(text.contains("spawn 1v1, 2v1, 3v1 game.name, game.health"), "{text}");

    let db = fixture.open("open");
    let mut follow = fixture.command(&["wal", "tail", "open", "-n", "1", "--follow", "--json"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("\"lsn\":5"));
    db.write(|tx| Ok(tx.spawn(()))).unwrap();
    assert!(lines.next().unwrap().unwrap().contains("\"lsn\":6"));
    follow.kill().unwrap();
    follow.wait().unwrap();
    // Nothing of what was there, and all that comes.
    assert_eq!(fixture.run(&["wal", "tail", "open", "-n", "0"]), (0, String::new(), String::new()));
    let mut follow = fixture.command(&["wal", "tail", "open", "-n", "0", "--follow", "--json"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    let done = AtomicBool::new(false);
    let first = std::thread::scope(|scope| {
        // Whenever it begins to look, some are to come.
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                db.write(|tx| Ok(tx.spawn(()))).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let first = lines.next();
        done.store(true, Ordering::SeqCst);
        first
    });
    let first: serde_json::Value = serde_json::from_str(&first.unwrap().unwrap()).unwrap();
    assert!(first["lsn"].as_u64().unwrap() > 6, "{first}");
    follow.kill().unwrap();
    follow.wait().unwrap();
    db.close().unwrap();
}

#[test]
fn text_with_control_characters_reaches_no_terminal_as_it_is() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::create_new(fixture.path("world")).unwrap();
    let name = "a\u{1b}[2Jb\nc\u{9b}d";
    db.write(|tx| Ok(tx.spawn(Name(name.into())))).unwrap();
    db.close().unwrap();
    for command in [
        &["query", "world", "--select", "game.name"][..],
        &["inspect", "world", "0v1"],
        &["history", "world", "0v1"],
    ] {
        let text = fixture.ok(command);
        let controls: Vec<char> = text.chars().filter(|c| c.is_control() && *c != '\n').collect();
        assert!(controls.is_empty() && !text.contains("b\nc"), "{command:?}: {text:?}");
        let json = fixture.ok(&[command, &["--json"]].concat());
        let lines = json.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        assert!(lines.filter(|line| line.to_string().contains("a\\u001b[2Jb\\nc")).count() == 1, "{json:?}");
    }
}

#[test]
fn times_are_shown_and_read_in_the_zone_of_tz() {
    let fixture = Fixture::new();
    let out = fixture.command(&["info", "world"]).env("TZ", "Asia/Tokyo").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("+09:00"), "{text}");
    let json = fixture.command(&["hash", "world", "--json"]).env("TZ", "Asia/Tokyo").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let time = json["state"]["time"].as_str().unwrap();
    assert!(time.ends_with('Z'), "{time}");
    let lsn = |zone: &str, time: &str| {
        let out =
            fixture.command(&["hash", "world", "--json", "--time", time]).env("TZ", zone).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&out.stdout).map(|json| json["state"]["lsn"].clone())
    };
    assert_eq!(lsn("UTC", time).unwrap(), 5);
    // The same moment as the clocks in Tokyo show it.
    let local = text.lines().find(|line| line.contains("as of LSN 5")).unwrap();
    let local = &local[local.find(", ").unwrap() + 2..];
    let local = local.trim().trim_end_matches("+09:00");
    // It is shown to the millisecond: the next one is after it.
    let (seconds, _) = local.split_once('.').unwrap();
    let next: jiff::civil::DateTime = seconds.parse().unwrap();
    let next = (next + jiff::Span::new().seconds(1)).to_string();
    assert_eq!(lsn("Asia/Tokyo", &next).unwrap(), 5);
    let (code, _, error) = fixture.run(&["hash", "world", "--time", "2000-01-01T00:00:00Z"]);
    assert!(code == 3 && error.contains("LSN 5"), "{error}");
    let out = fixture
        .command(&["hash", "world", "--time", "2026-10-25T02:30:00"])
        .env("TZ", "Europe/Berlin")
        .output()
        .unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(2) && error.contains("the clocks were changed"), "{error}");
}

#[test]
fn a_closed_pipe_ends_a_command_quietly_and_a_full_disk_with_one_line() {
    let fixture = Fixture::new();
    let mut dump = fixture.command(&["dump", "world"]);
    let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(dump.stdout.take());
    let mut error = String::new();
    dump.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(dump.wait().unwrap().success() && error.is_empty(), "{error}");
    if cfg!(target_os = "linux") {
        for command in [
            &["dump", "world"][..],
            &["diff", "world@2", "world"],
            &["--help"],
            &["hash", "-h"],
            &["-V"],
            &["man"],
        ] {
            let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let run = |json: &[&str], backtrace: &str| {
                let mut command = fixture.command(&[command, json].concat());
                told(command.env("RUST_BACKTRACE", backtrace).stdout(full()).output().unwrap())
            };
            let (code, _, error) = run(&[], "0");
            assert!(code == 1 && error.lines().count() == 1, "{command:?}: {code} {error}");
            let (code, _, error) = run(&["--json"], "1");
            let said: serde_json::Value = serde_json::from_str(&error).unwrap();
            assert!(code == 1 && said["backtrace"].is_string(), "{command:?}: {code} {error}");
        }
    }
}

#[test]
fn errors_are_one_line_each_cause_once_and_json_where_asked() {
    let fixture = Fixture::new();
    let (code, out, error) = fixture.run(&["info", "nowhere"]);
    assert_eq!((code, &*out), (3, ""));
    assert_eq!(error, "error: nowhere is no directory, where a database's was expected\n");
    std::fs::create_dir(fixture.path("empty")).unwrap();
    let (code, _, error) = fixture.run(&["hash", "empty"]);
    assert!(code == 3 && error.lines().count() == 1 && error.contains("there is no database in"), "{error}");
    let (code, _, error) = fixture.run(&["hash", "empty", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!((code, &json["kind"], &json["code"]), (3, &"missing".into(), &3.into()));
    let (code, _, error) = fixture.run(&["restore", "world", "to", "--lsn", "99"]);
    assert!(code == 3 && error.matches("LSN 99").count() == 1, "{error}");
    let (code, _, _) = fixture.run(&["nonsense"]);
    assert_eq!(code, 2);
    let (_, _, help) = fixture.run(&[]);
    assert!(help.contains("Usage: ecsdb"), "{help}");
}

/// It passed over them without a word.
#[cfg(unix)]
#[test]
fn a_tail_that_is_followed_says_what_was_deleted_before_it_was_read() {
    let fixture = Fixture::new();
    let db = fixture.open("busy");
    let mut follow = fixture.command(&["wal", "tail", "busy", "-n", "1", "--follow", "--json"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let pid = follow.id().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()))
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap());
    let mut last = lines.next().unwrap()["lsn"].as_u64().unwrap();
    let mut skipped = 0;
    for held in [true, false] {
        if held {
            signal("-STOP");
        }
        for i in 0..100 {
            db.write(|tx| Ok(tx.spawn(()))).unwrap();
            if i % 10 == 9 {
                db.rotate_log().unwrap();
                db.compact().unwrap().wait().unwrap();
            }
        }
        db.write(|tx| Ok(tx.spawn(()))).unwrap();
        if held {
            signal("-CONT");
        }
        while last < db.lsn().0 {
            let line = lines.next().unwrap();
            let (from, to) = match line.get("skipped") {
                Some(gone) => (gone["from"].as_u64().unwrap(), gone["to"].as_u64().unwrap()),
                None => (line["lsn"].as_u64().unwrap(), line["lsn"].as_u64().unwrap()),
            };
            assert!(from == last + 1 && to >= from, "{line} after {last}");
            skipped += if line.get("skipped").is_some() { to - from + 1 } else { 0 };
            last = to;
        }
        assert!(skipped > 0, "nothing was deleted while it was held");
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    db.close().unwrap();
}

#[test]
fn every_time_that_is_shown_is_the_moment_that_it_is_shown_with() {
    let fixture = Fixture::new();
    let at = |time: &str| fixture.json(&["hash", "world", "--time", time])["state"]["lsn"].as_u64().unwrap();
    for command in [&["wal", "show", "world"][..], &["history", "world", "0v1"]] {
        let text = fixture.ok(command);
        let mut shown = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [lsn, time, ..] = words[..]
                && let Ok(lsn) = lsn.parse::<u64>()
            {
                assert_eq!(at(time), lsn, "{line}");
                shown += 1;
            }
        }
        assert!(shown >= 3, "{text}");
    }
    let info = fixture.ok(&["info", "world"]);
    let time =
        |before: &str| info.split(before).nth(1).unwrap().split_whitespace().next().unwrap().to_string();
    assert_eq!(at(&time("as of LSN 5, ")), 5, "{info}");
    assert_eq!(at(&time("  from ")), 0, "{info}");
    // What is outside is said in the same way.
    let (code, _, error) = fixture.run(&["hash", "world", "--time", "2001-01-01T00:00:00Z"]);
    assert!(code == 3 && error.contains(&time("  from ")), "{error}");
    let (code, _, error) = fixture.run(&["hash", "world", "--lsn", "99"]);
    assert!(
        code == 3 && error.contains("LSN 99 is not among what is retained") && error.contains("+00:00"),
        "{error}"
    );
}

#[test]
fn a_log_that_is_clean_has_no_damage() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    fixture.ok(&["init", "new"]);
    let open = fixture.open("open");
    for (world, transactions) in [("new", 0), ("open", 5)] {
        let ls = fixture.json(&["wal", "ls", world]);
        assert_eq!((&ls["tail"], &ls["last_lsn"]), (&"clean".into(), &transactions.into()));
        let segments = ls["segments"].as_array().unwrap();
        assert!(!segments.is_empty() && segments.iter().all(|segment| segment["damage"].is_null()), "{ls}");
    }
    open.close().unwrap();
    assert!(fixture.ok(&["wal", "tail", "new"]).contains("no transaction is in the log"));
}

#[test]
fn the_last_transactions_of_a_log_that_grows_are_as_many_as_were_asked_for() {
    let fixture = Fixture::new();
    let db = Database::open(fixture.path("world")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(()))).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let counts: Vec<_> = (0..10)
            .map(|_| fixture.run(&["wal", "tail", "world", "-n", "3", "--json"]).1.lines().count())
            .collect();
        done.store(true, Ordering::Relaxed);
        assert_eq!(counts, [3; 10]);
    });
    db.close().unwrap();
}
