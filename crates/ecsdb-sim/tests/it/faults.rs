//! Faults: errors, full disks, power cuts, damage; and that a run can be repeated.

use std::path::Path;
use std::time::Duration;

use ecsdb_io::{FileOp, Vfs};
use ecsdb_sim::{CrashVariant, Failure, Fault, NameOrder, SimDisk, is_power_lost};

use crate::{create, listing, open, outcomes, set, sync_dir};

fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put("/f", bytes).unwrap();
    disk
}

#[test]
fn data_synced_before_a_failed_sync_survives() {
    let disk = disk_with(b"--");
    let file = open(&disk, "/f");
    file.write_at(b"A", 0).unwrap();
    file.sync_data().unwrap();
    disk.inject(Fault::on(FileOp::Sync));
    file.write_at(b"B", 1).unwrap();
    assert!(file.sync_data().is_err());
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=A-", "/f=AB"]));
}

#[test]
fn a_later_sync_does_not_save_what_a_failed_one_orphaned() {
    let disk = disk_with(&[b'-'; 1024]);
    let file = open(&disk, "/f");
    disk.inject(Fault::on(FileOp::Sync));
    file.write_at(b"A", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.write_at(b"B", 512).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.read("/f").unwrap()[0], b'A', "reads still see it");
    let seen = outcomes(&disk, NameOrder::Any, |crashed| {
        let bytes = crashed.read("/f").unwrap();
        format!("{}{}", bytes[0] as char, bytes[512] as char)
    });
    assert_eq!(seen, set(&["-B", "AB"]));
}

#[test]
fn a_later_write_over_orphaned_bytes_makes_them_moot() {
    let disk = disk_with(b"-");
    let file = open(&disk, "/f");
    disk.inject(Fault::on(FileOp::Sync));
    file.write_at(b"A", 0).unwrap();
    assert!(file.sync_data().is_err());
    file.write_at(b"B", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=B"]));
}

#[test]
fn a_later_directory_sync_does_not_save_what_a_failed_one_orphaned() {
    let disk = SimDisk::new(1);
    create(&disk, "/f");
    disk.inject(Fault::on(FileOp::SyncDir));
    assert!(disk.sync_dir(Path::new("/")).is_err());
    sync_dir(&disk, "/");
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["", "/f="]));
}

#[test]
fn a_failed_operation_changes_nothing() {
    let disk = disk_with(b"abc");
    let file = open(&disk, "/f");
    for op in
        [FileOp::Write, FileOp::SetLen, FileOp::Create, FileOp::Rename, FileOp::Remove, FileOp::CreateDir]
    {
        disk.inject(Fault::on(op).failing(Failure::NoSpace));
    }
    assert!(file.write_at(b"x", 0).unwrap_err().is_full_disk());
    assert!(file.set_len(0).unwrap_err().is_full_disk());
    assert!(disk.create(Path::new("/g")).unwrap_err().is_full_disk());
    assert!(disk.rename(Path::new("/f"), Path::new("/g")).unwrap_err().is_full_disk());
    assert!(disk.remove(Path::new("/f")).unwrap_err().is_full_disk());
    assert!(disk.create_dir_all(Path::new("/d")).unwrap_err().is_full_disk());
    assert_eq!((listing(&disk), disk.faults_fired()), ("/f=abc".to_string(), 6));
    file.write_at(b"x", 0).unwrap();
}

#[test]
fn a_short_write_leaves_its_first_bytes() {
    let disk = disk_with(b"------");
    disk.inject(Fault::on(FileOp::Write).failing(Failure::ShortWrite(2)));
    assert!(open(&disk, "/f").write_at(b"ABCD", 1).is_err());
    assert_eq!(listing(&disk), "/f=-AB---");
}

#[test]
fn a_fault_strikes_the_operation_kind_and_name_it_is_meant_for() {
    let disk = disk_with(b"abc");
    disk.put("/log/1.seg", b"abc").unwrap();
    disk.inject(Fault::on(FileOp::Read).of_names_ending(".seg").of_names_containing("log").skip(1).times(2));
    let (f, seg) = (open(&disk, "/f"), open(&disk, "/log/1.seg"));
    let mut byte = [0];
    f.read_at(&mut byte, 0).unwrap();
    seg.read_at(&mut byte, 0).unwrap();
    assert!(seg.read_at(&mut byte, 0).is_err());
    assert!(seg.read_at(&mut byte, 0).is_err());
    f.read_at(&mut byte, 0).unwrap();
    seg.read_at(&mut byte, 0).unwrap();

    disk.inject(Fault::at(1));
    f.write_at(b"0", 0).unwrap();
    assert!(f.write_at(b"1", 1).is_err());
    f.write_at(b"2", 2).unwrap();
    assert_eq!(disk.read("/f").unwrap(), b"0b2");
}

