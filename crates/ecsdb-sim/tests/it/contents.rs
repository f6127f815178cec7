//! Contents: what a crash keeps of bytes and lengths.

use std::collections::BTreeSet;
use std::path::Path;

use ecsdb_io::{OpenMode, Vfs};
use ecsdb_sim::{CrashPattern, CrashVariant, NameOrder, SimDisk};

use crate::{create, listing, open, outcomes, set};

/// A disk whose file `/f` holds `bytes`, durably.
fn disk_with(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put("/f", bytes).unwrap();
    disk
}

#[test]
fn unsynced_writes_are_lost_or_kept_in_any_combination() {
    let disk = disk_with(&[b'-'; 1024]);
    let file = open(&disk, "/f");
    file.write_at(b"A", 0).unwrap();
    file.write_at(b"B", 512).unwrap();
    let seen = outcomes(&disk, NameOrder::Journal, |crashed| {
        let bytes = crashed.read("/f").unwrap();
        format!("{}{}", bytes[0] as char, bytes[512] as char)
    });
    assert_eq!(seen, set(&["--", "A-", "-B", "AB"]));
    assert_eq!(&disk.read("/f").unwrap()[..1], b"A", "a crash leaves the disk it was made from alone");
}

#[test]
fn synced_data_always_survives() {
    let disk = disk_with(b"");
    let file = open(&disk, "/f");
    file.write_at(b"abc", 0).unwrap();
    file.set_len(5).unwrap();
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=abc\0\0"]));
}

#[test]
fn a_sync_covers_its_own_file_only() {
    let disk = disk_with(b"-");
    disk.put("/g", b"-").unwrap();
    let (f, g) = (open(&disk, "/f"), open(&disk, "/g"));
    f.write_at(b"F", 0).unwrap();
    g.write_at(b"G", 0).unwrap();
    f.sync_data().unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=F /g=-", "/f=F /g=G"]));
}

#[test]
fn a_later_write_may_survive_an_earlier_one_to_another_file() {
    let disk = disk_with(b"-");
    disk.put("/g", b"-").unwrap();
    open(&disk, "/f").write_at(b"F", 0).unwrap();
    open(&disk, "/g").write_at(b"G", 0).unwrap();
    assert!(outcomes(&disk, NameOrder::Any, listing).contains("/f=- /g=G"));
}

#[test]
fn a_prefix_of_the_changes_is_reachable_at_each_length() {
    let disk = disk_with(b"");
    let file = open(&disk, "/f");
    for (at, byte) in b"abcd".iter().enumerate() {
        file.write_at(&[*byte], at as u64).unwrap();
    }
    for count in 0..=4 {
        let crashed = disk.crash(CrashVariant::new(CrashPattern::Prefix(count)));
        assert_eq!(crashed.read("/f").unwrap(), &b"abcd"[..count]);
    }
}

#[test]
fn each_single_change_can_be_kept_or_lost_alone() {
    let disk = disk_with(&[b'-'; 2048]);
    disk.put("/g", &[b'-'; 2048]).unwrap();
    let (f, g) = (open(&disk, "/f"), open(&disk, "/g"));
    // The later file first: changes are numbered as they were made, whatever file they are in.
    g.write_at(b"0", 0).unwrap();
    f.write_at(b"1", 0).unwrap();
    g.write_at(b"2", 512).unwrap();
    f.write_at(b"3", 512).unwrap();
    let kept_by = |pattern| {
        let crashed = disk.crash(CrashVariant::new(pattern));
        let (f, g) = (crashed.read("/f").unwrap(), crashed.read("/g").unwrap());
        [g[0], f[0], g[512], f[512]].map(char::from).iter().collect::<String>()
    };
    assert_eq!([0, 1, 2, 3].map(|i| kept_by(CrashPattern::Only(i))), ["0---", "-1--", "--2-", "---3"]);
    assert_eq!([0, 1, 2, 3].map(|i| kept_by(CrashPattern::Without(i))), ["-123", "0-23", "01-3", "012-"]);
    assert_eq!([1, 2, 3].map(|i| kept_by(CrashPattern::Prefix(i))), ["0---", "01--", "012-"]);
    assert_eq!([kept_by(CrashPattern::Names), kept_by(CrashPattern::Contents)], ["----", "0123"]);
}

#[test]
fn names_and_contents_are_numbered_in_one_order() {
    let disk = disk_with(b"-");
    open(&disk, "/f").write_at(b"0", 0).unwrap();
    create(&disk, "/g");
    open(&disk, "/f").write_at(b"2", 0).unwrap();
    let kept = [0, 1, 2, 3].map(|i| listing(&disk.crash(CrashVariant::new(CrashPattern::Prefix(i)))));
    assert_eq!(kept, ["/f=-", "/f=0", "/f=0 /g=", "/f=2 /g="]);
}

