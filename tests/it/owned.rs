//! Other people's files, and whose a directory is: nothing of another database is read, written or deleted, and nothing of the past is given
//! up but by a setting that says so (CKP-10, CKP-11, REC-15, REC-17).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ecsdb::prelude::*;
use ecsdb::{
    DataLoss, Digest, Error, Event, Lsn, Moment, PersistenceConfig, Policy, RecoveryError, StoreError,
};
use ecsdb_io::FileOp;
use ecsdb_sim::{
    CrashCase, CrashPattern, CrashVariant, Exploration, Failure, Fault, Journal, NameOrder, SimDisk, explore,
};

use crate::components::{Counter, Name};
use crate::golden::copy_dir;
use crate::lifecycle::{archiving, by_hand};

fn config(dir: &Path) -> PersistenceConfig {
    let mut config = PersistenceConfig::new(dir);
    by_hand(&mut config);
    config
}

fn open(config: PersistenceConfig) -> ecsdb::Result<Database> {
    Database::new_with_persistence(config)
}

/// Three transactions of more than half a segment each, a snapshot, and three more.
fn fill(db: &Database) {
    for i in 0..6 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(40_000)))))).unwrap();
        if i == 2 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
}

/// Opened, filled, with a snapshot at the end, and closed.
fn session(config: PersistenceConfig) {
    let db = open(config).unwrap();
    fill(&db);
    db.snapshot().unwrap().wait().unwrap();
    db.close().unwrap();
}

fn digest(db: &Database) -> Digest {
    db.view().unwrap().digest().unwrap()
}

/// Everything below a directory, with its bytes; but for locks.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.to_string_lossy().contains("LOCK") => {}
                false => found.push((path.clone(), std::fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

fn manifests(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "manifest"));
    files.sort();
    files
}

type Set = fn(&mut PersistenceConfig, PathBuf);
const DIRS: [(&str, Set); 3] = [
    ("log", |config, dir| config.wal.dir = Some(dir)),
    ("snapshots", |config, dir| config.snapshot.dir = Some(dir)),
    ("archive", |config, dir| config.archive.dir = Some(dir)),
];

/// With each of the directories shared in turn; open at the same time, and one after the other; new, and with a history of its own.
#[test]
fn a_directory_of_another_database_is_refused_with_both_names_and_not_touched() {
    for (what, set) in DIRS {
        for (open_meanwhile, has_history) in [(true, false), (false, false), (false, true)] {
            println!("{what} {open_meanwhile} {has_history}");
            let dir = tempfile::tempdir().unwrap();
            let (one, two, shared) =
                (dir.path().join("one"), dir.path().join("two"), dir.path().join("shared"));
            let mut first = config(&one);
            archiving(&mut first);
            set(&mut first, shared.clone());
            let mut second = config(&two);
            archiving(&mut second);
            if has_history {
                let db = open(second.clone()).unwrap();
                fill(&db);
                db.close().unwrap();
            }
            set(&mut second, shared.clone());
            let db = open(first.clone()).unwrap();
            fill(&db);
            db.snapshot().unwrap().wait().unwrap();
            let expected = digest(&db);
            if !open_meanwhile {
                db.close().unwrap();
            }
            let before = content(&shared);
            let refused = match open(second) {
                Err(e) => e.to_string(),
                // The archive is looked at when there is something to archive, or to delete.
                Ok(db) => {
                    assert_eq!(what, "archive");
                    let mut events = db.events();
                    fill(&db);
                    db.snapshot().unwrap().wait().unwrap();
                    loop {
                        if let Event::Failed { error, .. } = events.blocking_next().unwrap() {
                            break error;
                        }
                    }
                }
            };
            let names = [shared.to_str().unwrap(), one.to_str().unwrap()];
            assert!(names.iter().all(|name| refused.contains(name)), "{refused}");
            assert!(content(&shared) == before, "{what}");
            if !open_meanwhile {
                let db = open(first).unwrap();
                assert_eq!(digest(&db), expected);
            }
        }
    }
}

