//! The end of the application, whichever way it comes: by itself, by a restart, by a signal.

use std::sync::Arc;

use tauri::{AppHandle, Manager, Resource, Runtime};

use crate::state::{Ecsdb, EcsdbExt};

/// Closes when the application lets its resources go. That is all that a restart on the main thread does before it starts the new process,
/// which must find the directories released.
struct AtEnd<R: Runtime> {
    app: AppHandle<R>,
    ecsdb: Ecsdb,
    /// A page took it out of the table, which pages may do with any resource: that ends nothing.
    is_taken: std::sync::atomic::AtomicBool,
}

impl<R: Runtime> Resource for AtEnd<R> {
    fn close(self: Arc<Self>) {
        self.is_taken.store(true, std::sync::atomic::Ordering::Relaxed);
        // Not here: the table is locked.
        let app = self.app.clone();
        tauri::async_runtime::spawn(async move { close_at_the_end(&app) });
    }
}

impl<R: Runtime> Drop for AtEnd<R> {
    fn drop(&mut self) {
        if !self.is_taken.load(std::sync::atomic::Ordering::Relaxed) {
            self.ecsdb.close();
        }
    }
}

pub(crate) fn close_at_the_end<R: Runtime>(app: &AppHandle<R>) {
    let at_end = AtEnd { app: app.clone(), ecsdb: app.ecsdb().clone(), is_taken: false.into() };
    app.resources_table().add(at_end);
}

/// `SIGTERM`, `SIGINT` and `SIGHUP` end the application as its own exit does.
pub(crate) fn end_by_signal<R: Runtime>(app: &AppHandle<R>) {
    let app = app.clone();
    if let Err(e) = ctrlc::set_handler(move || app.exit(0)) {
        tracing::warn!(error = %e, "signals are the application's own affair; what was acknowledged is safe all the same");
    }
}
