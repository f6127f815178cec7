//! Recording a process, and cutting the power at points of the record.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ecsdb_witness::{Claims, History, command_line, judge, parse};

use crate::disk::{Class, Disk, Nodes, Op, Survival, empty, files};
use crate::fuse::{JOURNAL, Mounted};
use crate::summary::Summary;

pub(crate) const CONTROLS: [Class; 5] =
    [Class::Log, Class::Temporary, Class::LogDirectory, Class::SnapshotDirectory, Class::OtherDirectory];
/// Below the scratch directory: what a cut left.
pub(crate) const LEFT: &str = "left";
const JUDGED: &str = "judged";
const ROUNDS: usize = 6;
/// Milliseconds.
const KILLED_AFTER_MAX: u64 = 250;
const TIME_MAX: Duration = Duration::from_secs(60);
/// Tries for a smaller case.
const SHRINKING: usize = 200;

/// A disk, what was claimed of it, and its history.
pub(crate) struct Place {
    scratch: PathBuf,
    nodes: Nodes,
    claims: Claims,
    seed: u64,
    history: History,
}

/// What one process did.
pub(crate) struct Generation(Vec<Op>);

pub(crate) fn try_mount(scratch: &Path) -> anyhow::Result<()> {
    let at = scratch.join("tried");
    std::fs::create_dir(&at)?;
    Mounted::new(&at, empty())?.end()?;
    Ok(())
}

impl Place {
    pub(crate) fn new(scratch: &Path, seed: u64) -> Self {
        let (nodes, claims) = (empty(), Claims::default());
        Place { scratch: scratch.into(), nodes, claims, seed, history: History::new(seed) }
    }

    /// The same place, for a control.
    pub(crate) fn clone_claims(&self) -> Self {
        Place {
            scratch: self.scratch.clone(),
            nodes: self.nodes.clone(),
            claims: self.claims.clone(),
            seed: self.seed,
            history: History::new(self.seed),
        }
    }

