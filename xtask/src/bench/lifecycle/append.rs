//! Durable appends through `tokio::fs`, against the same on the calling thread: why the log's hot path is not
//! asynchronous.

use std::path::Path;
use std::time::{Duration, Instant};

use ecsdb_io::{AsyncFile, Disk, OpenMode, Vfs, VfsFile};

use crate::bench::rate;
use crate::bench::report::Report;

const TIME: Duration = Duration::from_millis(700);
/// As large as a commit of the other rows.
const APPEND: [u8; 256] = [7; 256];
/// Preallocated, as log segments are.
const FILE_BYTES: u64 = 16 << 20;

pub(super) fn run(report: &mut Report, dir: &Path) -> anyhow::Result<()> {
    if !report.wants("async_append") {
        return Ok(());
    }
    let path = dir.join("append");
    let file = Disk.create(&path)?;
    file.write_at(&vec![0; FILE_BYTES as usize], 0)?;
    file.sync_data()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let tokio_file = runtime.block_on(AsyncFile::open(&path, OpenMode::ReadWrite))?;
    report.measure(
        "async_append",
        "appends/s",
        || blocking(&*file),
        || runtime.block_on(asynchronous(&tokio_file)),
    )
}

fn blocking(file: &dyn VfsFile) -> anyhow::Result<f64> {
    let mut at = 0;
    rate(TIME, || {
        file.write_at(&APPEND, at)?;
        at = (at + APPEND.len() as u64) % FILE_BYTES;
        Ok(file.sync_data()?)
    })
}

async fn asynchronous(file: &AsyncFile) -> anyhow::Result<f64> {
    let started = Instant::now();
    let (mut at, mut n) = (0, 0u64);
    while started.elapsed() < TIME {
        file.write_all_at(&APPEND, at).await?;
        at = (at + APPEND.len() as u64) % FILE_BYTES;
        file.sync_data().await?;
        n += 1;
    }
    Ok(n as f64 / started.elapsed().as_secs_f64())
}
