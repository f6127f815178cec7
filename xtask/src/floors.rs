//! The floors of the house: a crate may depend only on crates of lower floors, never sideways.

use anyhow::{Context, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Floor by crate, as in `docs/architecture.md`.
const FLOORS: &[(&str, u32)] = &[
    ("ecsdb-id", 0),
    ("ecsdb-io", 0),
    ("ecsdb-derive", 0),
    ("ecsdb-core", 1),
    ("ecsdb-sim", 1),
    ("ecsdb-wal", 2),
    ("ecsdb-snapshot", 2),
    ("ecsdb-recovery", 3),
    ("ecsdb-compactor", 4),
    ("ecsdb-config", 5),
    ("ecsdb", 6),
    ("ecsdb-query", 7),
    ("ecsdb-cli", 8),
    ("tauri-plugin-ecsdb", 8),
];
/// Beside the house: they see all, and nothing depends on them.
const BESIDE: &[&str] = &[
    "xtask",
    "ecsdb-bench-ecs",
    "ecsdb-bench-instructions",
    "ecsdb-bench-peers",
    "ecsdb-models",
    "ecsdb-powercut",
    "ecsdb-simulate",
    "ecsdb-witness",
    "ecsdb-tests",
    "tauri-plugin-ecsdb-tests",
    "tauri-world",
];

pub(crate) fn check() -> anyhow::Result<()> {
    let metadata = MetadataCommand::new().no_deps().exec().context("running cargo metadata")?;
    let floor = |name: &str| FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor);
    let mut checked = 0;
    for package in &metadata.packages {
        let name = package.name.as_str();
        if BESIDE.contains(&name) {
            continue;
        }
        let own =
            floor(name).with_context(|| format!("crate {name} has no floor: give it one in {}", file!()))?;
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            if BESIDE.contains(&to) {
                bail!("{name} depends on {to}, on which nothing may depend");
            }
            let Some(lower) = floor(to) else { continue };
            // Tests may use the simulated disk on any floor, and nothing else of a higher or equal one.
            let is_test = dependency.kind == DependencyKind::Development;
            if lower >= own && !(is_test && to == "ecsdb-sim") {
                bail!("{name} (floor {own}) depends on {to} (floor {lower}): only lower floors are allowed");
            }
            checked += 1;
        }
    }
    println!("{} crates, {checked} dependencies between them, all downwards", FLOORS.len());
    Ok(())
}
