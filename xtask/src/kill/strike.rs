//! How a process is struck, and how that is done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;

use ecsdb_witness::{Claims, History, command_line, parse};

/// What writes, names and syncs files. Those that an architecture does not have are passed over.
const CALLS: [&str; 17] = [
    "openat",
    "pwrite64",
    "pwritev",
    "write",
    "fdatasync",
    "fsync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "pread64",
    "getdents64",
];
const ERRORS: [&str; 2] = ["EIO", "ENOSPC"];
/// A process takes a tenth of a second.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const KILL: i32 = 9;

#[derive(Debug, Clone)]
pub(super) enum Strike {
    /// SIGKILL after a time.
    Moment(Duration),
    /// SIGKILL at the n-th call of a thread.
    Call { call: &'static str, n: u64 },
    /// An error of the n-th call of a thread.
    Error { call: &'static str, error: &'static str, n: u64 },
}

pub(super) enum Ended {
    Killed,
    /// An error that the engine returned, or that kept the process from starting.
    Failed,
    /// The strike came too late, or had no effect.
    Done,
    Wrongly(String),
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strike::Moment(time) => write!(f, "SIGKILL after {time:.1?}"),
            Strike::Call { call, n } => write!(f, "SIGKILL at {call} number {n}"),
            Strike::Error { call, error, n } => write!(f, "{error} of {call} number {n}"),
        }
    }
}

impl Strike {
    /// For the statistics.
    pub(super) fn kind(&self) -> String {
        match self {
            Strike::Moment(_) => "SIGKILL at a random moment".into(),
            Strike::Call { call, .. } => format!("SIGKILL at {call}"),
            Strike::Error { call, error, .. } => format!("{error} of {call}"),
        }
    }

    /// The same at call `n` instead; a moment stays.
    pub(super) fn earlier(&self, smaller: u64) -> Strike {
        let mut strike = self.clone();
        if let Strike::Call { n, .. } | Strike::Error { n, .. } = &mut strike {
            *n = (smaller + 1).min(*n);
        }
        strike
    }

    /// Runs the process and strikes it. Fails when it claims what must not be.
    pub(super) fn run(
        &self,
        arguments: &[OsString],
        claims: &mut Claims,
        history: &mut History,
    ) -> anyhow::Result<Ended> {
        let injected = match self {
            Strike::Moment(_) => None,
            Strike::Call { call, n } => Some(format!("inject=?{call}:signal=KILL:when={n}")),
            Strike::Error { call, error, n } => Some(format!("inject=?{call}:error={error}:when={n}")),
        };
        let mut command = match injected {
            None => Command::new(std::env::current_exe()?),
            Some(injected) => {
                let mut strace = Command::new("strace");
                strace
                    .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", &injected])
                    .arg(std::env::current_exe()?);
                strace
            }
        };
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that strace and what it runs end together.
        let mut child = command.process_group(0).spawn().context("starting a process")?;
        let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut errors = child.stderr.take().context("no pipe")?;
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|len| len > 0) {
                if let Some(parsed) = parse(&line)
                    && sender.send(parsed).is_err()
                {
                    break;
                }
                line.clear();
            }
        });
        let began = Instant::now();
        let mut struck = false;
        let mut judged: anyhow::Result<()> = Ok(());
        loop {
            if let Strike::Moment(time) = self
                && !struck
                && began.elapsed() >= *time
            {
                struck = true;
                child.kill()?;
            }
            match lines.recv_timeout(Duration::from_millis(1)) {
                Ok(line) => judged = judged.and_then(|()| claims.take(line, history)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if began.elapsed() > SILENCE_MAX {
                let group = rustix::process::Pid::from_child(&child);
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL)?;
                child.wait()?;
                return Ok(Ended::Wrongly(format!("it hangs while {}", claims.phase())));
            }
        }
        let status = child.wait()?;
        judged?;
        let errors = errors.join().unwrap_or_default();
        Ok(ended(status, claims, &errors))
    }
}

fn ended(status: ExitStatus, claims: &Claims, errors: &str) -> Ended {
    if errors.contains("panicked at") {
        return Ended::Wrongly(format!("it panicked: {errors}"));
    }
    match (status.code(), status.signal()) {
        (_, Some(KILL)) => Ended::Killed,
        (_, Some(signal)) => Ended::Wrongly(format!("it died of signal {signal}: {errors}")),
        (Some(0), _) if claims.done => Ended::Done,
        _ => Ended::Failed,
    }
}

pub(super) fn arguments(base: &Path, history: u64, seed: u64, rounds: usize) -> Vec<OsString> {
    let mut arguments = vec!["witness".into()];
    arguments.extend(command_line(base, Path::new("/dev/stdout"), history, seed, rounds));
    arguments
}

/// What there is to choose from.
pub(super) struct Strikes {
    /// Calls of the thread that has most of them, in a process that nothing happens to; none without strace.
    calls: Vec<(&'static str, u64)>,
    /// How long such a process takes.
    time: Duration,
}

impl Strikes {
    pub(super) fn find(scratch: &Path, rounds: usize) -> anyhow::Result<Strikes> {
        let (base, trace) = (scratch.join("tried"), scratch.join("trace"));
        std::fs::create_dir_all(&base)?;
        let began = Instant::now();
        let arguments = arguments(&base, 0, 0, rounds);
        let quiet = |mut command: Command| command.args(&arguments).stdout(Stdio::null()).status();
        anyhow::ensure!(
            quiet(Command::new(std::env::current_exe()?))?.success(),
            "a process does not run at all"
        );
        let time = began.elapsed();
        let mut strace = Command::new("strace");
        let names: Vec<String> = CALLS.iter().map(|call| format!("?{call}")).collect();
        let filter = format!("trace={}", names.join(","));
        strace.args(["-f", "-e", &filter, "-o"]).arg(&trace).arg(std::env::current_exe()?);
        let mut calls = Vec::new();
        if quiet(strace).is_ok_and(|status| status.success()) {
            let text = std::fs::read_to_string(&trace)?;
            let counted = count(&text);
            calls = CALLS.iter().filter_map(|call| Some((*call, *counted.get(call)?))).collect();
        }
        std::fs::remove_dir_all(&base)?;
        Ok(Strikes { calls, time })
    }

    pub(super) fn without_strace(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn choose(&self, random: &mut fastrand::Rng) -> Strike {
        let dice = random.u32(..10);
        if dice < 3 || self.calls.is_empty() {
            // Half of them in the first part, in which it opens.
            let share = if random.bool() { 0.3 } else { 1.0 };
            return Strike::Moment(self.time.mul_f64(share * random.f64()));
        }
        let (call, most) = self.calls[random.usize(..self.calls.len())];
        let n = random.u64(1..=most);
        match dice {
            3..8 => Strike::Call { call, n },
            _ => Strike::Error { call, error: ERRORS[random.usize(..ERRORS.len())], n },
        }
    }
}

/// Counts the calls of each thread in what strace wrote, and gives the largest count of each call: strace counts for each thread, too.
fn count(trace: &str) -> BTreeMap<&str, u64> {
    let mut threads: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *threads.entry((thread, call)).or_default() += 1;
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in threads {
        let known: &mut u64 = most.entry(call).or_default();
        *known = count.max(*known);
    }
    most
}
