//! Makes the permissions of the commands.

/// Every command, as `src/commands` has them.
const COMMANDS: &[&str] = &[
    "create_snapshot",
    "list_snapshots",
    "restore_snapshot",
    "compact",
    "verify",
    "stats",
    "query",
    "reconfigure",
    "subscribe",
    "unsubscribe",
    "store_load",
    "store_is_known",
    "store_get",
    "store_has",
    "store_keys",
    "store_values",
    "store_entries",
    "store_length",
    "store_set",
    "store_delete",
    "store_clear",
    "store_reset",
    "store_save",
    "store_watch",
    "store_unwatch",
];

fn main() {
    tauri_plugin::Builder::new(COMMANDS).build();
}