    /// Runs a process on the disk as it is, to its end. In every other record one before it is killed, or ends without closing: what that wrote and did not sync is
    /// still there for the second one, and is lost with the power (REC-4).
    pub(crate) fn record(&self, random: &mut fastrand::Rng) -> anyhow::Result<Generation> {
        let at = self.scratch.join("mounted");
        std::fs::create_dir_all(&at)?;
        let mounted = Mounted::new(&at, self.nodes.clone()).context("mounting")?;
        match random.u32(..4) {
            0 => drop(self.start(&at, random.u64(..), 1, true)?.wait()?),
            1 => {
                let mut killed = self.start(&at, random.u64(..), ROUNDS, false)?;
                std::thread::sleep(Duration::from_millis(random.u64(..KILLED_AFTER_MAX)));
                killed.kill()?;
                killed.wait()?;
            }
            _ => {}
        }
        let mut child = self.start(&at, random.u64(..), ROUNDS, false)?;
        let began = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if began.elapsed() > TIME_MAX => {
                    child.kill()?;
                    child.wait()?;
                    anyhow::bail!("the process hangs");
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let ops = mounted.end().context("unmounting")?;
        ensure!(status.success(), "the process ended with {status}");
        Ok(Generation(ops))
    }

    fn start(&self, at: &Path, seed: u64, rounds: usize, abandon: bool) -> anyhow::Result<Child> {
        let arguments = command_line(at, &at.join(JOURNAL), self.seed, seed, rounds);
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("witness").args(arguments).args(abandon.then_some("--abandon")).stdin(Stdio::null());
        command.spawn().context("starting a process")
    }

    /// Cuts the power at so many points, and judges what is left. With a class of syncs that the disk lies about, the first thing that
    /// is wrong is the success of the control.
    pub(crate) fn cuts(
        &mut self,
        generation: &Generation,
        ignored: Option<Class>,
        count: usize,
        random: &mut fastrand::Rng,
        summary: &mut Summary,
    ) -> anyhow::Result<()> {
        let ops = &generation.0;
        let mut points: Vec<usize> = (0..count).map(|_| random.usize(..=ops.len())).collect();
        // The end, too: the process had closed the database.
        points.push(ops.len());
        points.sort_unstable();
        points.dedup();
        let (mut disk, mut claims) = (Disk::new(self.nodes.clone(), ignored), self.claims.clone());
        claims.new_life();
        let mut done = 0;
        for point in points {
            for op in &ops[done..point] {
                take(op, &mut disk, &mut claims, &mut self.history)?;
            }
            done = point;
            let survival = choose(random);
            let nodes = disk.cut(survival, random);
            let (state, judged) = self.judge(&nodes, &claims)?;
            let kind = format!("{survival:?}").split('(').next().unwrap_or_default().to_lowercase();
            summary.count(state, claims.phase(), kind);
            if let Err(e) = judged {
                let context = format!(
                    "after {point} of {} operations, in {}, {survival:?} of {} pending",
                    ops.len(),
                    claims.phase(),
                    disk.pending()
                );
                let smallest = if ignored.is_none() { self.smallest(generation, random)? } else { None };
                return Err(e.context(context).context(smallest.unwrap_or_default()));
            }
        }
        ensure!(claims.done, "the engine failed: {}", claims.error.unwrap_or_default());
        Ok(())
    }

    /// Looks for an earlier cut that fails, and for one of which nothing survives.
    fn smallest(
        &mut self,
        generation: &Generation,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Option<String>> {
        let ops = &generation.0;
        let (mut disk, mut claims) = (Disk::new(self.nodes.clone(), None), self.claims.clone());
        claims.new_life();
        let step = ops.len().div_ceil(SHRINKING).max(1);
        for (at, op) in ops.iter().enumerate() {
            take(op, &mut disk, &mut claims, &mut self.history)?;
            if at % step != 0 {
                continue;
            }
            for survival in [Survival::Nothing, Survival::Everything, Survival::Some(50)] {
                let nodes = disk.cut(survival, random);
                if self.judge(&nodes, &claims)?.1.is_err() {
                    return Ok(Some(format!(
                        "smallest: after {} operations, the last {}, {survival:?} survives",
                        at + 1,
                        short(op)
                    )));
                }
            }
        }
        Ok(None)
    }

    /// The disk goes on as a cut left it.
    pub(crate) fn go_on(
        &mut self,
        generation: &Generation,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<()> {
        let mut disk = Disk::new(self.nodes.clone(), None);
        self.claims.new_life();
        let point = random.usize(generation.0.len() / 2..=generation.0.len());
        for op in &generation.0[..point] {
            take(op, &mut disk, &mut self.claims, &mut self.history)?;
        }
        self.nodes = disk.cut(choose(random), random);
        Ok(())
    }

    /// Writes what is left into a directory, and judges a copy of it. Gives a hash of it, too.
    fn judge(&mut self, nodes: &Nodes, claims: &Claims) -> anyhow::Result<(u64, anyhow::Result<()>)> {
        let files = files(nodes);
        let mut hasher = DefaultHasher::new();
        (&files, claims.durable).hash(&mut hasher);
        let write = |name: &str| -> anyhow::Result<PathBuf> {
            let base = self.scratch.join(name);
            if base.exists() {
                std::fs::remove_dir_all(&base)?;
            }
            for (path, bytes) in &files {
                let path = base.join(path.trim_start_matches('/'));
                match bytes {
                    None => std::fs::create_dir(path)?,
                    Some(bytes) => std::fs::write(path, &**bytes)?,
                }
            }
            Ok(base)
        };
        let judged = judge(&write(JUDGED)?, claims, &mut self.history);
        if judged.is_err() {
            write(LEFT)?;
        }
        Ok((hasher.finish(), judged))
    }
}

fn take(op: &Op, disk: &mut Disk, claims: &mut Claims, history: &mut History) -> anyhow::Result<()> {
    disk.take(op);
    if let Op::Said(text) = op {
        for line in std::str::from_utf8(text)?.lines() {
            claims.take(parse(line).context("a line of the journal")?, history)?;
        }
    }
    Ok(())
}

/// Without the bytes.
fn short(op: &Op) -> String {
    match op {
        Op::Write { inode, offset, data } => {
            format!("a write of {} bytes at {offset} of inode {inode}", data.len())
        }
        Op::Said(text) => format!("that it said {}", String::from_utf8_lossy(text).trim()),
        _ => format!("{op:?}"),
    }
}

fn choose(random: &mut fastrand::Rng) -> Survival {
    match random.u32(..8) {
        0..2 => Survival::Nothing,
        2 => Survival::Everything,
        3 => Survival::Prefix,
        _ => Survival::Some([10, 50, 50, 90][random.usize(..4)]),
    }
}
