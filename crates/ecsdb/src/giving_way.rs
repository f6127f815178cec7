//! Files for whoever puts an earlier world together: once that is cancelled, or somebody waits for it while it is done at low priority, they give nothing
//! more, so that it ends wherever in it it is.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ecsdb_compactor::Control;
use ecsdb_io::sync::atomic::{AtomicBool, Ordering};
use ecsdb_io::{Around, FileOp, Hooks, IoError, Vfs};

/// Whether they go on.
pub(crate) struct GivingWay {
    control: Control,
    /// It is done anew for whoever begins to wait.
    asks: bool,
    gave_way: AtomicBool,
}

impl GivingWay {
    /// The files of `vfs`, which ask whether somebody waits if it `asks` for that.
    pub(crate) fn of(vfs: Arc<dyn Vfs>, control: &Control, asks: bool) -> Around<GivingWay> {
        let control = control.clone();
        Around::new(vfs, GivingWay { control, asks, gave_way: AtomicBool::new(false) })
    }

    /// Whether they gave nothing more since somebody waits.
    pub(crate) fn gave_way(&self) -> bool {
        self.gave_way.load(Ordering::Relaxed)
    }

    /// Asks as a file does.
    pub(crate) fn goes_on(&self) -> bool {
        self.before(FileOp::Read, Path::new("")).is_ok()
    }
}

impl Hooks for GivingWay {
    fn before(&self, op: FileOp, path: &Path) -> Result<(), IoError> {
        if !matches!(op, FileOp::Open | FileOp::Read) {
            return Ok(());
        }
        let gives_way = self.asks && self.control.urgency().is_urgent();
        if gives_way {
            self.gave_way.store(true, Ordering::Relaxed);
        }
        if gives_way || self.control.is_cancelled() {
            // Of a kind that nobody asks for again, nor takes for the file's own fault.
            return Err(IoError::new(op, path, ErrorKind::TimedOut.into()));
        }
        Ok(())
    }
}
