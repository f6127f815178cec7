//! What is noted each second of the process under load, and the file that it is kept in.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::lines::Stats;
use super::plot::{BLACK, BLUE, GREEN, MIB, Panel, RED, Timeline, line};

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Since the beginning of the run.
    pub(super) seconds: f64,
    /// Which of the processes, from 1.
    pub(super) life: u64,
    /// Commits in the last second; 0 while it opens or checks something.
    pub(super) commits: u64,
    /// Memory of the process, by the system.
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    /// Open files, pipes and so on.
    pub(super) handles: u64,
    /// Bytes of all files in the database directory.
    pub(super) disk_bytes: u64,
    /// What the engine says of itself, while it is open.
    pub(super) engine: Option<Engine>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Engine {
    pub(super) entities: usize,
    pub(super) durable_lsn: u64,
    /// Components in memory, old values included.
    pub(super) memory_bytes: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) archive_bytes: u64,
}

impl Timeline for Sample {
    fn seconds(&self) -> f64 {
        self.seconds
    }
}

/// What is drawn of a run.
pub(super) const PANELS: [Panel<Sample>; 4] = [
    Panel {
        unit: "commits in a second",
        lines: &[line("while under load", BLUE, |s| (s.commits > 0).then_some(s.commits as f64))],
    },
    Panel {
        unit: "memory, MiB",
        lines: &[
            line("of the process", BLACK, |s| Some(s.resident_bytes as f64 / MIB)),
            line("components, old values included", BLUE, |s| mib(s, |engine| engine.memory_bytes)),
        ],
    },
    Panel {
        unit: "number",
        lines: &[
            line("file handles", BLUE, |s| Some(s.handles as f64)),
            line("threads", RED, |s| Some(s.threads as f64)),
        ],
    },
    Panel {
        unit: "disk, MiB",
        lines: &[
            line("all files", BLACK, |s| Some(s.disk_bytes as f64 / MIB)),
            line("snapshots", BLUE, |s| mib(s, |engine| engine.snapshot_bytes)),
            line("archive", GREEN, |s| mib(s, |engine| engine.archive_bytes)),
            line("log", RED, |s| mib(s, |engine| engine.log_bytes)),
        ],
    },
];

fn mib(sample: &Sample, of: fn(&Engine) -> u64) -> Option<f64> {
    Some(of(sample.engine.as_ref()?) as f64 / MIB)
}

impl Sample {
    pub(super) fn new(seconds: f64, life: u64, process: u32, stats: Option<Stats>, disk_bytes: u64) -> Self {
        let Process { resident_bytes, threads, handles } = Process::of(process);
        Sample {
            seconds,
            life,
            commits: stats.map_or(0, |stats| stats.commits),
            resident_bytes,
            threads,
            handles,
            disk_bytes,
            engine: stats.map(|stats| Engine {
                entities: stats.entities,
                durable_lsn: stats.durable_lsn,
                memory_bytes: stats.memory_bytes,
                snapshot_bytes: stats.snapshot_bytes,
                log_bytes: stats.log_bytes,
                archive_bytes: stats.archive_bytes,
            }),
        }
    }
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    pub(super) handles: u64,
}

impl Process {
    pub(super) fn of(process: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let handles = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        Process { resident_bytes: field("VmRSS:") << 10, threads: field("Threads:"), handles: handles as u64 }
    }
}

/// Bytes of the files there, whatever they are. Those that go away meanwhile are none.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { bytes_below(&entry.path()) } else { meta.len() })
    });
    bytes.sum()
}

pub(super) fn append(dir: &Path, sample: &Sample) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file(dir))?;
    Ok(file.write_all((serde_json::to_string(sample)? + "\n").as_bytes())?)
}

/// Those of a run that is resumed.
pub(super) fn read(dir: &Path) -> anyhow::Result<Vec<Sample>> {
    let text = match std::fs::read_to_string(file(dir)) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let lines = text.lines().map(|line| serde_json::from_str(line).context("a sample"));
    lines.collect()
}

fn file(dir: &Path) -> PathBuf {
    dir.join("samples.jsonl")
}