#[test]
fn a_copy_that_shares_a_directory_with_its_original_is_refused_and_one_that_was_moved_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy, snapshots) =
        (dir.path().join("a"), dir.path().join("b"), dir.path().join("snapshots"));
    let with = |root: &Path| {
        let mut config = config(root);
        config.snapshot.dir = Some(snapshots.clone());
        config
    };
    let db = open(with(&original)).unwrap();
    fill(&db);
    let expected = digest(&db);
    db.close().unwrap();
    copy_dir(&original, &copy);
    let refused = open(with(&copy)).unwrap_err().to_string();
    assert!(refused.contains(original.to_str().unwrap()) && refused.contains("copy"), "{refused}");
    std::fs::remove_dir_all(&original).unwrap();
    assert_eq!(digest(&open(with(&copy)).unwrap()), expected);
    // From here on it is this one's.
    copy_dir(&copy, &original);
    assert!(matches!(open(with(&original)), Err(Error::Recovery(RecoveryError::ForeignDirectory { .. }))));
}

/// A directory is one directory, whatever its names: links to it, `..`, links to the database.
#[cfg(unix)]
/// The name of the original cannot be written down as it is.
#[cfg(unix)]
#[test]
fn a_copy_of_a_database_with_an_odd_name_that_shares_a_directory_is_refused() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for name in [b"new\nline".as_slice(), b"not \xff Unicode"] {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join(OsStr::from_bytes(name)), dir.path().join("copy"));
        let with = |root: &Path| {
            let mut config = config(root);
            config.snapshot.dir = Some(dir.path().join("snapshots"));
            config
        };
        session(with(&original));
        copy_dir(&original, &copy);
        let refused = open(with(&copy)).unwrap_err();
        assert!(matches!(refused, Error::Recovery(RecoveryError::ForeignDirectory { .. })), "{refused}");
        session(with(&original));
    }
}

/// And another one is made in its place, to which the names lead.
#[test]
fn a_database_that_is_moved_while_it_is_open_writes_into_no_other() {
    for filled in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (world, moved) = (dir.path().join("world"), dir.path().join("moved"));
        let db = open(config(&world)).unwrap();
        fill(&db);
        std::fs::rename(&world, &moved).unwrap();
        let other = open(config(&world)).unwrap();
        if filled {
            fill(&other);
        }
        let write = || db.write(|tx| Ok(tx.spawn((Counter(1), Name("x".repeat(40_000))))));
        let acknowledged = (0..10).take_while(|_| write().is_ok()).count();
        assert!(db.snapshot().unwrap().wait().is_err());
        assert!(acknowledged < 10 && db.close().is_err());
        fill(&other);
        other.close().unwrap();
        for (dir, len) in [(&world, if filled { 12 } else { 6 }), (&moved, 6 + acknowledged)] {
            assert_eq!(open(config(dir)).unwrap().view().unwrap().len(), len, "{}", dir.display());
            assert_eq!(ecsdb::verify(&config(dir), |_| {}).unwrap().faults, Vec::<String>::new());
        }
    }
}

#[test]
fn a_manifest_of_another_database_is_passed_over_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (world, other) = (dir.path().join("world"), dir.path().join("other"));
    session(config(&world));
    session(config(&other));
    for ahead in [true, false] {
        let newest = |dir: &Path| manifests(dir).pop().unwrap().file_name().unwrap().to_owned();
        let (first, then) = if ahead { (&world, &other) } else { (&other, &world) };
        while newest(then) <= newest(first) {
            drop(open(config(then)).unwrap());
        }
        let stranger = world.join(newest(&other));
        std::fs::copy(other.join(newest(&other)), &stranger).unwrap();
        let bytes = std::fs::read(&stranger).unwrap();
        assert!(ecsdb::verify(&config(&world), |_| {}).unwrap().faults.is_empty());
        for policy in [Policy::Strict, Policy::TruncateTail, Policy::Salvage] {
            let mut config = config(&world);
            config.recovery.policy = policy;
            let db = open(config).unwrap();
            assert_eq!(
                (db.view().unwrap().len(), db.recovery_report().unwrap().data_loss),
                (6, DataLoss::None)
            );
            db.close().unwrap();
            assert_eq!(std::fs::read(&stranger).unwrap(), bytes, "{ahead}");
        }
    }
}

