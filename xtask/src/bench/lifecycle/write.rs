//! Writing full snapshots, against writing as many bytes past the system's cache.

use std::path::Path;
use std::time::Instant;

use ecsdb::SnapshotInfo;
use ecsdb_io::{Disk, PageVec, Vfs};

use super::world::Big;
use crate::bench::report::Report;

pub(super) const ROWS: &[&str] = &["snapshot_write", "snapshot_write_zstd", "snapshot_write_tmpfs"];

/// The parent of a filesystem in memory, where there is one.
pub(super) const TMPFS: &str = "/dev/shm";
const WRITE_BYTES: usize = 1 << 20;

pub(super) fn run(report: &mut Report, big: &Big, dir: &Path) -> anyhow::Result<()> {
    for (row, level) in [(ROWS[0], 0), (ROWS[1], 1)] {
        let mut seen = None;
        report.measure(
            row,
            "MB/s",
            || bare(big, dir),
            || {
                let started = Instant::now();
                let info = big.full(level)?;
                seen = Some((info, started.elapsed()));
                Ok(rate(&info))
            },
        )?;
        if let Some((info, whole)) = seen {
            report.note(format!(
                "{row}: {:.0} MB in a file of {:.0} MB in {:.2?}; with publishing and deleting the old one {whole:.2?}",
                info.raw_bytes as f64 / 1e6,
                info.bytes as f64 / 1e6,
                info.duration,
            ));
        }
    }
    in_memory(report, big)
}

/// A backup, since the directory of the snapshots cannot change while a database is open: the same code writes it.
fn in_memory(report: &mut Report, big: &Big) -> anyhow::Result<()> {
    if !report.wants(ROWS[2]) {
        return Ok(());
    }
    if !tmpfs_has_room(big) {
        report.note(format!("{}: left out, no room in {TMPFS}", ROWS[2]));
        return Ok(());
    }
    big.next_snapshot(0, true)?;
    report.measure(
        ROWS[2],
        "MB/s",
        || {
            let dir = tempfile::tempdir_in(TMPFS)?;
            bare(big, dir.path())
        },
        || {
            let dir = tempfile::tempdir_in(TMPFS)?;
            let info = big.db.backup_to(dir.path().join("backup"))?.wait()?;
            Ok(rate(&info))
        },
    )
}

pub(super) fn tmpfs_has_room(big: &Big) -> bool {
    let room = Disk.free_space(Path::new(TMPFS)).ok().flatten().unwrap_or(0);
    room as f64 > 2.5 * big.component_bytes()
}

/// Component bytes a second until the file was published and read back.
fn rate(info: &SnapshotInfo) -> f64 {
    info.raw_bytes as f64 / 1e6 / info.duration.as_secs_f64()
}

/// Writes as many bytes past the system's cache, where it lets that be, with one sync at the end, and removes them.
pub(super) fn bare(big: &Big, dir: &Path) -> anyhow::Result<f64> {
    let mut piece = PageVec::new();
    piece.resize(WRITE_BYTES, 0);
    fastrand::Rng::with_seed(7).fill(&mut piece);
    let path = dir.join("bare");
    let writes = big.component_bytes() as usize / WRITE_BYTES;
    let started = Instant::now();
    let file = Disk.create(&path)?;
    file.pass_cache_by();
    file.reserve((writes * WRITE_BYTES) as u64)?;
    for i in 0..writes {
        file.write_at(&piece, (i * WRITE_BYTES) as u64)?;
    }
    file.sync_data()?;
    let time = started.elapsed();
    Disk.remove(&path)?;
    Ok((writes * WRITE_BYTES) as f64 / 1e6 / time.as_secs_f64())
}
