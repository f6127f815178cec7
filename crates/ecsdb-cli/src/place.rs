//! Which database, and at which moment. Looking at one reads its files and nothing else: no lock, no file made, whoever has it open goes on.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Args;
use ecsdb::{
    Builder, ConfigError, Database, Job, Lsn, Moment, PersistenceConfig, Policy, RecoveryError, View,
};
use ecsdb_compactor::{Claim, Held, StoreSettings};
use ecsdb_core::World;
use ecsdb_io::{Disk, Layout, Vfs};
use ecsdb_recovery::{Existence, History, Options, RecoveryReport, look};
use ecsdb_snapshot::Manifest;
use indicatif::HumanBytes;
use serde_json::json;

use crate::failure::{Failure, may_be_a_race};
use crate::overlay::Overlay;
use crate::{failure, interrupt, output, target, times};

/// Which database.
#[derive(Args, Clone)]
pub(crate) struct Place {
    /// The database directory.
    pub(crate) dir: PathBuf,
    /// Its settings; `ecsdb.toml` in the directory if that is there. What neither it nor the environment says of `archive.enabled` and
    /// `retention` gives nothing of the past up here; a program that opens the database with its defaults does, with its next snapshot.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Which moment: the last one unless said otherwise.
#[derive(Args, Clone, Default)]
#[group(multiple = false)]
pub(crate) struct When {
    /// Right after the transaction with this LSN.
    #[arg(long, value_name = "N")]
    lsn: Option<u64>,
    /// After the last transaction written by this time: RFC 3339, as in 2026-11-25T07:00:00Z; without an offset in the local zone (TZ).
    #[arg(long, value_name = "T", value_parser = times::parse)]
    time: Option<jiff::Timestamp>,
    /// As the snapshot with this number has it.
    #[arg(long, value_name = "N")]
    snapshot: Option<u64>,
}

impl When {
    pub(crate) fn moment(&self) -> Moment {
        match self {
            When { lsn: Some(lsn), .. } => Moment::Lsn(Lsn(*lsn)),
            When { time: Some(time), .. } => Moment::Time(times::system_time(*time)),
            When { snapshot: Some(number), .. } => Moment::Snapshot(*number),
            _ => Moment::Latest,
        }
    }
}

/// The files of a database, as its newest manifest has them.
pub(crate) struct Look<'a> {
    vfs: &'a dyn Vfs,
    pub(crate) layout: &'a Layout,
    pub(crate) manifest: &'a Manifest,
    pub(crate) config: &'a PersistenceConfig,
}

/// A state of a database.
pub(crate) struct Seen {
    pub(crate) view: View,
    pub(crate) world: World,
    pub(crate) report: RecoveryReport,
    /// When its last transaction was written, or the snapshot taken that it comes from; 0 for a database without any.
    pub(crate) unix_ns: u64,
    /// It is the time of the snapshot, since the log does not say that of the transaction any more.
    pub(crate) of_snapshot: bool,
    pub(crate) database: u128,
}

/// The name of the file with a database's settings, in its directory.
pub(crate) const SETTINGS: &str = ecsdb_compactor::SETTINGS;
/// How long files are read again that somebody is writing, before what is wrong with them is believed.
const LOOKED_FOR: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

impl Place {
    pub(crate) fn of(dir: impl Into<PathBuf>) -> Place {
        Place { dir: dir.into(), config: None }
    }

    /// Its settings, read once: whatever is done with them goes by what stood there then.
    pub(crate) fn settle(&self) -> Result<Settled> {
        target::is_there(&self.dir, ", where a database's was expected")?;
        self.settle_new()
    }

    /// As [`Place::settle`], of a database that is yet to be made.
    pub(crate) fn settle_new(&self) -> Result<Settled> {
        let file = match &self.config {
            Some(file) => Some(file.clone()),
            None => settings_in(&self.dir)?,
        };
        let mut config = settings(file.as_deref(), &self.dir)?;
        check_dir(&config, file.as_deref(), &self.dir)?;
        config.dir.clone_from(&self.dir);
        Ok(Settled { vfs: Arc::new(Disk), is_dry: false, config, file })
    }
}