#[test]
fn names_of_directories_do_not_matter() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("disk/snapshots")).unwrap();
    std::fs::create_dir_all(path("sub")).unwrap();
    let outside: [fn(&Path) -> PathBuf; 2] =
        [|world| world.join("../disk/snapshots"), |world| world.join("snapshots")];
    for (i, outside) in outside.into_iter().enumerate() {
        let (world, copy, moved) =
            (path(&format!("world{i}")), path(&format!("copy{i}")), path(&format!("moved{i}")));
        let with = |root: &Path| {
            let mut config = config(root);
            config.snapshot.dir = Some(outside(root));
            config
        };
        if i == 1 {
            std::fs::create_dir_all(path("disk/more")).unwrap();
            std::fs::create_dir(&world).unwrap();
            symlink(path("disk/more"), world.join("snapshots")).unwrap();
        }
        let db = open(with(&world)).unwrap();
        fill(&db);
        let expected = digest(&db);
        db.close().unwrap();
        // The database by other names.
        let link = path(&format!("link{i}"));
        symlink(&world, &link).unwrap();
        for name in [path("sub").join("..").join(world.file_name().unwrap()), link] {
            assert_eq!(digest(&open(with(&name)).unwrap()), expected, "{}", name.display());
            let to = name.join("copy");
            let refused = ecsdb::restore_copy(&with(&world), &to, Moment::Latest, |_| {}).unwrap_err();
            assert!(matches!(refused, Error::Store(StoreError::TargetWithin(_))), "{refused}");
        }
        // A copy that would share them.
        copy_dir(&world, &copy);
        if i == 1 {
            std::fs::remove_dir_all(copy.join("snapshots")).unwrap();
            symlink(path("disk/more"), copy.join("snapshots")).unwrap();
        }
        let refused = open(with(&copy)).unwrap_err();
        assert!(matches!(refused, Error::Recovery(RecoveryError::ForeignDirectory { .. })), "{refused}");
        // Moved elsewhere, with a link where it was.
        std::fs::rename(&world, &moved).unwrap();
        symlink(&moved, &world).unwrap();
        assert_eq!(digest(&open(with(&world)).unwrap()), expected);
    }
    // Two of its directories that are one.
    let mut one = config(&path("one"));
    symlink(path("disk"), path("two")).unwrap();
    one.archive.dir = Some(path("two/archive"));
    one.wal.dir = Some(path("disk/archive"));
    assert_eq!(open(one).unwrap_err().kind(), ErrorKind::Config);
    assert!(!path("one").exists());
}

/// A moved database without a manifest is nobody else's.
#[test]
fn a_moved_database_without_a_manifest_can_be_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let (world, moved) = (dir.path().join("world"), dir.path().join("moved"));
    let db = open(config(&world)).unwrap();
    fill(&db);
    let expected = digest(&db);
    db.close().unwrap();
    std::fs::rename(&world, &moved).unwrap();
    for entry in std::fs::read_dir(&moved).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "manifest") {
            std::fs::remove_file(entry).unwrap();
        }
    }
    let refused = open(config(&moved)).unwrap_err();
    assert!(matches!(refused, Error::Recovery(RecoveryError::NoManifest { .. })), "{refused}");
    let mut salvage = config(&moved);
    salvage.recovery.policy = Policy::Salvage;
    assert_eq!(digest(&open(salvage).unwrap()), expected);
}

#[test]
fn directories_are_different_ones_and_have_names() {
    let dir = tempfile::tempdir().unwrap();
    for (_, set) in DIRS {
        for name in ["", ".", "./log"] {
            let mut config = config(dir.path());
            let (empty, twice) = (name.is_empty(), dir.path().join(name));
            set(&mut config, if empty { PathBuf::new() } else { twice });
            if name.ends_with("log") && config.wal.dir.is_some() {
                continue;
            }
            let refused = open(config).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        }
    }
    assert!(content(dir.path()).is_empty());
    assert_eq!(Database::open("").unwrap_err().kind(), ErrorKind::Config);
    assert!(!Path::new("LOCK").exists());
}

#[test]
fn a_second_opening_in_the_same_process_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = Database::open(dir.path()).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(refused.to_string().contains("this process itself"), "{refused}");
    db.close().unwrap();
    Database::open(dir.path()).unwrap();
}

