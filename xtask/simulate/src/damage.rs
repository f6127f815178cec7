//! What happens to files that nobody has open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ecsdb_sim::SimDisk;

use crate::plan::Damage;

/// Where copies go.
pub(crate) const COPIES: &str = "/copies";
const SECTOR: u64 = 512;

/// Files as they were at an earlier time.
pub(crate) type Old = BTreeMap<PathBuf, Vec<u8>>;

pub(crate) fn copy_of(disk: &SimDisk) -> Old {
    let files = disk.files().into_iter().filter(|(path, _)| counts(path));
    files.filter_map(|(path, _)| Some((path.clone(), disk.read(path).ok()?))).collect()
}

/// The database's own files, without the lock and reports, which nobody relies on.
fn counts(path: &Path) -> bool {
    !path.starts_with(COPIES)
        && path
            .extension()
            .is_some_and(|e| ["seg", "snap", "manifest", "zst"].iter().any(|known| e == *known))
}

/// Does it, and says to which file; `None` where there was nothing to be done.
pub(crate) fn strike(disk: &SimDisk, damage: Damage, old: &Old) -> Option<PathBuf> {
    let files: Vec<(PathBuf, u64)> =
        disk.files().into_iter().filter(|(path, len)| counts(path) && *len > 0).collect();
    let choose = |n: u64| files.get((n % files.len().max(1) as u64) as usize).cloned();
    let sector = |n: u64, len: u64| (n % len.div_ceil(SECTOR)) * SECTOR;
    let struck = match damage {
        Damage::Flip(file, place) => {
            let (path, len) = choose(file)?;
            // Most of a log segment is zeros that nobody reads: rather near the beginning.
            let len = if place.is_multiple_of(3) { len } else { len.min(6000) };
            disk.flip_bit(&path, (place >> 3) % len, (place % 8) as u32).ok()?;
            path
        }
        Damage::Zeros(file, place) => {
            let (path, len) = choose(file)?;
            let at = sector(place, len.min(16_384));
            disk.corrupt(&path, at, &vec![0; SECTOR.min(len - at) as usize]).ok()?;
            path
        }
        Damage::Cut(file, place) => {
            let (path, len) = choose(file)?;
            disk.truncate(&path, place % len).ok()?;
            path
        }
        Damage::Missing(file) => {
            let (path, _) = choose(file)?;
            disk.erase(&path).ok()?;
            path
        }
        Damage::Stale(file) => {
            let (path, bytes) = old.iter().nth((file % old.len().max(1) as u64) as usize)?;
            let there = disk.read(path).ok();
            if there.as_ref() == Some(bytes) {
                return None;
            }
            disk.put(path, bytes).ok()?;
            path.clone()
        }
        Damage::Misdirected(file, place) => {
            let ((from, len), (to, to_len)) = (choose(file)?, choose(place)?);
            let at = sector(place >> 8, len.min(16_384));
            let bytes = disk.read(&from).ok()?;
            let bytes = bytes.get(at as usize..(at + SECTOR).min(len) as usize)?.to_vec();
            disk.corrupt(&to, sector(place >> 20, to_len.min(16_384)), &bytes).ok()?;
            to
        }
    };
    Some(struck)
}
