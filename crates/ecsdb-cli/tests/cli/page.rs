//! The page on the command line says what is so.

use serde_json::Value as Json;

use crate::fixture::{Fixture, words};
use crate::tree::commands;

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
                let names = ["state", "resources", "value", "values", "a", "b", "config", "retention"];
                let is_named = names.contains(&&**key) || (key == "components" && value.is_object());
                if !is_named {
                    keys(value, into);
                }
            }
        }
        Json::Array(list) => list.iter().for_each(|value| keys(value, into)),
        _ => {}
    }
}

/// What each command is given, and the row of the table that has its keys.
const PRINTED: [(&str, &str, &str); 32] = [
    ("init", "new", "| `init`"),
    ("info", "world", "| `info`"),
    ("inspect", "world", "| `inspect DIR`"),
    ("inspect", "world 0v1", "| `inspect DIR ENTITY`"),
    ("history", "world 0v1", "| `history`"),
    ("query", "world --with game.health", "| `query`"),
    ("diff", "world@3 world@4", "| `diff`"),
    ("hash", "world", "| `hash`"),
    ("dump", "world --output world.jsonl", "| `dump`"),
    ("load", "loaded world.jsonl", "| `load`"),
    ("export", "world --parquet tables", "| `export`"),
    ("wal ls", "world", "| `wal ls`"),
    ("wal show", "world", "| `wal show`"),
    ("wal tail", "world", "| `wal show`, `wal tail`"),
    ("verify", "world", "| `verify`"),
    ("repair", "world", "| `repair`"),
    ("snapshot", "world", "| `snapshot`"),
    ("snapshot", "world --dry-run", "| `snapshot`"),
    ("snapshot", "world --list", "| `info`"),
    ("restore", "world restored", "| `restore`"),
    ("backup", "world copy", "| `restore`, `backup`"),
    ("compact", "world --dry-run", "| `compact`"),
    ("compact", "world", "| `compact`"),
    ("config show", "world", "| `config show`"),
    ("config check", "world", "| `config check`"),
    ("config schema", "", "| `config schema`"),
    ("config example", "", "| `config schema`, `config example`"),
    ("demo", "--flights 1 --kills 0", "| `demo`"),
    ("bench", ". --seconds 0.01 --entities 10", "| `bench`"),
    ("completions", "bash", "| `completions`"),
    ("man", "", "| `man`"),
    ("man", "pages", "| `man`"),
];

#[test]
fn every_key_that_is_printed_is_documented() {
    let fixture = Fixture::new();
    fixture.ok(&["snapshot", "world"]);
    for command in commands(&fixture) {
        assert!(PRINTED.iter().any(|(name, ..)| *name == command), "nothing is looked at of {command}");
    }
    let table = PAGE.split("## JSON").nth(1).unwrap();
    for (name, rest, begins) in PRINTED {
        let line = format!("{name} {rest} --json");
        let row =
            table.lines().find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no row {begins}"));
        let (code, out, error) = fixture.run(&words(&line));
        assert_eq!(code, if name == "diff" { 8 } else { 0 }, "{line}: {error}");
        // What it prints is a document of another kind.
        if name == "config schema" {
            assert!(row.contains("the schema"), "{row}");
            continue;
        }
        let mut found = Vec::new();
        out.lines().for_each(|line| keys(&serde_json::from_str(line).unwrap(), &mut found));
        for key in found.iter().filter(|key| !key.starts_with("game.")) {
            assert!(row.contains(&format!("`{key}`")), "{line}: {key} in {row}");
        }
        assert!(!found.is_empty(), "{line}");
    }
    let state = fixture.json(&["hash", "world"])["state"].clone();
    let line = PAGE.lines().find(|line| line.starts_with("A **state**")).unwrap();
    assert!(state.as_object().unwrap().keys().all(|key| line.contains(&format!("\"{key}\""))), "{line}");
}

#[test]
fn every_command_has_its_row() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    for command in commands(&fixture) {
        match &*command {
            "man" => assert!(row("| `completions SHELL`").contains("`man")),
            name => {
                let mut parts = name.split(' ');
                let row = row(&format!("| `{}", parts.next().unwrap()));
                assert!(parts.all(|part| row.contains(part)), "{name} in {row}");
            }
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

/// Whether it is what is shown, in which `…` is for anything.
fn is_shown(printed: &str, shown: &str) -> bool {
    let Some((before, behind)) = shown.split_once('…') else { return printed == shown };
    let Some(rest) = printed.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| is_shown(&rest[at..], behind))
}

#[test]
fn what_the_page_shows_is_what_is_printed() {
    let fixture = Fixture::new();
    let blocks: Vec<&str> =
        PAGE.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    for command in commands(&fixture) {
        let begins = format!("$ ecsdb {command} ");
        let is_shown = blocks
            .iter()
            .any(|block| block.starts_with(&begins) || block.starts_with(&format!("$ ecsdb {command}\n")));
        assert!(is_shown, "{command} is not shown");
    }
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap();
        let command = command.strip_prefix("$ ecsdb ").unwrap();
        let (_, out, error) = fixture.run(&words(command));
        let (printed, shown) = (timeless(&format!("{out}{error}")), timeless(shown));
        // What is the same is compared where it can be seen.
        if !is_shown(&printed, &shown) {
            assert_eq!(printed, shown, "ecsdb {command}");
        }
    }
}