#[test]
fn what_is_not_ours_is_neither_deleted_nor_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (world, other) = (dir.path().join("world"), dir.path().join("other"));
    let db = open(config(&other)).unwrap();
    fill(&db);
    db.close().unwrap();
    let db = open(config(&world)).unwrap();
    fill(&db);
    db.close().unwrap();
    // A stranger's notes, another database's files under names that are not needed here, links to them, and noise.
    let foreign = std::fs::read(other.join("snapshots/0000000000000001.snap")).unwrap();
    let mut placed = vec![world.join("notes.tmp"), world.join("log/a.tmp"), world.join("snapshots/b.tmp")];
    placed.iter().for_each(|path| std::fs::write(path, b"notes").unwrap());
    let stray = world.join("snapshots/0000000000000077.snap");
    std::fs::write(&stray, &foreign).unwrap();
    let noise = world.join("snapshots/0000000000000078.snap");
    std::fs::write(&noise, b"noise").unwrap();
    placed.extend([stray, noise]);
    let target = dir.path().join("target");
    std::fs::write(&target, &foreign).unwrap();
    let links = [world.join("snapshots/0000000000000079.snap"), world.join("log/0000000000000079.seg")];
    #[cfg(unix)]
    links.iter().for_each(|link| std::os::unix::fs::symlink(&target, link).unwrap());
    let before: Vec<_> = placed.iter().map(|path| std::fs::read(path).unwrap()).collect();
    for _ in 0..2 {
        let db = open(config(&world)).unwrap();
        fill(&db);
        db.compact().unwrap().wait().unwrap();
        fill(&db);
        db.snapshot().unwrap().wait().unwrap();
        db.close().unwrap();
    }
    let after: Vec<_> = placed.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after);
    assert!(std::fs::read(&target).unwrap() == foreign);
    #[cfg(unix)]
    assert!(links.iter().all(|link| link.is_symlink()));
}

/// A link in the place of a file that is needed is damage of that file, wherever it leads.
#[cfg(unix)]
#[test]
fn a_link_in_a_snapshots_place_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("world");
    let db = open(config(&world)).unwrap();
    fill(&db);
    let expected = digest(&db);
    db.close().unwrap();
    let (snapshot, away) = (world.join("snapshots/0000000000000001.snap"), dir.path().join("away"));
    std::fs::rename(&snapshot, &away).unwrap();
    std::os::unix::fs::symlink(&away, &snapshot).unwrap();
    let before = std::fs::read(&away).unwrap();
    let db = open(config(&world)).unwrap();
    assert_eq!(digest(&db), expected);
    assert_eq!(db.recovery_report().unwrap().rejected.len(), 1);
    db.compact().unwrap().wait().unwrap();
    assert!(std::fs::read(&away).unwrap() == before);
}

/// A history with an archive, and the digest after each transaction.
fn with_history(dir: &Path) -> Vec<(Lsn, Digest)> {
    let mut config = config(dir);
    archiving(&mut config);
    let db = open(config).unwrap();
    let mut history = Vec::new();
    for i in 0..8 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("x".repeat(40_000)))))).unwrap();
        history.push((db.lsn(), digest(&db)));
        if i % 3 == 2 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    db.close().unwrap();
    history
}

fn every_moment_is_there(dir: &Path, history: &[(Lsn, Digest)]) {
    let copies = tempfile::tempdir().unwrap();
    for (lsn, expected) in history {
        let copy = copies.path().join(lsn.to_string());
        ecsdb::restore_copy(&config(dir), &copy, Moment::Lsn(*lsn), |_| {}).unwrap();
        assert_eq!(digest(&Database::open_read_only(&copy).unwrap()), *expected, "{lsn}");
    }
}

#[test]
fn what_was_kept_is_given_up_by_a_setting_that_says_so_alone() {
    let dir = tempfile::tempdir().unwrap();
    let history = with_history(dir.path());
    for _ in 0..2 {
        let db = open(config(dir.path())).unwrap();
        fill(&db);
        db.snapshot().unwrap().wait().unwrap();
        db.compact().unwrap().wait().unwrap();
        db.close().unwrap();
        every_moment_is_there(dir.path(), &history);
    }
    let mut given_up = config(dir.path());
    given_up.archive.enabled = Some(false);
    given_up.retention.snapshots_max = 1;
    let db = open(given_up).unwrap();
    fill(&db);
    db.compact().unwrap().wait().unwrap();
    db.close().unwrap();
    let copy = dir.path().with_extension("copy");
    let refused = ecsdb::restore_copy(&config(dir.path()), &copy, Moment::Lsn(Lsn(2)), |_| {}).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
}

