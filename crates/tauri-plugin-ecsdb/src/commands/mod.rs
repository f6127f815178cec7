//! The commands, each one call of the database.

mod events;
mod stores;
mod world;

use tauri::Runtime;
use tauri::ipc::Invoke;

/// Gives each call to its command.
pub(crate) fn handler<R: Runtime>() -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        world::create_snapshot,
        world::list_snapshots,
        world::restore_snapshot,
        world::compact,
        world::verify,
        world::stats,
        world::query,
        world::reconfigure,
        events::subscribe,
        events::unsubscribe,
        stores::store_load,
        stores::store_is_known,
        stores::store_get,
        stores::store_has,
        stores::store_keys,
        stores::store_values,
        stores::store_entries,
        stores::store_length,
        stores::store_set,
        stores::store_delete,
        stores::store_clear,
        stores::store_reset,
        stores::store_save,
        stores::store_watch,
        stores::store_unwatch,
    ]
}
