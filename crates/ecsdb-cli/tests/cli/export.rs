//! Tables that are exported are read by the library that everybody reads them with.
#![allow(non_snake_case, reason = "fields whose names differ in their case alone")]

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use ecsdb::prelude::*;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::fixture::{Clock, Fixture, Health, Name, Position, told};

#[test]
fn each_archetype_becomes_a_table() {
    let fixture = Fixture::new();
    let exported = fixture.json(&["export", "world", "--parquet", "tables"]);
    let files = exported["files"].as_array().unwrap();
    assert_eq!(files.len(), 3);
    let mut tables: BTreeMap<String, RecordBatch> = BTreeMap::new();
    for file in files {
        let path = fixture.dir.path().join(file["file"].as_str().unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
        let said = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(said.iter().any(|one| one.key == "ecsdb.state"));
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch.num_rows() as u64, file["entities"].as_u64().unwrap());
        let names: Vec<&str> =
            file["components"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
        tables.insert(names.join(","), batch);
    }
    let ship = &tables["game.name,game.health,game.position"];
    assert_eq!(ship["entity"].as_string::<i32>().value(0), "0v1");
    assert_eq!(ship["game.name"].as_string::<i32>().value(0), "ship");
    let health = ship["game.health"].as_struct();
    assert_eq!(health.column_by_name("now").unwrap().as_primitive::<UInt32Type>().value(0), 7);

    let bag = tables["game.bag"]["game.bag"].as_struct().clone();
    let column = |name: &str| bag.column_by_name(name).unwrap().clone();
    assert_eq!(column("data").as_binary::<i32>().value(0).len(), 256);
    let floats = column("floats").as_list::<i32>().value(0);
    let floats = floats.as_primitive::<Float64Type>();
    assert!(
        floats.value(0).is_nan() && floats.value(2) == f64::INFINITY && floats.value(4).is_sign_negative()
    );
    let numbers = column("numbers");
    let numbers = numbers.as_struct();
    assert_eq!(numbers.column_by_name("0").unwrap().as_primitive::<UInt64Type>().value(0), u64::MAX);
    assert_eq!(numbers.column_by_name("1").unwrap().as_primitive::<Int64Type>().value(0), i64::MIN);
    assert_eq!(column("owner").as_string::<i32>().value(0), "0v1");
    let orders = column("orders").as_list::<i32>().value(0);
    assert_eq!(orders.as_string::<i32>().value(1), r#"{"Move":{"x":1.5,"y":-0.0}}"#);
    assert!(column("items").as_string::<i32>().value(0).contains("\"item 39\""));
    let (code, _, _) = fixture.run(&["export", "world", "--parquet", "tables"]);
    assert_eq!(code, 6);
}

/// The calls of a command that say what becomes of files, one a line; `None` without strace, where nothing shows them.
#[cfg(target_os = "linux")]
pub(crate) fn calls(fixture: &Fixture, arguments: &[&str]) -> Option<Vec<String>> {
    let mut traced = std::process::Command::new("strace");
    let calls = "trace=openat,write,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,unlinkat";
    traced.args(["-f", "-y", "-o", "calls", "-e", calls, env!("CARGO_BIN_EXE_ecsdb")]).args(arguments);
    let done = traced.current_dir(fixture.dir.path()).output().ok()?;
    let (code, out, error) = told(done);
    assert_eq!(code, 0, "{out}{error}");
    let calls = std::fs::read_to_string(fixture.path("calls")).unwrap();
    Some(calls.lines().filter(|line| !line.contains(" = -1 ")).map(String::from).collect())
}

/// What is said to be done survives a power cut: the tables and their names do before the mark of what is half done goes, and then that it is gone.
#[cfg(target_os = "linux")]
#[test]
fn an_export_is_on_stable_storage_when_it_is_done() {
    let fixture = Fixture::new();
    let Some(calls) = calls(&fixture, &["export", "world", "--parquet", "tables"]) else { return };
    let all = calls.join("\n");
    let first = |what: &str, name: &str| {
        let found = calls.iter().position(|line| line.contains(what) && line.contains(name));
        found.unwrap_or_else(|| panic!("{what} {name}: {all}"))
    };
    let names_are_synced = |from: usize, to: usize| {
        calls[from..to].iter().any(|line| line.contains("fsync") && line.contains("/tables>"))
    };
    let (marked, unmarked) = (first("openat", "UNFINISHED.export"), first("unlink", "UNFINISHED.export"));
    for n in 0..3 {
        let table = format!("tables/archetype-000{n}.parquet");
        assert!(names_are_synced(marked, first("openat", &table)), "{all}");
        let written = calls.iter().rposition(|line| line.contains("write") && line.contains(&table)).unwrap();
        let synced = first("sync", &table);
        assert!(written < synced && names_are_synced(synced, unmarked), "{all}");
    }
    assert!(names_are_synced(unmarked, calls.len()), "{all}");
}

/// With fewer files than archetypes, each of which has a table.
#[cfg(unix)]
#[test]
fn an_export_opens_one_file_at_a_time() {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::create_new(fixture.path("world")).unwrap();
    db.write(|tx| {
        for bits in 0..16 {
            let entity = tx.spawn(());
            if bits & 1 > 0 {
                tx.insert(entity, Health { now: bits, max: 1 })?;
            }
            if bits & 2 > 0 {
                tx.insert(entity, Position { x: 0.0, y: 0.0 })?;
            }
            if bits & 4 > 0 {
                tx.insert(entity, Clock(1))?;
            }
            if bits & 8 > 0 {
                tx.insert(entity, Name("one".into()))?;
            }
        }
        Ok(())
    })
    .unwrap();
    db.close().unwrap();
    let few = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -n 14 && exec \"$0\" export world --parquet tables",
            env!("CARGO_BIN_EXE_ecsdb"),
        ])
        .current_dir(fixture.dir.path())
        .output();
    let (code, out, error) = told(few.unwrap());
    assert!(code == 0 && out.contains("16 files in tables"), "{code} {out}{error}");
}