#[test]
fn an_archive_that_was_away_is_whole_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (world, archive, away) =
        (dir.path().join("world"), dir.path().join("world/archive"), dir.path().join("away"));
    let history = with_history(&world);
    for mount_point_stays in [false, true] {
        std::fs::rename(&archive, &away).unwrap();
        if mount_point_stays {
            std::fs::create_dir(&archive).unwrap();
        }
        let db = open(config(&world)).unwrap();
        let mut events = db.events();
        fill(&db);
        db.snapshot().unwrap().wait().unwrap();
        let error = loop {
            if let Event::Failed { error, .. } = events.blocking_next().unwrap() {
                break error;
            }
        };
        assert!(error.contains("is away") && error.contains(archive.to_str().unwrap()), "{error}");
        db.close().unwrap();
        drop(std::fs::remove_dir(&archive));
        std::fs::rename(&away, &archive).unwrap();
        session(config(&world));
        every_moment_is_there(&world, &history);
    }
}

/// A part of the archive is away, or one of its files is damaged: nothing is given up for that.
#[test]
fn segments_that_are_away_from_the_archive_cost_no_others_and_may_come_back() {
    let names = |archive: &Path| -> Vec<String> {
        let names = std::fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name.contains(".seg"));
        names.sort();
        names
    };
    for (away, damaged) in [(0..1, false), (0..2, false), (1..2, false), (0..9, false), (0..1, true)] {
        println!("{away:?} {damaged}");
        let dir = tempfile::tempdir().unwrap();
        let (world, archive, elsewhere) =
            (dir.path().join("world"), dir.path().join("world/archive"), dir.path().join("away"));
        let history = with_history(&world);
        std::fs::create_dir(&elsewhere).unwrap();
        let before = names(&archive);
        let taken: Vec<&String> = before.iter().take(away.end).skip(away.start).collect();
        assert!(!taken.is_empty() && before.len() > 2, "{before:?}");
        for name in &taken {
            std::fs::copy(archive.join(name), elsewhere.join(name)).unwrap();
            if damaged {
                let mut bytes = std::fs::read(archive.join(name)).unwrap();
                bytes[20..40].fill(0xff);
                std::fs::write(archive.join(name), bytes).unwrap();
            } else {
                std::fs::remove_file(archive.join(name)).unwrap();
            }
        }
        for _ in 0..2 {
            session(config(&world));
        }
        let stayed = names(&archive);
        assert!(before.iter().all(|name| taken.contains(&name) || stayed.contains(name)), "{stayed:?}");
        for name in &taken {
            std::fs::copy(elsewhere.join(name), archive.join(name)).unwrap();
        }
        session(config(&world));
        every_moment_is_there(&world, &history);
    }
}

/// A copy that has the archive of its original, too, reads nothing there that was archived after it was made.
#[test]
fn a_copy_has_no_history_of_its_originals_after_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy, archive) =
        (dir.path().join("original"), dir.path().join("copy"), dir.path().join("archive"));
    let with = |root: &Path| {
        let mut config = config(root);
        archiving(&mut config);
        config.archive.dir = Some(archive.clone());
        config
    };
    let write = || {
        let db = open(with(&original)).unwrap();
        fill(&db);
        db.snapshot().unwrap().wait().unwrap();
        let digest = digest(&db);
        db.close().unwrap();
        digest
    };
    let expected = write();
    copy_dir(&original, &copy);
    for _ in 0..3 {
        write();
    }
    let looked = Database::builder(&copy).config(|config| *config = with(&copy)).open_read_only().unwrap();
    assert_eq!(digest(&looked), expected);
    assert_eq!(ecsdb::verify(&with(&copy), |_| {}).unwrap().last_lsn, looked.lsn());
    assert_eq!(digest(&open(with(&copy)).unwrap()), expected);
}

#[test]
fn a_copy_does_not_go_into_the_databases_own_directories() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(config(dir.path())).unwrap();
    fill(&db);
    for inner in ["copy", "log/copy", "archive", "quarantine"] {
        let to = dir.path().join(inner);
        let refused = db.restore_to(&to, Moment::Latest).unwrap().wait().unwrap_err();
        assert!(matches!(refused, Error::Store(StoreError::TargetWithin(_))), "{refused}");
        assert!(db.backup_to(&to).unwrap().wait().is_err());
    }
    db.close().unwrap();
    let refused = ecsdb::restore_copy(&config(dir.path()), &dir.path().join("copy"), Moment::Latest, |_| {});
    assert!(matches!(refused, Err(Error::Store(StoreError::TargetWithin(_)))), "{refused:?}");
}

