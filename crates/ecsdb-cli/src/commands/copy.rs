//! Writing a state into a directory of its own, as a database: what `restore`, `backup` and `load` have in common.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use ecsdb::{PersistenceConfig, SnapshotInfo, Task, View};
use ecsdb_compactor::copy::{refuse_within, write_database};
use ecsdb_compactor::{Control, EventSender};
use ecsdb_io::{Disk, Layout};

use crate::interrupt;
use crate::output::bar;

/// Whether a copy could be made there.
pub(crate) fn check_target(own: Option<&Layout>, to: &Path) -> Result<Layout> {
    let layout = Layout::new(to).absolute()?.real(&Disk)?;
    if let Some(own) = own {
        refuse_within(own, &layout)?;
    }
    let unfinished = layout.unfinished_file().exists();
    let used = match fs::read_dir(to) {
        Ok(mut entries) => entries.next().is_some() && !unfinished,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
        Err(e) => return Err(anyhow::Error::from(e).context(format!("looking at {}", to.display()))),
    };
    if used {
        return Err(ecsdb::StoreError::TargetNotEmpty(to.into()).into());
    }
    Ok(layout)
}

/// Writes the view into the directory. An interruption removes what is there of it, unless it was unfinished before.
pub(crate) fn write(
    view: View,
    own: Option<&Layout>,
    config: &PersistenceConfig,
    to: &Path,
) -> Result<SnapshotInfo> {
    let layout = check_target(own, to)?;
    let was_there = to.exists();
    let was_unfinished = layout.unfinished_file().exists();
    let _held = interrupt::hold();
    let control = Control::new(Task::Copy, EventSender::default());
    let bar = bar()?;
    let settings = config.store_settings();
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_database(&Disk, &layout, view, &settings, &control));
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
        Err(e) if e.is_cancelled() => {
            // Beside an attempt that was left unfinished there may be files of others: it stays what it was.
            if !was_unfinished {
                remove(to, was_there)?;
            }
            Err(e.into())
        }
        other => Ok(other?),
    }
}

/// Removes what is half done; the directory, too, if it was not there.
fn remove(dir: &Path, was_there: bool) -> Result<()> {
    if !was_there {
        return Ok(fs::remove_dir_all(dir)?);
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How a copy is told of.
pub(crate) fn json(to: &Path, info: Option<&SnapshotInfo>, state: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "to": to, "state": state, "bytes": info.map(|info| info.bytes), "written": info.is_some(),
    })
}
