//! Work that may wait for a disk, off the main thread and off the threads that answer pages.

use ecsdb::ErrorKind;

use crate::error::{Error, Result};

/// Runs `work` to its end, whether or not anybody still waits for it: a page that is reloaded leaves no transaction half done.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tauri::async_runtime::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error { kind: ErrorKind::Bug, message: e.to_string() }))
}
