//! The page on the command line says what is so.

use serde_json::Value as Json;

use crate::fixture::{Fixture, words};

const PAGE: &str = include_str!("../../../../docs/command-line.md");

/// The row of the table that begins with this.
fn row(begins: &str) -> &'static str {
    PAGE.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no row {begins}"))
}

/// Every key of an object, and of the objects in it that are not named by the user.
fn keys(json: &Json, into: &mut Vec<String>) {
    match json {
        Json::Object(object) => {
            for (key, value) in object {
                into.push(key.clone());
                if !matches!(&**key, "state" | "resources" | "value" | "values" | "a" | "b") {
                    keys(value, into);
                }
            }
        }
        Json::Array(list) => list.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

#[test]
fn every_key_that_is_printed_is_documented() {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    for (begins, arguments) in [
        ("| `init`", &["init", "new"][..]),
        ("| `info`", &["info", "world"]),
        ("| `inspect DIR`", &["inspect", "world"]),
        ("| `history`", &["history", "world", "0v1"]),
        ("| `query`", &["query", "world", "--with", "game.health"]),
        ("| `hash`", &["hash", "world"]),
        ("| `dump`", &["dump", "world", "--output", "world.jsonl"]),
        ("| `load`", &["load", "loaded", "world.jsonl"]),
        ("| `export`", &["export", "world", "--parquet", "tables"]),
        ("| `wal ls`", &["wal", "ls", "world"]),
        ("| `wal show`", &["wal", "show", "world"]),
        ("| `config check`", &["config", "check", "world"]),
        ("| `verify`", &["verify", "world"]),
        ("| `repair`", &["repair", "world"]),
        ("| `snapshot`", &["snapshot", "world"]),
        ("| `restore`", &["restore", "world", "restored"]),
        ("| `restore`", &["backup", "world", "copy"]),
        ("| `snapshot`", &["snapshot", "world", "--dry-run"]),
        ("| `completions`", &["completions", "bash"]),
        ("| `man`", &["man"]),
        ("| `man`", &["man", "pages"]),
        ("| `compact`", &["compact", "world", "--dry-run"]),
        ("| `compact`", &["compact", "world"]),
        ("| `bench`", &["bench", ".", "--seconds", "0.01", "--entities", "10"]),
    ] {
        let table = PAGE.split("## JSON").nth(1).unwrap();
        let row =
            table.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no row {begins}"));
        let mut found = Vec::new();
        fixture.lines(arguments).iter().for_each(|line| keys(line, &mut found));
        for key in found.iter().filter(|key| !key.starts_with("game.")) {
            assert!(row.contains(&format!("`{key}`")), "{arguments:?}: {key} in {row}");
        }
    }
    let state = fixture.json(&["hash", "world"])["state"].clone();
    let line = PAGE.lines().find(|line| line.starts_with("A **state**")).unwrap();
    assert!(state.as_object().unwrap().keys().all(|key| line.contains(&format!("\"{key}\""))), "{line}");
}

#[test]
fn every_command_has_its_row() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let help = fixture.ok(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    for name in list.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
    {
        match name {
            "man" => assert!(row("| `completions SHELL`").contains("`man")),
            name => drop(row(&format!("| `{name}"))),
        }
    }
}

/// Every time as one that is the same in each run.
fn timeless(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    const SHOWN: usize = "2026-11-26T07:00:00.000000000+00:00".len();
    while let Some(first) = rest.chars().next() {
        match rest.get(..SHOWN) {
            Some(time) if time.parse::<jiff::Timestamp>().is_ok() => {
                out.push_str("2026-11-26T07:00:00.000000000+00:00");
                rest = &rest[SHOWN..];
            }
            _ => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

#[test]
fn what_the_page_shows_is_what_is_printed() {
    let fixture = Fixture::new();
    let blocks: Vec<&str> =
        PAGE.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let command = command.strip_prefix("$ ecsdb ").unwrap();
        let (_, out, error) = fixture.run(&words(command));
        assert_eq!(timeless(&format!("{out}{error}")), timeless(shown), "ecsdb {command}");
    }
}