#[test]
fn a_write_tears_between_sectors_and_nowhere_else() {
    let disk = disk_with(&[b'-'; 2048]);
    // From the middle of the first sector to the middle of the fourth.
    open(&disk, "/f").write_at(&[b'N'; 1536], 256).unwrap();
    let seen = outcomes(&disk, NameOrder::Any, |crashed| {
        let bytes = crashed.read("/f").unwrap();
        assert!(bytes[..256].iter().chain(&bytes[1792..]).all(|b| *b == b'-'), "nothing outside is touched");
        let parts = [&bytes[256..512], &bytes[512..1024], &bytes[1024..1536], &bytes[1536..1792]];
        assert!(parts.iter().all(|part| part.iter().all(|b| *b == part[0])), "a sector is old or new");
        parts.map(|part| part[0] as char).iter().collect::<String>()
    });
    assert_eq!(seen.len(), 16, "every subset of the four sectors: {seen:?}");
}

#[test]
fn a_torn_append_leaves_a_short_file_or_zeros_or_garbage() {
    let disk = disk_with(b"");
    open(&disk, "/f").write_at(&[b'N'; 1024], 0).unwrap();
    let seen: BTreeSet<(usize, String)> = outcomes(&disk, NameOrder::Any, |crashed| {
        let bytes = crashed.read("/f").unwrap();
        let kind = |part: &[u8]| match part {
            [] => "absent",
            [first, ..] if part.iter().all(|b| b == first) && *first == b'N' => "new",
            [first, ..] if part.iter().all(|b| b == first) && *first == 0 => "zeros",
            _ => "garbage",
        };
        let (a, b) = bytes.split_at(bytes.len().min(512));
        (bytes.len(), format!("{} {}", kind(a), kind(b)))
    });
    for (len, kinds) in [
        (0, "absent absent"),
        (512, "new absent"),
        (1024, "zeros new"),
        (1024, "zeros zeros"),
        (1024, "garbage garbage"),
        (1024, "new garbage"),
        (1024, "new new"),
    ] {
        assert!(seen.contains(&(len, kinds.to_string())), "{kinds} in {seen:?}");
    }
}

#[test]
fn a_sector_that_survives_holds_what_the_cache_held() {
    let disk = disk_with(b"----");
    let file = open(&disk, "/f");
    file.write_at(b"A", 0).unwrap();
    file.write_at(b"B", 1).unwrap();
    let seen =
        outcomes(&disk, NameOrder::Any, |crashed| String::from_utf8(crashed.read("/f").unwrap()).unwrap());
    assert_eq!(
        seen,
        set(&["----", "A---", "AB--"]),
        "the second write cannot reach the disk without the first"
    );
}

#[test]
fn an_unsynced_truncation_may_come_back() {
    let disk = disk_with(b"abcdef");
    open(&disk, "/f").set_len(2).unwrap();
    assert_eq!(outcomes(&disk, NameOrder::Any, listing), set(&["/f=abcdef", "/f=ab"]));
}

#[test]
fn a_removed_file_stays_readable_and_writable_while_open() {
    let disk = disk_with(b"abc");
    let file = open(&disk, "/f");
    disk.remove(Path::new("/f")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    file.write_at(b"X", 1).unwrap();
    file.sync_data().unwrap();
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"aXc");
    assert_eq!(listing(&disk), "");
}

#[test]
fn a_crashed_disk_is_independent_and_all_durable() {
    let disk = SimDisk::new(1);
    let file = create(&disk, "/f");
    file.write_at(b"abc", 0).unwrap();
    let crashed = disk.crash(CrashVariant::KEPT);
    file.write_at(b"xyz", 0).unwrap();
    assert_eq!(outcomes(&crashed, NameOrder::Any, listing), set(&["/f=abc"]));
}

#[test]
fn reading_stops_at_the_end_and_a_reader_may_not_write() {
    let disk = disk_with(b"abc");
    let file = disk.open(Path::new("/f"), OpenMode::Read).unwrap();
    let mut bytes = [9; 8];
    assert_eq!(file.read_at(&mut bytes, 1).unwrap(), 2);
    assert_eq!(file.read_at(&mut bytes, 3).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, u64::MAX).unwrap(), 0);
    assert!(file.write_at(b"x", 0).is_err());
    assert!(file.set_len(0).is_err());
    assert_eq!(disk.operations(), 0);
}

#[test]
fn a_wild_offset_is_an_error_and_takes_no_memory() {
    let disk = disk_with(b"abc");
    let file = open(&disk, "/f");
    assert!(file.write_at(b"x", u64::MAX).is_err());
    assert!(file.set_len(1 << 40).is_err());
    assert_eq!(listing(&disk), "/f=abc");
}