/// Crashed after each operation, a copy is not there, or says that it is unfinished, or is whole; and can be made once more.
#[test]
fn a_copy_that_was_interrupted_is_absent_or_marked_or_whole() {
    let builder =
        |disk: &SimDisk, dir: &str| Database::builder(dir).vfs(disk.vfs()).without_threads().config(by_hand);
    let workload = |disk: &SimDisk, journal: &Journal<()>| -> Result<(), String> {
        let copied = || -> ecsdb::Result<()> {
            disk.put_dir("/data").map_err(RecoveryError::from)?;
            let db = builder(disk, "/data/world").open()?;
            db.write(|tx| Ok(tx.spawn_batch((0..20).map(Counter))))?;
            journal.note(());
            db.backup_to("/data/copy")?.wait()?;
            journal.note(());
            Ok(())
        };
        copied().map_err(|e| e.to_string())
    };
    let states = [const { AtomicU64::new(0) }; 3];
    let check = |disk: &SimDisk, case: &CrashCase<'_, ()>| -> Result<(), String> {
        let open = || builder(disk, "/data/copy");
        let state = match open().open_existing() {
            Ok(db) if db.view().unwrap().len() == 20 => 2,
            Ok(db) => return Err(format!("opens with {} entities", db.view().unwrap().len())),
            Err(Error::Recovery(RecoveryError::Unfinished { .. })) => 1,
            Err(e) if e.kind() == ErrorKind::NotFound => 0,
            Err(e) => return Err(e.to_string()),
        };
        if state == 1 {
            assert!(open().open().is_err() && open().create_new().is_err(), "it is not free for a new one");
        }
        if case.events.len() == 2 && state != 2 {
            return Err("it was said to be done".into());
        }
        states[state].fetch_add(1, Ordering::Relaxed);
        if state < 2 && !case.events.is_empty() {
            let again = builder(disk, "/data/world").open().and_then(|db| db.backup_to("/data/copy")?.wait());
            again.map_err(|e| format!("not once more: {e}"))?;
            if open().open().unwrap().view().unwrap().len() != 20 {
                return Err("the second copy differs".into());
            }
        }
        Ok(())
    };
    explore(&Exploration::default(), workload, check).unwrap();
    assert!(states.iter().all(|n| n.load(Ordering::Relaxed) > 0), "{states:?}");
}

/// The snapshots' directory is misspelt: the error says where it looked. Whoever salvages all the same finds everything as it was, as a
/// database of its own; and a second salvage, with the right directory, deletes nothing either.
#[test]
fn a_salvage_sets_the_database_aside_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let world = dir.path().join("world");
    let (right, wrong) = (dir.path().join("snapshots"), dir.path().join("snapshto"));
    let with = |snapshots: &Path, policy| {
        let mut config = config(&world);
        config.snapshot.dir = Some(snapshots.into());
        config.recovery.policy = policy;
        config
    };
    let db = open(with(&right, Policy::TruncateTail)).unwrap();
    fill(&db);
    // The log before it is gone from here on.
    db.compact().unwrap().wait().unwrap();
    db.write(|tx| Ok(tx.spawn(Counter(9)))).unwrap();
    let expected = digest(&db);
    db.close().unwrap();
    let snapshots = content(&right);

    let refused = open(with(&wrong, Policy::TruncateTail)).unwrap_err().to_string();
    assert!(refused.contains(wrong.to_str().unwrap()) && refused.contains("looks the same"), "{refused}");
    let db = open(with(&wrong, Policy::Salvage)).unwrap();
    let report = db.recovery_report().unwrap();
    assert_eq!((report.data_loss, db.view().unwrap().len()), (DataLoss::Acknowledged, 0));
    let aside =
        report.set_aside.iter().find(|path| path.to_string_lossy().contains("salvage-")).unwrap().clone();
    db.write(|tx| Ok(tx.spawn(Counter(10)))).unwrap();
    db.close().unwrap();
    assert!(content(&right) == snapshots);

    // Undone: what was set aside is the database as it was, with the right directory.
    let undo = |to: &str, aside: &Path| {
        let mut was = config(aside);
        was.snapshot.dir = Some(right.clone());
        let copy = dir.path().join(to);
        ecsdb::restore_copy(&was, &copy, Moment::Latest, |_| {}).unwrap();
        digest(&Database::open_read_only(&copy).unwrap())
    };
    assert_eq!(undo("undone", &aside), expected);

    // And a second salvage, with the right directory: the good snapshot is set aside, since the log does not lead on from it.
    assert!(open(with(&right, Policy::TruncateTail)).is_err());
    let db = open(with(&right, Policy::Salvage)).unwrap();
    let second = db
        .recovery_report()
        .unwrap()
        .set_aside
        .iter()
        .find(|path| path.to_string_lossy().contains("salvage-"));
    let second = second.unwrap().clone();
    db.close().unwrap();
    let kept: Vec<_> = content(&second).into_iter().map(|(_, bytes)| bytes).collect();
    for (path, bytes) in snapshots.iter().filter(|(path, _)| path.to_string_lossy().ends_with(".snap")) {
        assert!(kept.contains(bytes), "{}", path.display());
    }
}

