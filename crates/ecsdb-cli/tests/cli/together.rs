//! Commands that make something new at one place at the same time: whoever says that it is done has left exactly that, and nobody else touched it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::fixture::{Fixture, files, told};

const COMMANDS: [&[&str]; 5] = [
    &["backup", "world", "new/place"],
    &["restore", "world", "new/place", "--lsn", "3"],
    &["load", "new/place", "dumped"],
    &["init", "new/place"],
    &["export", "world", "--parquet", "new/place"],
];

/// What a command has left when it is done: the names of all files, and what they hold.
fn state(fixture: &Fixture) -> (Vec<PathBuf>, String) {
    let place = fixture.path("new/place");
    let there = if place.exists() { files(&place) } else { Vec::new() };
    let names: Vec<PathBuf> =
        there.iter().map(|(path, ..)| path.strip_prefix(&place).unwrap().into()).collect();
    if there.iter().any(|(path, ..)| path.extension().is_some_and(|end| end == "manifest")) {
        fixture.ok(&["verify", "new/place"]);
        return (names, fixture.json(&["hash", "new/place"])["digest"].to_string());
    }
    let tables = there.into_iter().filter(|(path, ..)| path.extension().is_some_and(|end| end == "parquet"));
    (names, format!("{:?}", tables.map(|(_, bytes, _)| bytes).collect::<Vec<_>>()))
}

