//! `cargo xtask model`: manifest, truncation, archive and compaction as a small model, of which every state is looked at, with a crash in
//! every one; and the same with deliberate breaks, each of which a property must notice.

#![forbid(unsafe_code)]

mod files;
mod store;

use anyhow::ensure;
use stateright::{Checker, Model};

use store::{Break, Store};

fn main() -> anyhow::Result<()> {
    let whole = Store { broken: None }.checker().threads(2).spawn_bfs().join();
    for (name, path) in whole.discoveries() {
        println!("{name}:\n{path}");
    }
    println!("{} states ({} unique), every property holds", whole.state_count(), whole.unique_state_count());
    ensure!(whole.is_done() && whole.discoveries().is_empty(), "the model breaks its own rules");
    let mut survivors = 0;
    for broken in Break::ALL {
        let checked = Store { broken: Some(broken) }.checker().threads(2).spawn_bfs().join();
        let fallen = checked.discoveries().into_iter().map(|(name, path)| (path.into_actions().len(), name));
        match fallen.min() {
            Some((steps, name)) => println!("killed:   {broken:?}: {name} falls after {steps} steps"),
            None => {
                println!("SURVIVED: {broken:?}");
                survivors += 1;
            }
        }
    }
    ensure!(survivors == 0, "{survivors} breaks are not noticed");
    Ok(())
}