/// A process was killed, and the log's directory is spelt wrongly. The snapshot has all that is left: it is set aside all the same. And when
/// the right log is back after something was written on, it is not taken for the continuation of that.
#[test]
fn the_log_of_before_a_salvage_does_not_go_on_after_it() {
    let disk = SimDisk::new(5);
    let builder = |disk: &SimDisk, log: &str, policy| {
        let log = PathBuf::from(log);
        let config = move |config: &mut PersistenceConfig| {
            by_hand(config);
            config.wal.dir = Some(log);
        };
        Database::builder("/db").vfs(disk.vfs()).without_threads().config(config).policy(policy)
    };
    let db = builder(&disk, "/log", Policy::Strict).open().unwrap();
    fill(&db);
    db.compact().unwrap().wait().unwrap();
    for i in 0..30 {
        db.write(|tx| Ok(tx.spawn((Counter(i), Name("y".repeat(20_000)))))).unwrap();
    }
    // Killed: no manifest says how far the log has come.
    let disk = disk.crash(CrashVariant { pattern: CrashPattern::Kept, names: NameOrder::Any });
    drop(db);
    let files = |ending: &str, of: &str| -> Vec<Vec<u8>> {
        let paths = disk.files().into_iter().map(|(path, _)| path.to_string_lossy().into_owned());
        let paths = paths.filter(|path| path.ends_with(ending) && path.contains(of));
        paths.map(|path| disk.read(path).unwrap()).collect()
    };
    let snapshots = files(".snap", "/db/snapshots");

    let db = builder(&disk, "/lug", Policy::Salvage).open().unwrap();
    assert_eq!(db.view().unwrap().len(), 6);
    let aside = files(".snap", "salvage-");
    assert!(snapshots.iter().all(|snapshot| aside.contains(snapshot)));
    for i in 0..3 {
        db.write(|tx| Ok(tx.spawn(Counter(i)))).unwrap();
    }
    db.snapshot().unwrap().wait().unwrap();
    let expected = digest(&db);
    db.close().unwrap();

    for policy in [Policy::Strict, Policy::TruncateTail] {
        let refused = builder(&disk, "/log", policy).open().unwrap_err();
        assert!(matches!(refused, Error::Recovery(RecoveryError::Corrupt { .. })), "{refused}");
    }
    let db = builder(&disk, "/log", Policy::Salvage).open().unwrap();
    assert_eq!(digest(&db), expected, "nothing of the other history is applied");
}

