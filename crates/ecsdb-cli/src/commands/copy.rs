//! Writing a state into a directory of its own, as a database: what `restore`, `backup` and `load` have in common.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use ecsdb::{PersistenceConfig, SnapshotInfo, Task, View, config};
use ecsdb_compactor::copy::Limited;
use ecsdb_compactor::{Claim, Control, EventSender};
use ecsdb_io::{Disk, Layout, Vfs};
use ecsdb_recovery::look;
use ecsdb_snapshot::Kept;

use crate::interrupt;
use crate::output::{self, bar};
use crate::overlay::Overlay;
use crate::place::settings;
use crate::target::Taken;

/// Writes the view into a directory that [may be had](crate::target::for_copy), as fast as the settings allow; what the original has noted of
/// retention and archive, `kept`, goes on to hold. An interruption removes what is there of it, unless it was unfinished before. A dry run does the same up
/// to where there would be something to write.
pub(crate) fn write(
    view: View,
    layout: &Layout,
    config: &PersistenceConfig,
    kept: Kept,
    dry_run: bool,
) -> Result<Option<SnapshotInfo>> {
    interrupt::hold();
    if dry_run {
        let overlay = Arc::new(Overlay::new()?);
        Claim::take(overlay, layout, &layout.unfinished_file())?.begin()?;
        return Ok(None);
    }
    let control = Control::new(Task::Copy, EventSender::default());
    control.begin();
    let bar = bar()?;
    bar.set_message("writing");
    let settings = config.store_settings();
    let files = Limited::new(Arc::new(Disk), config.bytes_per_second_max(), &control)?;
    let taken = Taken::of_database(files.vfs(), layout)?;
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| taken.claim.write(view, &settings, kept, &control));
        while !writer.is_finished() {
            if interrupt::asked() {
                control.cancel();
            }
            let progress = control.progress();
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            std::thread::sleep(Duration::from_millis(10));
        }
        writer.join()
    });
    bar.finish_and_clear();
    let Ok(written) = written else { anyhow::bail!("the copy panicked; this is a bug of ecsdb") };
    match written {
        Ok(info) => Ok(Some(info)),
        Err(e) => taken.give_up(e.into()),
    }
}

/// How a copy is told of.
pub(crate) fn json(to: &Path, info: Option<&SnapshotInfo>, state: serde_json::Value) -> serde_json::Value {
    let copy = info.and_then(|_| look(&Disk, &Layout::new(to)).ok());
    serde_json::json!({
        "to": output::path(to), "state": state, "bytes": info.map(|info| info.bytes), "written": info.is_some(),
        "copy": copy.map(|manifest| format!("{:032x}", manifest.database)),
    })
}

/// What the environment says of directories with which a copy, or a demonstration, is not found: everything of one is at its usual place.
pub(crate) fn elsewhere(copy: &Layout) -> Result<Vec<String>> {
    let mut named = settings(None, copy.root())?;
    let dir = Disk.real_path(&named.dir)?;
    named.dir = copy.root().into();
    let named = named.layout_in(&Disk)?;
    let dirs = [
        ("dir", copy.root(), &*dir),
        ("wal.dir", copy.log_dir(), named.log_dir()),
        ("snapshot.dir", copy.snapshot_dir(), named.snapshot_dir()),
        ("archive.dir", copy.archive_dir(), named.archive_dir()),
    ];
    let others = dirs.into_iter().filter(|(_, usual, named)| usual != named);
    let told = others.map(|(key, usual, _)| {
        let variable = config::settings().iter().find(|it| it.key == key).map(|it| it.variable());
        let variable = variable.unwrap_or_default();
        format!("{variable} in the environment is not {}: unset it to open what is there", usual.display())
    });
    Ok(told.collect())
}
