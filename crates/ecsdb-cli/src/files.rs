//! Commands on a database that no program has open: `info`, `verify`, `snapshot`, `backup`, `restore`, `compact`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::{Table, presets};
use ecsdb::prelude::*;
use ecsdb::{DataLoss, Job, Lsn, Moment, PersistenceConfig, Policy, RecoveryReport};
use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

/// Which database.
#[derive(Args)]
pub(crate) struct Place {
    /// The database directory.
    dir: PathBuf,
    /// Its settings; `ecsdb.toml` in the directory if that is there. Without any, nothing of its past is given up.
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Which moment.
#[derive(Args)]
#[group(multiple = false)]
pub(crate) struct When {
    /// Right after the transaction with this LSN.
    #[arg(long)]
    lsn: Option<u64>,
    /// After the last transaction written by this time: RFC 3339, as in 2026-11-25T07:00:00Z.
    #[arg(long)]
    time: Option<jiff::Timestamp>,
    /// That of the snapshot with this number.
    #[arg(long)]
    snapshot: Option<u64>,
}

impl When {
    fn moment(&self) -> Moment {
        match self {
            When { lsn: Some(lsn), .. } => Moment::Lsn(Lsn(*lsn)),
            When { time: Some(time), .. } => {
                let since = time.as_nanosecond().clamp(0, i128::from(u64::MAX)) as u64;
                Moment::Time(SystemTime::UNIX_EPOCH + Duration::from_nanos(since))
            }
            When { snapshot: Some(number), .. } => Moment::Snapshot(*number),
            _ => Moment::Latest,
        }
    }
}

impl Place {
    /// Its settings, and whether nothing but the environment says anything about them.
    fn config(&self) -> Result<(PersistenceConfig, bool)> {
        if !self.dir.is_dir() {
            bail!("{} is no directory", self.dir.display());
        }
        let beside = self.dir.join("ecsdb.toml");
        let file = self.config.as_deref().or_else(|| beside.is_file().then_some(beside.as_path()));
        let mut config = match file {
            Some(file) => PersistenceConfig::from_file(file)?,
            None => PersistenceConfig::from_env(&self.dir)?,
        };
        config.dir.clone_from(&self.dir);
        Ok((config, file.is_none()))
    }

    /// Opens it with nothing running by itself, showing the steps.
    fn open(&self, policy: Option<Policy>) -> Result<Database> {
        let (mut config, unsaid) = self.config()?;
        if let Some(policy) = policy {
            config.recovery.policy = policy;
        }
        config.manual();
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(100));
        let steps = bar.clone();
        let mut builder = Database::builder(&self.dir)
            .config(|settings| *settings = config)
            .progress(move |step| steps.set_message(step.to_string()));
        if unsaid {
            // Nothing here says what the program that uses the database keeps of its past: so all of it.
            builder = builder.keep_all();
        }
        // One that has lost its manifests is there, too: a salvage may open it.
        let opened = builder.open_existing();
        bar.finish_and_clear();
        Ok(opened?)
    }
}

/// Shows a job's progress on the terminal until it is done.
fn follow<T>(job: Job<T>) -> Result<T> {
    let bar = ProgressBar::new(0)
        .with_style(ProgressStyle::with_template("{bar:40} {percent}%  {msg}  {elapsed}, about {eta} left")?);
    while !job.is_finished() {
        let progress = job.progress();
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(HumanBytes(progress.bytes).to_string());
        std::thread::sleep(Duration::from_millis(50));
    }
    bar.finish_and_clear();
    Ok(job.wait()?)
}

