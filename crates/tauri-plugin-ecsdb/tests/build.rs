//! Gives the test application its capabilities.

fn main() {
    tauri_build::build();
}
