//! A small database with every kind of component, and how a command is run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ecsdb::prelude::*;
use serde_json::Value as Json;

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "game.health", plain)]
#[repr(C)]
pub(crate) struct Health {
    pub(crate) now: u32,
    pub(crate) max: u32,
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "game.position", plain)]
#[repr(C)]
pub(crate) struct Position {
    pub(crate) x: f32,
    pub(crate) y: f32,
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game.name", archived)]
pub(crate) struct Name(pub(crate) String);

#[derive(Describe, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) enum Order {
    Hold,
    Move { x: f64, y: f64 },
    Follow(Entity),
}

#[derive(Component, Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "game.bag", archived)]
pub(crate) struct Bag {
    pub(crate) items: BTreeMap<String, u64>,
    pub(crate) odds: HashMap<u16, String>,
    pub(crate) data: Vec<u8>,
    pub(crate) floats: Vec<f64>,
    pub(crate) narrow: Vec<f32>,
    pub(crate) numbers: (u64, i64, u128, i128),
    pub(crate) orders: Vec<Order>,
    pub(crate) owner: Option<Entity>,
    pub(crate) maybe: Option<Option<u8>>,
}

#[derive(Component, Clone, Copy, Debug, PartialEq)]
#[component(name = "game.clock", plain)]
#[repr(C)]
pub(crate) struct Clock(pub(crate) u64);

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
}

/// A bag with everything that is easily lost on the way.
pub(crate) fn bag(owner: Entity) -> Bag {
    Bag {
        items: (0..40).map(|i| (format!("item {i:02}"), u64::MAX - i)).collect(),
        odds: (0..20).map(|i| (i, format!("odd {i}"))).collect(),
        data: (0..=255).collect(),
        floats: vec![
            f64::NAN,
            f64::from_bits(0xfff8_0000_0000_0123),
            f64::INFINITY,
            f64::NEG_INFINITY,
            -0.0,
            0.1,
            5e-324,
            -124.76833333333333,
        ],
        narrow: vec![f32::NAN, f32::INFINITY, -0.0, 0.1, f32::MAX, f32::from_bits(1)],
        numbers: (u64::MAX, i64::MIN, u128::MAX, i128::MIN),
        orders: vec![Order::Hold, Order::Move { x: 1.5, y: -0.0 }, Order::Follow(owner)],
        owner: Some(owner),
        maybe: Some(None),
    }
}

impl Fixture {
    /// `world`, closed: LSN 1 spawns the ship 0v1, LSN 2 three others, LSN 3 hurts the ship, LSN 4 despawns one and sets the
    /// clock, LSN 5 spawns a bag in its slot.
    pub(crate) fn new() -> Fixture {
        let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
        fixture.open("world").close().unwrap();
        fixture
    }

    pub(crate) fn open(&self, name: &str) -> Database {
        let db = Database::create_new(self.path(name)).unwrap();
        let ship = db
            .write(|tx| {
                let (health, at) = (Health { now: 100, max: 100 }, Position { x: 0.5, y: -1.0 });
                Ok(tx.spawn((Name("ship".into()), health, at)))
            })
            .unwrap();
        let others = db
            .write(|tx| {
                let other = |i: u32| (Name(format!("monster {i}")), Health { now: 10 * i, max: 50 });
                Ok(tx.spawn_batch((1..4).map(other)))
            })
            .unwrap();
        db.write(|tx| Ok(tx.get_mut::<Health>(ship)?.now = 7)).unwrap();
        db.write(|tx| {
            tx.insert_resource(Clock(u64::MAX));
            Ok(tx.despawn(others[0])?)
        })
        .unwrap();
        db.write(|tx| Ok(tx.spawn(bag(ship)))).unwrap();
        db
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = listening(env!("CARGO_BIN_EXE_ecsdb"));
        command.args(arguments).current_dir(self.dir.path()).env_remove("RUST_BACKTRACE").env("TZ", "UTC");
        command
    }

    /// Runs a command in the directory; its exit code, standard output and standard error.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        told(self.command(arguments).output().unwrap())
    }

    /// Runs a command that succeeds, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, error) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{error}");
        out
    }

    /// The one JSON document that a command prints with `--json`.
    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        let out = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {out}"))
    }

    /// The lines of JSON that a command prints with `--json`.
    pub(crate) fn lines(&self, arguments: &[&str]) -> Vec<Json> {
        let out = self.ok(&[arguments, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A program that no signal is ignored for, also where these tests run in the background or with `nohup`.
pub(crate) fn listening(program: &str) -> Command {
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", program]);
    command
}

pub(crate) fn told(output: Output) -> (i32, String, String) {
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap_or(-1), out, error)
}

/// Names, lengths and times of change of all files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<(PathBuf, u64, std::time::SystemTime)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        all.push((entry.path(), metadata.len(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            all.extend(files(&entry.path()));
        }
    }
    all.sort();
    all
}

/// What a shell makes of a line: words, and what is in single quotes.
pub(crate) fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace()),
            _ => words.push(part),
        }
    }
    words
}