/// A database with the settings that hold for it.
pub(crate) struct Settled {
    /// The disk, or what a dry run changes instead.
    vfs: Arc<dyn Vfs>,
    pub(crate) is_dry: bool,
    pub(crate) config: PersistenceConfig,
    /// The file that says some of them.
    pub(crate) file: Option<PathBuf>,
}

impl Settled {
    pub(crate) fn layout(&self) -> Result<Layout> {
        Ok(self.config.layout_in(&*self.vfs)?)
    }

    /// The same for a dry run: whatever is done with it is done, and nothing of it stays.
    pub(crate) fn dry(self) -> Result<Settled> {
        // What is written meanwhile is removed, whatever ends the work.
        interrupt::hold();
        Ok(Settled { vfs: Arc::new(Overlay::new()?), is_dry: true, ..self })
    }

    pub(crate) fn vfs(&self) -> &dyn Vfs {
        &*self.vfs
    }

    /// The same, for whoever keeps them.
    pub(crate) fn files(&self) -> Arc<dyn Vfs> {
        self.vfs.clone()
    }

    /// What becomes of its past when it is opened here: what nobody says gives nothing up, since nothing here says what the program that uses
    /// the database keeps of it.
    pub(crate) fn store_settings(&self) -> StoreSettings {
        StoreSettings { keep_all: true, ..self.config.store_settings() }
    }

    pub(crate) fn builder(&self) -> Builder {
        let mut config = self.config.clone();
        config.manual();
        let builder = Database::builder(config.dir.clone()).vfs(self.vfs.clone());
        builder.config(|settings| *settings = config).keep_all()
    }

    /// Makes it in a place that is taken.
    pub(crate) fn create(&self, claim: &Claim<'_>) -> Result<()> {
        let held = Held::of(self.vfs.clone(), claim);
        Ok(self.builder().vfs(Arc::new(held)).create_new()?.close()?)
    }

