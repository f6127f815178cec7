//! What an entity of two components takes of memory, each world in a process of its own.

use std::process::Command;

use anyhow::{Context, ensure};
use clap::ValueEnum;

use crate::million::{bevy_world, hecs_world, own_world};
use crate::report::{Report, number};

/// A world in memory.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    Ecsdb,
    Hecs,
    Bevy,
}

const ROWS: [(&str, usize); 2] = [("memory_per_entity", 1), ("memory_per_entity_10m", 10)];

pub(crate) fn run(report: &mut Report, million: usize) -> anyhow::Result<()> {
    for (row, millions) in ROWS {
        if !report.wants(row) {
            continue;
        }
        eprintln!("{row} …");
        let of = |kind| of_a_process(kind, millions * million);
        let (own, hecs, bevy) = (of(Kind::Ecsdb)?, of(Kind::Hecs)?, of(Kind::Bevy)?);
        report.note(format!("{row}: hecs {}, bevy_ecs {}", number(hecs), number(bevy)));
        report.exact(row, "bytes", own, hecs.min(bevy));
    }
    Ok(())
}

fn of_a_process(kind: Kind, entities: usize) -> anyhow::Result<f64> {
    let name = kind.to_possible_value().context("it has a name")?;
    let mut child = Command::new(std::env::current_exe()?);
    let output =
        child.args(["--memory-of", name.get_name(), "--entities", &entities.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("what the child says")
}

/// Makes a world, and says how many bytes of memory an entity of it takes: what a child process does.
pub(crate) fn say(kind: Kind, entities: usize) -> anyhow::Result<()> {
    let before = resident()?;
    // The lists of ids are the application's, and gone before it is measured.
    let bytes = match kind {
        Kind::Ecsdb => {
            let (_world, ids) = own_world(entities)?;
            drop(ids);
            resident()?
        }
        Kind::Hecs => {
            let (_world, ids) = hecs_world(entities);
            drop(ids);
            resident()?
        }
        Kind::Bevy => {
            let (_world, ids) = bevy_world(entities);
            drop(ids);
            resident()?
        }
    };
    println!("{}", (bytes - before) as f64 / entities as f64);
    Ok(())
}

/// Bytes of this process in memory.
fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
