//! A part of a database is put back from an older copy, or a stranger's file is where its next one belongs: what it has had and what it has is
//! told apart, and neither is given up for the other (CKP-11, REC-13).

use std::path::{Path, PathBuf};

use ecsdb::prelude::*;
use ecsdb::{DataLoss, Digest, Event, Lsn, Moment, PersistenceConfig, Policy, StoreError};

use crate::bad_files::files;
use crate::components::{Counter, Name};
use crate::golden::copy_dir;
use crate::lifecycle::archiving;

fn config(root: &Path) -> PersistenceConfig {
    let mut config = PersistenceConfig::new(root);
    archiving(&mut config);
    config
}

/// Transactions of more than half a segment each, a snapshot after every third, and what was reported in the background. Each transaction
/// and the world after it are noted.
fn session(config: PersistenceConfig, n: u64, history: &mut Vec<(Lsn, Digest)>) -> Vec<String> {
    let db = Database::new_with_persistence(config).unwrap();
    let mut events = db.events();
    for i in 0..n {
        // No two sessions write the same.
        db.write(|tx| Ok(tx.spawn((Counter(fastrand::u64(..)), Name("x".repeat(40_000)))))).unwrap();
        history.push((db.lsn(), db.view().unwrap().digest().unwrap()));
        if i % 3 == 2 {
            db.snapshot().unwrap().wait().unwrap();
        }
    }
    db.close().unwrap();
    std::iter::from_fn(|| events.blocking_next())
        .filter_map(|event| match event {
            Event::Failed { error, .. } => Some(error),
            _ => None,
        })
        .collect()
}

fn every_moment_is_there(config: &PersistenceConfig, history: &[(Lsn, Digest)]) {
    let copies = tempfile::tempdir().unwrap();
    for (lsn, expected) in history {
        let copy = copies.path().join(lsn.to_string());
        ecsdb::restore_copy(config, &copy, Moment::Lsn(*lsn), |_| {}).unwrap();
        let world = Database::open_read_only(&copy).unwrap().view().unwrap().digest().unwrap();
        assert_eq!(world, *expected, "{lsn}");
    }
    assert_eq!(ecsdb::verify(config, |_| {}).unwrap().faults, Vec::<String>::new());
}

#[test]
fn a_strangers_file_keeps_no_segment_out_of_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (template, world) = (dir.path().join("template"), dir.path().join("world"));
    let mut before = Vec::new();
    session(config(&template), 8, &mut before);
    let archived = files(&template.join("archive"), ".seg.zst").len();
    for (ahead, bytes) in [(1, ""), (2, "noise"), (3, "")] {
        drop(std::fs::remove_dir_all(&world));
        copy_dir(&template, &world);
        let stranger = world.join(format!("archive/{:016}.seg.zst", archived + ahead));
        std::fs::write(&stranger, bytes).unwrap();
        let mut history = before.clone();
        let failed = session(config(&world), 6, &mut history);
        assert!(failed.iter().any(|error| error.contains(stranger.to_str().unwrap())), "{failed:?}");
        assert_eq!(session(config(&world), 4, &mut history), Vec::<String>::new());
        let kept = world.join("quarantine").join(stranger.file_name().unwrap());
        assert_eq!(std::fs::read_to_string(kept).unwrap(), bytes);
        every_moment_is_there(&config(&world), &history);
    }
}

/// A database that was put back from a copy, whose archive lies on another disk, and has what came after the copy was made. What there is in the
/// archive, and the history up to the copy.
fn put_back_beside_its_archive(dir: &Path) -> (PersistenceConfig, Vec<PathBuf>, Vec<(Lsn, Digest)>) {
    let (world, saved) = (dir.join("world"), dir.join("saved"));
    let mut config = config(&world);
    config.archive.dir = Some(dir.join("archive"));
    let mut history = Vec::new();
    session(config.clone(), 8, &mut history);
    copy_dir(&world, &saved);
    session(config.clone(), 14, &mut Vec::new());
    let had = files(&dir.join("archive"), ".seg.zst");
    std::fs::remove_dir_all(&world).unwrap();
    copy_dir(&saved, &world);
    (config, had, history)
}