    /// Looks at its files, again where they change meanwhile.
    pub(crate) fn look<T>(&self, with: impl FnMut(&Look<'_>) -> Result<T>) -> Result<T> {
        self.look_closely(with, |_| ())
    }

    /// Its state at a moment.
    pub(crate) fn see(&self, moment: Moment) -> Result<Seen> {
        self.look(|look| look.see(moment))
    }

    /// As [`Settled::look`], of what is found, and is damaged or missing, too: the `doubts` are believed if nobody writes, or if the next look has
    /// the same.
    pub(crate) fn look_closely<T, D: PartialEq + Default>(
        &self,
        mut with: impl FnMut(&Look<'_>) -> Result<T>,
        doubts: impl Fn(&T) -> D,
    ) -> Result<T> {
        let layout = self.layout()?;
        let started = Instant::now();
        let mut doubted = D::default();
        loop {
            let before = files(&layout);
            let looked = look(self.vfs(), &layout).map_err(|e| no_database(e, &self.config.dir)).and_then(
                |manifest| {
                    with(&Look {
                        vfs: self.vfs(),
                        layout: &layout,
                        manifest: &manifest,
                        config: &self.config,
                    })
                },
            );
            let is_in_doubt = match &looked {
                Err(e) => may_be_a_race(e),
                Ok(found) => {
                    let before = std::mem::replace(&mut doubted, doubts(found));
                    doubted != D::default() && doubted != before
                }
            };
            if !(is_in_doubt && started.elapsed() < LOOKED_FOR && files(&layout) != before) {
                return looked;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
}

/// Where there is no database, what would be there of one.
fn no_database(e: RecoveryError, dir: &Path) -> anyhow::Error {
    let RecoveryError::NoDatabase { .. } = &e else { return e.into() };
    let beside = match dir.parent().map(|parent| look(&Disk, &Layout::new(parent))) {
        Some(Ok(_)) => ", as the directory above it has",
        _ => "",
    };
    Failure::Missing(format!("{e}: it has no file such as 0000000000000001.manifest{beside}")).into()
}

/// What is retained, with times as they are shown here and can be asked for.
fn out_of_range(e: RecoveryError, history: &History<'_>, moment: Moment) -> anyhow::Error {
    let (RecoveryError::OutOfRange { .. }, Some(((first, from), (last, to)))) = (&e, history.range()) else {
        return e.into();
    };
    let asked = match moment {
        Moment::Time(time) => times::local_of(time),
        Moment::Snapshot(_) => return e.into(),
        other => other.to_string(),
    };
    let (from, to) = (times::local(from), times::local(to));
    let text = format!("{asked} is not among what is retained: LSN {first} ({from}) to LSN {last} ({to})");
    Failure::Missing(text).into()
}

/// Name, length and time of change of each file: the same as long as nobody writes.
fn files(layout: &Layout) -> BTreeSet<(PathBuf, u64, Option<SystemTime>)> {
    let dirs = [layout.root()].into_iter().chain(layout.data_dirs());
    let entries = dirs.filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((entry.path(), metadata.len(), metadata.modified().ok()))
        })
        .collect()
}

/// Whether two names are of one place, which need not be there yet.
fn same_place(a: &Path, b: &Path) -> bool {
    matches!((Disk.real_path(a), Disk.real_path(b)), (Ok(a), Ok(b)) if a == b)
}

impl Look<'_> {
    pub(crate) fn vfs(&self) -> &dyn Vfs {
        self.vfs
    }

    pub(crate) fn history(&self) -> Result<History<'_>> {
        Ok(History::of_closed(self.vfs(), self.layout, self.manifest)?)
    }

    pub(crate) fn see(&self, moment: Moment) -> Result<Seen> {
        self.see_by(&self.history()?, moment)
    }

    /// When the state at `lsn` was written by the log, or else the snapshot taken that has it, which the second says.
    pub(crate) fn when(&self, history: &History<'_>, lsn: Lsn) -> (u64, bool) {
        match written(history, lsn) {
            0 => {
                let has_it = self.manifest.snapshots.iter().rev().find(|entry| entry.lsn == lsn.0);
                (has_it.map_or(0, |entry| entry.created_unix_ns), true)
            }
            written => (written, false),
        }
    }

    /// The state at a moment, with values as they are stored.
    pub(crate) fn see_by(&self, history: &History<'_>, moment: Moment) -> Result<Seen> {
        let bar = output::spinner();
        let threads = match self.config.recovery.threads {
            0 => std::thread::available_parallelism().map_or(1, Into::into),
            n => n,
        };
        let options = Options {
            existence: Existence::Required,
            policy: Policy::TruncateTail,
            threads,
            register: false,
        };
        let past = history.reconstruct(moment, options, &mut |step| {
            bar.set_message(step.to_string());
            ControlFlow::Continue(())
        });
        bar.finish_and_clear();
        let past = past.map_err(|e| out_of_range(e, history, moment))?;
        let (unix_ns, of_snapshot) = match past.unix_ns {
            0 => self.when(history, past.world.lsn()),
            written => (written, false),
        };
        Ok(Seen {
            view: past.world.view(),
            world: past.world,
            report: past.report,
            unix_ns,
            of_snapshot,
            database: self.manifest.database,
        })
    }
}

/// When a transaction was written that a snapshot ends with, by the log; 0 where that does not say it any more.
fn written(history: &History<'_>, lsn: Lsn) -> u64 {
    let mut unix_ns = 0;
    let read = history.transactions(Lsn(lsn.0.saturating_sub(1)), lsn, |transaction, _| {
        if transaction.lsn == lsn {
            unix_ns = transaction.unix_ns;
        }
        ControlFlow::Continue(())
    });
    // Where the log is lost, the snapshot is there all the same.
    read.map_or(0, |()| unix_ns)
}

impl Seen {
    /// Which state it is, for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "database": format!("{:032x}", self.database),
            "lsn": self.view.lsn().0,
            "time": times::json(self.unix_ns),
        })
    }

    /// Which state it is, for people.
    pub(crate) fn line(&self) -> String {
        let lsn = self.view.lsn();
        match (self.unix_ns, self.of_snapshot) {
            (0, _) if lsn == Lsn::ZERO => "as of LSN 0, before the first transaction".into(),
            (0, _) => format!("as of LSN {lsn}"),
            (at, true) => format!("as of LSN {lsn}, in a snapshot of {}", times::local(at)),
            (at, false) => format!("as of LSN {lsn}, {}", times::local(at)),
        }
    }
}

