//! Names: what a crash keeps of creations, renames, removals and directories; and the directory lock.

use std::path::Path;

use ecsdb_io::{EntryKind, LockError, LockKind, Vfs};
use ecsdb_sim::{CrashVariant, NameOrder, SimDisk};

use crate::{create, listing, open, outcomes, rename, set, sync_dir};

#[test]
fn a_file_whose_name_was_never_synced_may_vanish_though_its_data_was() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f");
    file.write_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Journal, listing), set(&["", "/f=abc"]));
    sync_dir(&disk, "/");
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=abc"]));
}

#[test]
fn a_synced_name_may_stand_for_an_empty_file() {
    let disk = SimDisk::new(1);
    create(&disk, "/f").write_at(b"abc", 0).unwrap();
    sync_dir(&disk, "/");
    let seen = outcomes(&disk, NameOrder::Any, |crashed| crashed.read("/f").unwrap().len());
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn an_unsynced_rename_may_be_lost() {
    let disk = SimDisk::new(1);
    disk.put("/f", b"old").unwrap();
    disk.put("/f.tmp", b"new").unwrap();
    rename(&disk, "/f.tmp", "/f");
    assert_eq!(listing(&disk), "/f=new");
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=old /f.tmp=new", "/f=new"]));
    sync_dir(&disk, "/");
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=new"]));
}

#[test]
fn a_removal_takes_only_the_file_it_was_made_on() {
    let disk = SimDisk::new(1);
    disk.put("/f", b"old").unwrap();
    disk.put("/f.tmp", b"new").unwrap();
    rename(&disk, "/f.tmp", "/f");
    disk.remove(Path::new("/f")).unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=old /f.tmp=new", "/f=new", ""]));
}

#[test]
fn an_unsynced_removal_may_be_undone() {
    let disk = SimDisk::new(1);
    disk.put("/f", b"abc").unwrap();
    disk.remove(Path::new("/f")).unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["", "/f=abc"]));
}

#[test]
fn a_journal_keeps_a_prefix_of_a_directory_and_any_order_keeps_any_subset() {
    let disk = SimDisk::new(1);
    create(&disk, "/a");
    create(&disk, "/b");
    assert_eq!(outcomes(&disk, NameOrder::Journal, listing), set(&["", "/a=", "/a= /b="]));
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["", "/a=", "/b=", "/a= /b="]));
}

#[test]
fn directories_do_not_wait_for_each_other() {
    let disk = SimDisk::new(1);
    disk.put_dir("/x").unwrap();
    disk.put_dir("/y").unwrap();
    create(&disk, "/x/a");
    create(&disk, "/y/b");
    assert_eq!(outcomes(&disk, NameOrder::Journal, listing), set(&["", "/x/a=", "/y/b=", "/x/a= /y/b="]));
}

#[test]
fn a_new_directory_takes_everything_in_it_along_when_it_is_lost() {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new("/x/y")).unwrap();
    let file = create(&disk, "/x/y/f");
    file.write_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    sync_dir(&disk, "/x/y");
    sync_dir(&disk, "/x");
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["", "/x/y/f=abc"]));
    assert_eq!(disk.operations(), 7, "each directory is an operation of its own");
}

#[test]
fn a_rename_between_directories_shows_its_old_or_its_new_state_until_both_are_synced() {
    let both = set(&["/x/f=abc", "/y/g=abc"]);
    for (synced, expected) in [
        (&[][..], both.clone()),
        (&["/x"][..], both.clone()),
        (&["/y"][..], both),
        (&["/y", "/x"][..], set(&["/y/g=abc"])),
    ] {
        let disk = SimDisk::new(1);
        disk.put("/x/f", b"abc").unwrap();
        disk.put_dir("/y").unwrap();
        rename(&disk, "/x/f", "/y/g");
        synced.iter().for_each(|dir| sync_dir(&disk, dir));
        for names in [NameOrder::Journal, NameOrder::Any] {
            assert_eq!(outcomes(&disk, names, listing), expected, "synced: {synced:?}");
        }
    }
}

#[test]
fn a_synced_change_carries_the_journal_before_it_along() {
    let disk = SimDisk::new(1);
    disk.put("/x/f", b"abc").unwrap();
    disk.put_dir("/y").unwrap();
    rename(&disk, "/x/f", "/y/g");
    create(&disk, "/x/h");
    sync_dir(&disk, "/x");
    assert_eq!(outcomes(&disk, NameOrder::Journal, listing), set(&["/x/h= /y/g=abc"]));
}