#[test]
fn stopping_before_an_operation_leaves_it_undone_and_fails_everything_after() {
    let disk = disk_with(b"-");
    let file = open(&disk, "/f");
    disk.stop_before(1);
    file.write_at(b"A", 0).unwrap();
    assert!(is_power_lost(&file.sync_data().unwrap_err()));
    assert!(is_power_lost(&file.read_at(&mut [0], 0).unwrap_err().duplicate()));
    assert!(is_power_lost(&disk.remove(Path::new("/missing")).unwrap_err()));
    assert!(is_power_lost(&disk.read_dir(Path::new("/")).unwrap_err()));
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=-", "/f=A"]));
    assert_eq!(listing(&disk.crash(CrashVariant::LOST)), "/f=-");
}

#[test]
fn cleared_faults_do_not_strike_and_the_power_may_fail_at_once() {
    let disk = disk_with(b"-");
    let vfs = disk.vfs();
    disk.inject(Fault::on(FileOp::Create));
    disk.clear_faults();
    vfs.create(Path::new("/g")).unwrap();
    disk.power_off();
    assert!(is_power_lost(&vfs.create(Path::new("/h")).unwrap_err()));
    assert!(disk.crash(CrashVariant::KEPT).vfs().create(Path::new("/h")).is_ok());
}

#[test]
fn stopping_after_a_sync_leaves_it_done_though_its_caller_saw_an_error() {
    let disk = disk_with(b"-");
    let file = open(&disk, "/f");
    disk.stop_after(1);
    file.write_at(b"A", 0).unwrap();
    assert!(is_power_lost(&file.sync_data().unwrap_err()));
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=A"]));
}

#[test]
fn stopping_after_a_write_leaves_it_unsynced() {
    let disk = disk_with(b"-");
    disk.stop_after(0);
    assert!(is_power_lost(&open(&disk, "/f").write_at(b"A", 0).unwrap_err()));
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=-", "/f=A"]));
}

#[test]
fn a_quota_stops_growth_where_it_is_reached_and_can_be_raised() {
    let disk = disk_with(b"1234");
    disk.set_quota(Some(10));
    assert_eq!(disk.free_space(Path::new("/")).unwrap(), Some(6));
    let file = open(&disk, "/f");
    assert!(file.write_at(b"abcdefgh", 4).unwrap_err().is_full_disk());
    assert_eq!(listing(&disk), "/f=1234abcdef");
    file.write_at(b"0000", 0).unwrap();
    assert!(file.set_len(11).unwrap_err().is_full_disk());
    disk.set_quota(Some(11));
    file.set_len(11).unwrap();
}

#[test]
fn removing_a_file_frees_its_space_once_it_is_closed() {
    let disk = disk_with(b"1234");
    disk.set_quota(Some(4));
    let file = open(&disk, "/f");
    disk.remove(Path::new("/f")).unwrap();
    assert_eq!(disk.free_space(Path::new("/")).unwrap(), Some(0));
    drop(file);
    assert_eq!(disk.free_space(Path::new("/")).unwrap(), Some(4));
}

#[test]
fn damage_is_durable_at_once_and_no_operation() {
    let disk = disk_with(b"abcdef");
    disk.flip_bit("/f", 0, 1).unwrap();
    disk.corrupt("/f", 2, b"XY").unwrap();
    disk.truncate("/f", 5).unwrap();
    assert!(disk.flip_bit("/f", 5, 0).is_err());
    disk.put("/g/h", b"h").unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=cbXYe /g/h=h"]));
    disk.erase("/g/h").unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=cbXYe"]));
    assert_eq!(disk.operations(), 0);
}

#[test]
fn the_clock_moves_by_readings_and_by_hand_and_goes_on_after_a_crash() {
    let disk = SimDisk::new(1);
    let first = disk.now_unix_ns();
    assert!(disk.now_unix_ns() > first);
    disk.advance(Duration::from_secs(60));
    let later = disk.now_unix_ns();
    assert!(later > first + 60_000_000_000);
    assert!(disk.crash(CrashVariant::LOST).now_unix_ns() > later);
    disk.set_clock(first);
    assert!(disk.now_unix_ns() < later);
}

#[test]
fn the_same_seed_and_workload_give_the_same_trace_and_random_numbers() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let file = create(&disk, "/f");
        let salt = disk.random_u64();
        file.write_at(&vec![1; (salt % 1000 + 1) as usize], 0).unwrap();
        file.sync_data().unwrap();
        let crashed = disk.crash(CrashVariant::random(5, NameOrder::Any));
        (disk.trace(), salt, crashed.random_u64(), crashed.files())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1).1, run(2).1);
    assert_ne!(run(1).1, run(1).2, "a crash does not repeat random numbers");
    assert_eq!(run(1).0[2], "    2 sync /f");
}