/// The file with the settings of the database in a directory, if it has one.
pub(crate) fn settings_in(dir: &Path) -> Result<Option<PathBuf>> {
    let file = dir.join(SETTINGS);
    // One that is there and cannot be read is no word that there are no settings.
    match (fs::symlink_metadata(&file), fs::metadata(&file)) {
        (_, Ok(there)) if there.is_file() => Ok(Some(file)),
        (Err(e), _) if e.kind() == ErrorKind::NotFound => Ok(None),
        (Err(e), _) => Err(e).with_context(|| format!("looking at {}", file.display())),
        (Ok(link), Err(e)) if !(link.is_symlink() && e.kind() == ErrorKind::NotFound) => {
            Err(e).with_context(|| format!("looking at {}", file.display()))
        }
        (Ok(_), there) => {
            let what = if there.is_ok() { "is no file" } else { "is a link to nothing" };
            let file = file.display();
            Err(Failure::Usage(format!("{file} {what}, where the settings were expected")).into())
        }
    }
}

/// The settings of a file, or without one the defaults, and those of the environment over them, for a database in `dir` unless they name another.
/// What the environment has that looks like a setting and is none is said.
pub(crate) fn settings(file: Option<&Path>, dir: &Path) -> Result<PersistenceConfig> {
    let (config, checked) = match file {
        Some(file) => {
            (PersistenceConfig::from_file_for(file, dir)?, PersistenceConfig::check_file_for(file, dir))
        }
        None => (PersistenceConfig::from_env(dir)?, PersistenceConfig::check_env(dir)),
    };
    if let Err(ConfigError::Invalid(strays)) = checked {
        strays.iter().for_each(|stray| failure::warn(&stray.to_string()));
    }
    Ok(config)
}

/// Refuses settings that name another database's directory.
pub(crate) fn check_dir(config: &PersistenceConfig, file: Option<&Path>, dir: &Path) -> Result<()> {
    if !same_place(&config.dir, dir) {
        let (whose, how) = match file {
            Some(file) => (format!("the settings ({} and the environment) are", file.display()), ""),
            None => ("ECDB_DIR and the rest of the environment are".into(), ": unset it"),
        };
        let (other, dir) = (config.dir.display(), dir.display());
        return Err(
            Failure::Usage(format!("{whose} of the database in {other}, not of that in {dir}{how}")).into()
        );
    }
    Ok(())
}

/// Shows a job's progress on the terminal until it is done; an interruption cancels it.
pub(crate) fn follow<T>(job: Job<T>) -> Result<T> {
    let bar = output::bar()?;
    while !job.is_finished() {
        if interrupt::asked() {
            job.cancel();
        }
        let progress = job.progress();
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(HumanBytes(progress.bytes).to_string());
        std::thread::sleep(Duration::from_millis(20));
    }
    bar.finish_and_clear();
    Ok(job.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a database of which a file comes and goes with every look before the `quiet`-th. Gives the number of the look that is believed.
    fn looks(quiet: u32, doubts: impl Fn(u32) -> Option<u32>) -> u32 {
        let dir = tempfile::tempdir().unwrap();
        Database::open(dir.path()).unwrap().close().unwrap();
        let mut n = 0;
        let look = |look: &Look<'_>| {
            n += 1;
            if n < quiet {
                fs::write(look.layout.log_dir().join(format!("{n}.tmp")), []).unwrap();
            }
            Ok(n)
        };
        Place::of(dir.path()).settle().unwrap().look_closely(look, |n| doubts(*n)).unwrap()
    }

    #[test]
    fn what_is_missing_while_somebody_writes_is_believed_when_it_still_is() {
        assert_eq!(looks(9, |_| None), 1);
        assert_eq!(looks(1, Some), 1, "nobody writes");
        assert_eq!(looks(9, |n| (n < 3).then_some(n)), 3, "it was a race");
        assert_eq!(looks(9, |n| Some(n.min(4))), 5, "it is still so");
        assert_eq!(looks(9, Some), 9);
    }
}
