//! The run: lives of the process under load, one after another, sampled each second. Of a cycle of half an hour (a quarter of shorter
//! runs) the first two thirds are one life, in which a leak would show, and the rest is several short ones.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::judge::{self, Seen};
use super::lines::Line;
use super::sample::{self, Sample};
use super::state::State;

const CYCLE_MAX: Duration = Duration::from_secs(1800);
const LEG_MAX: Duration = Duration::from_secs(30);
const LIVES: u32 = 6;
const SAMPLE: Duration = Duration::from_secs(1);
const SAVE: Duration = Duration::from_secs(5);
/// It says something about each second; opening takes a few.
const SILENCE_MAX: Duration = Duration::from_secs(120);

pub(super) fn run(
    dir: &Path,
    time: Duration,
    state: State,
    samples: Vec<Sample>,
) -> anyhow::Result<(State, Vec<Sample>)> {
    std::fs::create_dir_all(dir)?;
    let bar = ProgressBar::new(time.as_secs());
    bar.set_style(ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}")?);
    let cycle = CYCLE_MAX.min(time / 4);
    let random = fastrand::Rng::with_seed(state.seed ^ (state.lives << 32));
    let start = state.seconds;
    let mut soak = Soak {
        dir,
        started: Instant::now(),
        start,
        cycle,
        bar,
        random,
        state,
        samples,
        saved: Instant::now(),
    };
    let mut alive = Ok(());
    while alive.is_ok() && soak.started.elapsed() < time {
        let left = time - soak.started.elapsed();
        alive = soak.life(left);
    }
    if let Err(e) = alive {
        soak.state.failures.push(format!("{e:#}"));
    }
    soak.bar.finish_and_clear();
    soak.save()?;
    Ok((soak.state, soak.samples))
}

struct Soak<'a> {
    dir: &'a Path,
    started: Instant,
    /// Seconds that the run took before it was resumed.
    start: f64,
    cycle: Duration,
    bar: ProgressBar,
    random: fastrand::Rng,
    state: State,
    samples: Vec<Sample>,
    saved: Instant,
}

impl Soak<'_> {
    /// One process, from its start to its death.
    fn life(&mut self, left: Duration) -> anyhow::Result<()> {
        let mut child = self.spawn()?;
        let watched = self.watch(&mut child, left);
        if watched.is_err() {
            child.kill()?;
            child.wait()?;
        }
        watched
    }

    fn spawn(&mut self) -> anyhow::Result<Child> {
        let scratch = self.dir.join("scratch");
        // What a killed one left there.
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch)?;
        }
        std::fs::create_dir_all(&scratch)?;
        self.state.lives += 1;
        let leg = LEG_MAX.min(self.cycle / 4).as_secs_f64();
        Command::new(std::env::current_exe()?)
            .arg("soak-child")
            .args([&self.dir.join("database"), &scratch])
            .args(["--seed", &self.random.u64(..).to_string(), "--leg", &leg.to_string()])
            .args(["--entities", &self.state.entities.to_string(), "--duty", &self.state.duty.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the process under load")
    }

    fn watch(&mut self, child: &mut Child, left: Duration) -> anyhow::Result<()> {
        let lines = lines(child)?;
        let (began, number) = (Instant::now(), self.state.lives);
        let long = self.cycle * 2 / 3;
        let time = match (number - 1) % u64::from(LIVES) {
            0 => long,
            _ => ((self.cycle - long) / (LIVES - 1)).mul_f64(2.0 * self.random.f64()),
        };
        let mut seen = Seen::default();
        let (mut heard, mut sampled) = (Instant::now(), Instant::now());
        let mut asked = false;
        loop {
            match lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => {
                    heard = Instant::now();
                    judge::take(&mut self.state, &mut seen, line)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            anyhow::ensure!(heard.elapsed() < SILENCE_MAX, "it said nothing for {SILENCE_MAX:?}: it hangs");
            if sampled.elapsed() >= SAMPLE {
                sampled += SAMPLE;
                self.sample(child.id(), number, &mut seen)?;
            }
            if began.elapsed() >= left && !asked {
                // The end of its input asks it to close.
                asked = true;
                drop(child.stdin.take());
            }
            if began.elapsed() >= time && !asked {
                child.kill()?;
                // What it had told before is still to be heard.
                for line in lines.iter() {
                    judge::take(&mut self.state, &mut seen, line)?;
                }
                child.wait()?;
                return judge::after_kill(&mut self.state, &seen, &self.dir.join("database"));
            }
        }
        let status = child.wait()?;
        anyhow::ensure!(seen.done && asked, "it ended by itself: {status}");
        Ok(())
    }

    fn sample(&mut self, process: u32, life: u64, seen: &mut Seen) -> anyhow::Result<()> {
        let seconds = self.started.elapsed().as_secs_f64();
        self.state.seconds = self.start + seconds;
        let stats = seen.stats.take();
        let disk = sample::bytes_below(&self.dir.join("database"));
        let sample = Sample::new(self.state.seconds, life, process, stats, disk);
        self.bar.set_position(seconds as u64);
        self.bar.set_message(format!(
            "life {life}, {} commits/s, LSN {}, {} MiB of memory, {} MiB on disk",
            sample.commits,
            self.state.acknowledged.lsn,
            sample.resident_bytes >> 20,
            disk >> 20
        ));
        sample::append(self.dir, &sample)?;
        self.samples.push(sample);
        if self.saved.elapsed() >= SAVE {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        self.state.save(self.dir)
    }
}

/// What it says, until it is dead. A line that a kill cut short is none.
fn lines(child: &mut Child) -> anyhow::Result<Receiver<Line>> {
    let (sender, receiver) = channel();
    let mut output = BufReader::new(child.stdout.take().context("no pipe")?);
    std::thread::spawn(move || {
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|len| len > 0) {
            if let Ok(parsed) = serde_json::from_str(&line)
                && sender.send(parsed).is_err()
            {
                break;
            }
            line.clear();
        }
    });
    Ok(receiver)
}