#[test]
fn a_database_that_was_put_back_archives_its_own_history_beside_the_one_it_had() {
    for sessions in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let (config, had, mut history) = put_back_beside_its_archive(dir.path());
        let mut told = false;
        for n in 0..sessions {
            told |= !session(config.clone(), 8 + n, &mut history).is_empty();
        }
        assert!(told);
        every_moment_is_there(&config, &history);
        // Nothing of what there was is gone.
        let aside = files(&dir.path().join("world/quarantine"), ".seg.zst").len();
        let now = files(&dir.path().join("archive"), ".seg.zst").len();
        assert!(aside > 0 && aside + now >= had.len(), "{aside} {now} {}", had.len());
    }
}

/// The same, where the log has not come to what the archive has (REC-16).
#[test]
fn an_archive_ahead_of_a_log_that_was_put_back_is_no_part_of_its_past() {
    let dir = tempfile::tempdir().unwrap();
    let (config, _, mut history) = put_back_beside_its_archive(dir.path());
    for n in [0, 2] {
        session(config.clone(), n, &mut history);
        every_moment_is_there(&config, &history);
        ecsdb::restore_copy(&config, &dir.path().join(format!("copy{n}")), Moment::Latest, |_| {}).unwrap();
    }
}

#[test]
fn an_archive_that_goes_away_while_the_database_is_open_is_whole_when_it_is_back() {
    for mount_point_stays in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (world, archive, away) =
            (dir.path().join("world"), dir.path().join("world/archive"), dir.path().join("away"));
        let mut history = Vec::new();
        session(config(&world), 8, &mut history);
        let db = Database::new_with_persistence(config(&world)).unwrap();
        let mut events = db.events();
        let mut round = || {
            for _ in 0..3 {
                db.write(|tx| Ok(tx.spawn((Counter(fastrand::u64(..)), Name("x".repeat(40_000)))))).unwrap();
                history.push((db.lsn(), db.view().unwrap().digest().unwrap()));
            }
            db.snapshot().unwrap().wait().unwrap();
        };
        round();
        std::fs::rename(&archive, &away).unwrap();
        if mount_point_stays {
            std::fs::create_dir(&archive).unwrap();
        }
        round();
        round();
        let error = loop {
            if let Event::Failed { error, .. } = events.blocking_next().unwrap() {
                break error;
            }
        };
        assert!(error.contains("is away"), "{error}");
        drop(std::fs::remove_dir(&archive));
        std::fs::rename(&away, &archive).unwrap();
        round();
        db.close().unwrap();
        every_moment_is_there(&config(&world), &history);
    }
}