fn start(fixture: &Fixture, command: &[&str]) -> Child {
    fixture.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn clear(fixture: &Fixture) {
    drop(std::fs::remove_dir_all(fixture.path("new")));
}

/// Commands that are begun at once; some of them are killed, some are interrupted. What those leave that were killed, the next one takes.
#[test]
fn one_of_those_who_make_something_new_at_a_place_has_it() {
    if !cfg!(unix) {
        return;
    }
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let wanted = COMMANDS.map(|command| {
        fixture.ok(command);
        let wanted = state(&fixture);
        clear(&fixture);
        wanted
    });
    let rounds = std::env::var("ECSDB_CASES").map_or(25, |cases| cases.parse().unwrap());
    let seed = std::env::var("ECSDB_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut done, mut refused, mut kills) = (0, 0, 0);
    for round in 0..rounds {
        let mut running: Vec<(usize, bool, Child)> = Vec::new();
        for _ in 0..random.usize(2..=4) {
            let which = random.usize(..COMMANDS.len());
            running.push((which, random.u32(..5) == 0, start(&fixture, COMMANDS[which])));
            if random.bool() {
                std::thread::sleep(Duration::from_micros(random.u64(..15_000)));
            }
        }
        for (_, is_killed, child) in &mut running {
            if *is_killed {
                std::thread::sleep(Duration::from_micros(random.u64(..8_000)));
                let signal = if random.bool() { "-KILL" } else { "-INT" };
                std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
                kills += 1;
            }
        }
        let mut ended = Vec::new();
        for (which, is_killed, child) in running {
            let (code, _, error) = told(child.wait_with_output().unwrap());
            ended.push((which, is_killed, code, error));
        }
        let at = format!("seed {seed}, round {round}: {ended:?} {:?}", state(&fixture).0);
        let won: Vec<_> = ended.iter().filter(|(_, _, code, _)| *code == 0).collect();
        assert!(won.len() <= 1, "{at}");
        // Whoever was killed once it was done left it as well.
        let may_be_whole = ended.iter().any(|(_, is_killed, code, _)| *is_killed && *code != 0);
        for (_, is_killed, code, _) in &ended {
            let known: &[i32] = if *is_killed { &[0, 3, 5, 6, 130, -1] } else { &[0, 3, 5, 6] };
            assert!(known.contains(code), "{at}");
            // That something was left unfinished is told by a directory in which somebody was killed.
            assert!(*code != 3 || may_be_whole, "{at}");
            refused += usize::from([5, 6].contains(code));
        }
        match won.first() {
            Some((which, ..)) => {
                assert_eq!(state(&fixture), wanted[*which], "{at}");
                done += 1;
            }
            None => {
                // Nobody is left, so the place can be had, or somebody had made everything and was killed before it could say so.
                assert!(may_be_whole, "{at}");
                let next =
                    if fixture.path("new/place/UNFINISHED.export").exists() { 4 } else { random.usize(..3) };
                let (code, _, error) = fixture.run(COMMANDS[next]);
                let is_whole = || wanted.iter().any(|(_, holds)| *holds == state(&fixture).1);
                assert!(
                    if code == 0 { state(&fixture) == wanted[next] } else { code == 6 && is_whole() },
                    "{at}: {code} {error}"
                );
            }
        }
        clear(&fixture);
    }
    let counts = format!("seed {seed}: {done} done, {refused} refused, {kills} killed or interrupted");
    println!("{counts}");
    assert!(rounds < 20 || (done > 0 && refused > 0 && kills > 0), "{counts}");
    let left: BTreeSet<_> =
        std::fs::read_dir(fixture.dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["dumped", "world"].map(Into::into).into());
}

/// Attempts whose directories lie elsewhere, in one another, and beside an archive that another database has begun to use: some are killed, some are interrupted,
/// once or twice. The next one has the place, and what is in the archive stays as it is.
#[test]
fn what_is_left_elsewhere_is_the_next_ones_and_what_is_anothers_stays() {
    if !cfg!(unix) {
        return;
    }
    let fixture = Fixture::new();
    fixture.ok(&["dump", "world", "--output", "dumped"]);
    let rounds = std::env::var("ECSDB_CASES").map_or(25, |cases| cases.parse().unwrap());
    let seed = std::env::var("ECSDB_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let signal = |child: &Child, name: &str| {
        std::process::Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    };
    let (mut again, mut whole) = (0, 0);
    for round in 0..rounds {
        let [log, snapshots] =
            [["x/log", "x"], ["x", "x/a/snapshots"], ["x/log", "x/snapshots"], ["new", "x"]]
                [random.usize(..4)];
        let archive = ["archive", "x/archive"][random.usize(..2)];
        std::fs::create_dir_all(fixture.path(archive)).unwrap();
        let command = |arguments: &[&str], slow: bool| {
            let mut command = fixture.command(arguments);
            for (variable, dir) in
                [("ECDB_WAL_DIR", log), ("ECDB_SNAPSHOT_DIR", snapshots), ("ECDB_ARCHIVE_DIR", archive)]
            {
                command.env(variable, fixture.path(dir));
            }
            if slow {
                command.env("ECDB_SNAPSHOT_BYTES_PER_SECOND_MAX", "2000");
            }
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
            command
        };
        // It has looked at the archive, and reads, when another one archives there.
        let mut load = command(&["load", "new/place", "-"], random.bool()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(20..60)));
        let foreign = fixture.path(archive).join("0000000000000001.seg");
        std::fs::write(&foreign, "another's").unwrap();
        drop(std::io::copy(
            &mut std::fs::File::open(fixture.path("dumped")).unwrap(),
            &mut load.stdin.take().unwrap(),
        ));
        let other = random.bool().then(|| {
            let arguments =
                [["init", "new/place", "--json"], ["load", "new/place", "dumped"]][random.usize(..2)];
            command(&arguments, random.bool()).spawn().unwrap()
        });
        std::thread::sleep(Duration::from_micros(random.u64(..25_000)));
        let mut ended = Vec::new();
        for child in [Some(load), other].into_iter().flatten() {
            match random.u32(..4) {
                0 => signal(&child, "-KILL"),
                1 => signal(&child, "-INT"),
                2 => {
                    signal(&child, "-INT");
                    std::thread::sleep(Duration::from_micros(random.u64(..3_000)));
                    signal(&child, "-INT");
                }
                _ => {}
            }
            ended.push(told(child.wait_with_output().unwrap()));
        }
        let there = |dir: &str| {
            let dir = fixture.path(dir);
            if dir.exists() { files(&dir).into_iter().map(|(path, ..)| path).collect() } else { Vec::new() }
        };
        let left = [there("new"), there("x"), there("archive")];
        let at = format!("seed {seed}, round {round}, {log} {snapshots} {archive}: {ended:?} {left:#?}");
        assert_eq!(std::fs::read(&foreign).unwrap(), b"another's", "{at}");
        std::fs::remove_dir_all(fixture.path(archive)).unwrap();
        let (code, _, error) = told(command(&["load", "new/place", "dumped"], false).output().unwrap());
        match code {
            0 => again += 1,
            6 => whole += 1,
            _ => panic!("{at}: {code} {error}"),
        }
        let (code, out, error) = told(command(&["verify", "new/place"], false).output().unwrap());
        assert_eq!(code, 0, "{at}: {out}{error}");
        clear(&fixture);
        std::fs::remove_dir_all(fixture.path("x")).unwrap();
    }
    let counts = format!("seed {seed}: {again} taken up, {whole} whole");
    println!("{counts}");
    assert!(rounds < 20 || (again > 0 && whole > 0), "{counts}");
    let left: BTreeSet<_> =
        std::fs::read_dir(fixture.dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left, ["dumped", "world"].map(Into::into).into());
}