pub(crate) fn info(place: &Place) -> Result<()> {
    let db = place.open(None)?;
    let stats = db.stats()?;
    let Some(store) = stats.store else { bail!("a database on disk has files") };
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    let mut row = |name: &str, value: String| {
        table.add_row([name.to_string(), value]);
    };
    row("entities", HumanCount(stats.entities as u64).to_string());
    row("bytes in memory", HumanBytes(stats.live_bytes).to_string());
    row("last transaction", stats.lsn.to_string());
    row("newest snapshot at", store.snapshot_lsn.to_string());
    row("snapshots", format!("{} of {} in all", store.snapshots, HumanBytes(store.snapshot_bytes)));
    row(
        "files of the newest snapshot",
        format!("{}, {:.0} % dead", store.chain_files, 100.0 * store.dead_fraction()),
    );
    row("log", format!("{} segments, {}", store.segments, HumanBytes(store.log_bytes)));
    row("archive", format!("to LSN {}, {}", store.archived_lsn, HumanBytes(store.archive_bytes)));
    println!("{table}");
    if let Some(report) = db.recovery_report() {
        println!("{report}");
    }
    db.close()?;
    Ok(())
}

/// Reads everything and changes nothing: every snapshot that is retained, all of the log behind it.
pub(crate) fn verify(place: &Place) -> Result<()> {
    let (config, _) = place.config()?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let checked = ecsdb::verify(&config, |step| bar.set_message(step.to_string()));
    bar.finish_and_clear();
    let checked = checked?;
    if let Some(torn) = &checked.torn_tail {
        println!(
            "torn tail: {torn}; the next opening cuts it, since nothing proves that it had been durable"
        );
    }
    for fault in &checked.faults {
        println!("DAMAGED {fault}");
    }
    println!(
        "{} snapshots and {} log segments, {} read; the last transaction is {}",
        checked.snapshots,
        checked.segments,
        HumanBytes(checked.bytes),
        checked.last_lsn
    );
    if checked.faults.is_empty() {
        println!("everything verifies");
        return Ok(());
    }
    bail!(
        "{} of the files above are damaged. Opening passes over a damaged snapshot or manifest where older ones and the log make up \
         for it, and refuses otherwise: then restore a backup, or use `ecsdb salvage`",
        checked.faults.len()
    )
}

pub(crate) fn snapshot(place: &Place) -> Result<()> {
    let db = place.open(None)?;
    let info = follow(db.snapshot()?)?;
    println!(
        "snapshot {} at LSN {}: {} in {}",
        info.sequence,
        info.lsn,
        HumanBytes(info.bytes),
        HumanDuration(info.duration)
    );
    db.close()?;
    Ok(())
}

pub(crate) fn compact(place: &Place) -> Result<()> {
    let db = place.open(None)?;
    let digest = db.view()?.digest()?;
    let info = follow(db.compact()?)?;
    anyhow::ensure!(db.view()?.digest()? == digest, "the digest has changed; this is a bug of ecsdb");
    println!(
        "compacted at LSN {}: {} before, {} after, digest {digest} as before",
        info.lsn,
        HumanBytes(info.bytes_before),
        HumanBytes(info.bytes_after)
    );
    db.close()?;
    Ok(())
}

pub(crate) fn restore(place: &Place, to: &Path, when: &When) -> Result<()> {
    let (config, _) = place.config()?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    let restored = ecsdb::restore_copy(&config, to, when.moment(), |step| bar.set_message(step.to_string()));
    bar.finish_and_clear();
    let info = restored.with_context(|| format!("restoring {}", place.dir.display()))?;
    println!("{} is the database as it was at LSN {} ({})", to.display(), info.lsn, HumanBytes(info.bytes));
    Ok(())
}

/// Opens with the policy that keeps whatever verifies, and says what is lost.
pub(crate) fn salvage(place: &Place) -> Result<()> {
    let db = place.open(Some(Policy::Salvage))?;
    let report: RecoveryReport = db.recovery_report().context("the report of the recovery")?.clone();
    println!("{report}");
    follow(db.snapshot()?)?;
    db.close()?;
    if report.data_loss == DataLoss::Acknowledged {
        println!(
            "what is lost is listed above; what was damaged lies in {}",
            place.dir.join("quarantine").display()
        );
    }
    Ok(())
}
