//! Gives the application its capabilities.

fn main() {
    // What `npm run build` makes is embedded; without it there is a window with a word about that.
    println!("cargo:rerun-if-changed=ui");
    tauri_build::build();
}