#[test]
fn a_name_used_twice_stands_for_one_of_its_files() {
    let disk = SimDisk::new(1);
    disk.put("/f", b"1").unwrap();
    disk.remove(Path::new("/f")).unwrap();
    let file = create(&disk, "/f");
    file.write_at(b"2", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Journal, listing), set(&["/f=1", "", "/f=2"]));
}

#[test]
fn operations_on_missing_or_existing_names_are_refused_and_not_counted() {
    let disk = SimDisk::new(1);
    disk.put("/x/f", b"").unwrap();
    let missing = Path::new("/missing");
    assert!(disk.remove(missing).unwrap_err().is_not_found());
    assert!(disk.rename(missing, Path::new("/g")).unwrap_err().is_not_found());
    assert!(disk.create(Path::new("/missing/f")).unwrap_err().is_not_found());
    assert!(disk.create(Path::new("/x/f")).is_err());
    assert!(disk.create_dir_all(Path::new("/x/f/y")).is_err());
    assert!(disk.remove(Path::new("/x")).is_err());
    assert!(disk.rename(Path::new("/x"), Path::new("/x/y")).is_err());
    assert_eq!(disk.file_len(missing).unwrap(), None);
    assert_eq!(disk.file_len(Path::new("/x/f")).unwrap(), Some(0));
    assert_eq!(disk.operations(), 0);
}

#[test]
fn listings_are_sorted_and_relative_paths_start_at_the_root() {
    let disk = SimDisk::new(1);
    disk.put("b", b"12").unwrap();
    disk.put("/a/../c/d", b"").unwrap();
    let names: Vec<(String, bool, u64)> = disk
        .read_dir(Path::new("."))
        .unwrap()
        .into_iter()
        .map(|entry| (entry.name, entry.kind == EntryKind::Dir, entry.len))
        .collect();
    assert_eq!(names, [("b".to_string(), false, 2), ("c".to_string(), true, 0)]);
}

#[test]
fn a_lock_is_held_until_dropped_and_names_its_holder() {
    let disk = SimDisk::new(1);
    let path = Path::new("/LOCK");
    let lock = disk.try_lock(path, LockKind::Exclusive, "process 42").unwrap();
    match disk.try_lock(path, LockKind::Exclusive, "process 43") {
        Err(LockError::Held { holder, .. }) => assert_eq!(holder, "process 42"),
        other => panic!("expected Held, got {other:?}"),
    }
    drop(lock);
    drop(disk.try_lock(path, LockKind::Exclusive, "p").unwrap());
    assert_eq!(listing(&disk), "/LOCK=", "as on a real disk");
}

#[test]
fn readers_share_a_lock_and_keep_a_writer_out() {
    let disk = SimDisk::new(1);
    let path = Path::new("/LOCK");
    let readers = ["1", "2"].map(|holder| disk.try_lock(path, LockKind::Shared, holder).unwrap());
    for reader in readers {
        assert!(disk.try_lock(path, LockKind::Exclusive, "3").is_err());
        drop(reader);
    }
    let writer = disk.try_lock(path, LockKind::Exclusive, "3").unwrap();
    assert!(disk.try_lock(path, LockKind::Shared, "4").is_err());
    writer.check().unwrap();
    disk.remove(path).unwrap();
    assert!(writer.check().is_err());
}

#[test]
fn a_crash_releases_the_lock() {
    let disk = SimDisk::new(1);
    let _lock = disk.try_lock(Path::new("/LOCK"), LockKind::Exclusive, "process 42").unwrap();
    let crashed = disk.crash(CrashVariant::KEPT);
    crashed.try_lock(Path::new("/LOCK"), LockKind::Exclusive, "process 43").unwrap();
}

#[test]
fn a_renamed_over_file_stays_with_whoever_has_it_open() {
    let disk = SimDisk::new(1);
    disk.put("/f", b"old").unwrap();
    disk.put("/g", b"new").unwrap();
    let file = open(&disk, "/f");
    rename(&disk, "/g", "/f");
    sync_dir(&disk, "/");
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"old");
}