#[derive(Component, Clone, Copy)]
#[component(name = "Entity", plain)]
#[repr(C)]
struct Number(u32);

#[derive(Describe, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Points {
    now: u32,
    other: u32,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game", archived)]
struct Game {
    health: Points,
    Other: u32,
    other: String,
}

/// A database of which components and fields would be columns of one name. The columns are what they are of.
fn colliding() -> (Fixture, BTreeMap<String, String>) {
    let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
    let db = Database::create_new(fixture.path("world")).unwrap();
    db.write(|tx| Ok(tx.spawn((Health { now: 1, max: 2 }, Number(3))))).unwrap();
    let game = Game { health: Points { now: 4, other: 5 }, Other: 6, other: "seven".into() };
    db.write(|tx| Ok(tx.spawn((Health { now: 8, max: 9 }, game)))).unwrap();
    db.close().unwrap();
    let (code, out, error) = fixture.run(&["export", "world", "--parquet", "tables", "--json"]);
    assert_eq!(code, 0, "{error}");
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    let renamed: BTreeMap<String, String> = out["renamed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap_or_default().to_string();
            (text("column"), format!("{} {}", text("component"), text("field")).trim().to_string())
        })
        .collect();
    assert_eq!(error.lines().count(), renamed.len(), "{error}");
    for (column, of) in &renamed {
        let component = of.split(' ').next().unwrap();
        assert!(error.contains(&format!("{component} is the column {column}, since")), "{column}: {error}");
    }
    (fixture, renamed)
}

#[test]
fn no_two_columns_have_one_name() {
    let (fixture, renamed) = colliding();
    let expected = [("Entity_2", "Entity"), ("game.health_2", "game health"), ("game.other_2", "game other")];
    assert_eq!(renamed, expected.map(|(column, of)| (column.to_string(), of.to_string())).into());
    let mut seen = Vec::new();
    for number in 0..2 {
        let path = fixture.path(&format!("tables/archetype-{number:04}.parquet"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap();
        let said = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let said = said.iter().find(|one| one.key == "ecsdb.renamed").unwrap().value.clone().unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said).unwrap().as_array().unwrap().len(), 3);
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        assert_eq!(batch["entity"].as_string::<i32>().value(0), format!("{number}v1"));
        let number = |column: &dyn arrow_array::Array| column.as_primitive::<UInt32Type>().value(0);
        let health = batch["game.health"].as_struct();
        seen.push(number(health.column_by_name("now").unwrap()));
        if let Some(game) = batch.column_by_name("game") {
            let game = game.as_struct();
            seen.push(number(
                game.column_by_name("health_2").unwrap().as_struct().column_by_name("now").unwrap(),
            ));
            seen.push(number(game.column_by_name("Other").unwrap()));
            assert_eq!(game.column_by_name("other_2").unwrap().as_string::<i32>().value(0), "seven");
        } else {
            seen.push(number(&*batch["Entity_2"]));
        }
    }
    assert_eq!(seen, [1, 3, 8, 4, 6]);
}

/// Prints, for each file given, its rows as DuckDB reads them.
const DUCKDB: &str = r#"
import duckdb, sys
for path in sys.argv[1:]:
    table = duckdb.read_parquet(path)
    for row in table.fetchall():
        print(dict(zip(table.columns, row)))
"#;

#[test]
#[ignore = "needs DuckDB: PATH with a python3 that has it, as .ci/run makes one"]
fn another_reader_finds_the_same_in_the_tables() {
    let read = |fixture: &Fixture| {
        let files = std::fs::read_dir(fixture.path("tables")).unwrap().map(|entry| entry.unwrap().path());
        let output = std::process::Command::new("python3").args(["-c", DUCKDB]).args(files).output().unwrap();
        let (code, text, error) = told(output);
        assert_eq!(code, 0, "{error}");
        text
    };
    // By the names that are in the file: DuckDB itself calls two of one name otherwise.
    let text = read(&colliding().0);
    for expected in [
        "{'entity': '0v1', 'game.health': {'now': 1, 'max': 2}, 'Entity_2': 3}",
        "'game.health': {'now': 8, 'max': 9}",
        "'game': {'health_2': {'now': 4, 'other': 5}, 'Other': 6, 'other_2': 'seven'}",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let fixture = Fixture::new();
    fixture.ok(&["export", "world", "--parquet", "tables"]);
    let text = read(&fixture);
    for expected in [
        "'entity': '0v1'",
        "'game.name': 'ship'",
        "'game.health': {'now': 7, 'max': 100}",
        "'game.position': {'x': 0.5, 'y': -1.0}",
        "18446744073709551615",
        "-9223372036854775808",
        "inf, -inf, -0.0, 0.1, 5e-324",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