/// What a snapshot holds was durable in the log before. One that goes beyond the log is what is left of what was lost.
#[test]
fn a_snapshot_beyond_the_log_is_damage_to_the_log_and_is_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (world, saved, snapshots) =
        (dir.path().join("world"), dir.path().join("saved"), dir.path().join("snapshots"));
    let mut config = config(&world);
    config.snapshot.dir = Some(snapshots.clone());
    let mut history = Vec::new();
    session(config.clone(), 8, &mut history);
    copy_dir(&world, &saved);
    session(config.clone(), 6, &mut history);
    std::fs::remove_dir_all(&world).unwrap();
    copy_dir(&saved, &world);
    let newest = files(&snapshots, ".snap").pop().unwrap();
    let had = std::fs::read(&newest).unwrap();
    let open = |policy| {
        let mut config = config.clone();
        config.recovery.policy = policy;
        Database::new_with_persistence(config)
    };
    let latest = || ecsdb::restore_copy(&config, &dir.path().join("copy"), Moment::Latest, |_| {});
    for refused in [
        open(Policy::Strict).map(drop),
        open(Policy::TruncateTail).map(drop),
        Database::builder(&world).config(|c| *c = config.clone()).open_read_only().map(drop),
        latest().map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        assert!(refused.to_string().contains(".snap") && refused.to_string().contains("LSN 9"), "{refused}");
    }
    assert_eq!(ecsdb::verify(&config, |_| {}).unwrap().faults.len(), 1);
    let db = open(Policy::Salvage).unwrap();
    // It is newer than what log and manifest know, and the best that there is.
    let report = db.recovery_report().unwrap();
    assert_eq!(report.data_loss, DataLoss::Acknowledged);
    assert_eq!(report.unlisted, std::slice::from_ref(&newest));
    let best = history.iter().find(|(lsn, _)| *lsn == report.snapshot.unwrap().lsn).unwrap().1;
    assert_eq!(db.view().unwrap().digest().unwrap(), best);
    db.close().unwrap();
    let kept = std::fs::read_dir(world.join("quarantine")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<PathBuf> =
        kept.map(|salvage| salvage.join("snapshots").join(newest.file_name().unwrap())).collect();
    assert!(kept.iter().any(|kept| std::fs::read(kept).is_ok_and(|bytes| bytes == had)), "{kept:?}");
    assert_eq!(open(Policy::Strict).unwrap().view().unwrap().digest().unwrap(), best);
}

/// One session with a directory of snapshots that is the wrong one, or not mounted, and the right one again (CKP-11).
#[test]
fn snapshots_that_were_away_for_a_session_count_again_once_they_are_back() {
    for refused in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let (right, wrong) = (dir.path().join("right"), dir.path().join("wrong"));
        let with = |snapshots: &Path| {
            let mut config = PersistenceConfig::new(dir.path().join("world"));
            config.manual();
            config.snapshot.dir = Some(snapshots.into());
            config
        };
        let mut history = Vec::new();
        session(with(&right), 6, &mut history);
        let had = files(&right, ".snap");
        assert!(had.len() >= 2);
        let db = Database::new_with_persistence(with(&wrong)).unwrap();
        let away = &db.recovery_report().unwrap().rejected;
        assert!(!away.is_empty() && away.iter().all(|rejected| rejected.away), "{away:?}");
        for _ in 0..refused {
            db.write(|tx| Ok(tx.spawn(Counter(7)))).unwrap();
            let taken = db.snapshot().unwrap().wait();
            assert!(matches!(taken, Err(ecsdb::Error::Store(StoreError::SnapshotsAway(_)))), "{taken:?}");
        }
        let digest = db.view().unwrap().digest().unwrap();
        db.close().unwrap();
        let db = Database::new_with_persistence(with(&right)).unwrap();
        assert_eq!(db.view().unwrap().digest().unwrap(), digest);
        let loaded = db.recovery_report().unwrap().snapshot.unwrap();
        assert_eq!(right.join(format!("{:016}.snap", loaded.sequence)), *had.last().unwrap());
        db.close().unwrap();
        assert_eq!(files(&right, ".snap"), had);
        assert!(!dir.path().join("world/quarantine").exists());
    }
}

/// A copy of what was given up long ago is put into the directory: nobody uses it, and nobody has given it up (CKP-11).
#[test]
fn a_snapshot_that_comes_back_after_it_was_given_up_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (world, saved) = (dir.path().join("world"), dir.path().join("saved"));
    let mut config = PersistenceConfig::new(&world);
    config.manual();
    config.snapshot.chain_max = 1;
    let mut history = Vec::new();
    session(config.clone(), 3, &mut history);
    copy_dir(&world.join("snapshots"), &saved);
    session(config.clone(), 12, &mut history);
    let old = files(&saved, ".snap").remove(0);
    let back = world.join("snapshots").join(old.file_name().unwrap());
    assert!(!back.exists());
    std::fs::copy(&old, &back).unwrap();
    session(config, 0, &mut history);
    assert!(!back.exists());
    let aside = world.join("quarantine").join(old.file_name().unwrap());
    assert_eq!(std::fs::read(aside).unwrap(), std::fs::read(old).unwrap());
}
