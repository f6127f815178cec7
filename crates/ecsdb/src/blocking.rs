//! Running what may block for async code, with or without a Tokio runtime.

use ecsdb_io::sync::thread;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Runs `work` on a thread for blocking work: one of Tokio's where a runtime is there, else one of its own. A panic of it goes on
/// in the caller.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        return match runtime.spawn_blocking(work).await {
            Ok(value) => Ok(value),
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(Error::Closed),
            },
        };
    }
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Nobody may be waiting any more.
        drop(sender.send(result));
    };
    thread::Builder::new().name("ecsdb-blocking".into()).spawn(work).map_err(Error::Thread)?;
    match receiver.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Panicked("blocking thread")),
    }
}
