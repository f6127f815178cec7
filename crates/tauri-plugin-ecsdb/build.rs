//! Makes the permissions of the commands.

/// Every command, as `src/commands` has them.
const COMMANDS: &[&str] = &include!("commands.in");

fn main() {
    tauri_plugin::Builder::new(COMMANDS).build();
}