/// Crashed after each of its operations, a salvage that is started again gives the same, and has set everything aside.
#[test]
fn a_salvage_can_be_interrupted_anywhere() {
    let disk = SimDisk::new(3);
    let builder = |disk: &SimDisk, policy| {
        Database::builder("/db").vfs(disk.vfs()).without_threads().config(by_hand).policy(policy)
    };
    let db = builder(&disk, Policy::Strict).open().unwrap();
    fill(&db);
    let bound = db.view().unwrap().len();
    db.close().unwrap();
    let segments: Vec<_> =
        disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "seg")).collect();
    disk.corrupt(&segments[segments.len() - 2].0, 5_000, b"damage").unwrap();
    let files: Vec<(PathBuf, Vec<u8>)> =
        disk.files().into_iter().map(|(path, _)| (path.clone(), disk.read(&path).unwrap())).collect();
    let fresh = || {
        let disk = SimDisk::new(4);
        disk.put_dir("/db").unwrap();
        files.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
        disk
    };
    let whole = fresh();
    let start = whole.operations();
    let db = builder(&whole, Policy::Salvage).open().unwrap();
    let (expected, len) = (digest(&db), db.view().unwrap().len());
    assert!(len > 0 && len < bound);
    drop(db);
    let operations = whole.operations() - start;
    assert!(operations > 40, "{operations}");
    for at in 0..operations {
        let disk = fresh();
        disk.stop_after(disk.operations() + at);
        drop(builder(&disk, Policy::Salvage).open().map(|db| db.close()));
        for variant in disk.crash_variants(1, at, NameOrder::Any) {
            let disk = disk.crash(variant);
            let db = match builder(&disk, Policy::TruncateTail).open() {
                Ok(db) => db,
                Err(_) => builder(&disk, Policy::Salvage).open().unwrap(),
            };
            assert_eq!(digest(&db), expected, "operation {at}, {variant:?}");
            drop(db);
            let now: Vec<Vec<u8>> =
                disk.files().into_iter().map(|(path, _)| disk.read(&path).unwrap()).collect();
            for (path, bytes) in &files {
                let counts = path.extension().is_some_and(|e| e == "seg" || e == "snap")
                    && bytes.iter().any(|&b| b != 0);
                assert!(
                    !counts || now.contains(bytes),
                    "{} is gone; operation {at}, {variant:?}",
                    path.display()
                );
            }
            assert_eq!(digest(&builder(&disk, Policy::Strict).open().unwrap()), expected);
        }
    }
}

/// Whoever only looks is told of lost transactions as whoever opens is, and gets what is before them by saying so.
#[test]
fn what_is_lost_is_not_passed_over_by_looking() {
    let spoil: [fn(&Path); 3] = [
        |log| {
            let path = log.join("0000000000000005.seg");
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[20_000] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        },
        |log| std::fs::remove_file(log.join("0000000000000006.seg")).unwrap(),
        |log| std::fs::remove_dir_all(log).unwrap(),
    ];
    for (i, spoil) in spoil.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (world, copy) = (dir.path().join("world"), dir.path().join("copy"));
        let db = open(config(&world)).unwrap();
        fill(&db);
        db.close().unwrap();
        spoil(&world.join("log"));
        let corrupt = |e: &Error| matches!(e, Error::Recovery(RecoveryError::Corrupt { .. }));
        assert!(corrupt(&open(config(&world)).unwrap_err()), "{i}");
        let refused = Database::open_read_only(&world).unwrap_err();
        assert!(corrupt(&refused), "{i} {refused}");
        for moment in [Moment::Latest, Moment::Lsn(Lsn(6)), Moment::Time(std::time::SystemTime::now())] {
            let refused = ecsdb::restore_copy(&config(&world), &copy, moment, |_| {}).unwrap_err();
            assert!(corrupt(&refused), "{i} {moment} {refused}");
        }
        ecsdb::restore_copy(&config(&world), &copy, Moment::Lsn(Lsn(3)), |_| {}).unwrap();
        assert_eq!(Database::open(&copy).unwrap().view().unwrap().len(), 3);
    }
}

/// A full disk: it can be looked at, verified and restored from, and nothing is changed.
#[test]
fn a_database_on_a_full_disk_can_be_looked_at() {
    let disk = SimDisk::new(1);
    let builder = || Database::builder("/db").vfs(disk.vfs()).without_threads().config(by_hand);
    let db = builder().open().unwrap();
    fill(&db);
    let expected = digest(&db);
    drop(db);
    disk.erase("/db/LOCK").unwrap();
    for op in [FileOp::Create, FileOp::Write, FileOp::SetLen, FileOp::Rename, FileOp::Lock, FileOp::CreateDir]
    {
        disk.inject(Fault::on(op).times(u64::MAX).failing(Failure::NoSpace));
    }
    let files = || -> Vec<_> { disk.files().into_iter().map(|(path, _)| disk.read(path).unwrap()).collect() };
    let before = files();
    let db = builder().open_read_only().unwrap();
    assert_eq!(digest(&db), expected);
    assert!(matches!(db.write(|tx| Ok(tx.spawn(()))), Err(Error::ReadOnly(_))));
    assert!(matches!(db.snapshot(), Err(Error::ReadOnly(_))));
    assert!(builder().open().unwrap_err().is_full_disk());
    let layout = ecsdb_io::Layout::new("/db");
    let verified = ecsdb_recovery::verify(&*disk.vfs(), &layout, &mut |_| {}).unwrap();
    assert!(verified.faults.is_empty() && !verified.locked, "{verified:?}");
    assert!(files() == before);
}
