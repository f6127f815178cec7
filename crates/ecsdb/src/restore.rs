//! Going back to an earlier moment: in the running database, or in a directory of its own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecsdb_compactor::{Control, Event, EventSender, SnapshotInfo, Task, copy};
use ecsdb_config::PersistenceConfig;
use ecsdb_core::View;
use ecsdb_io::{Disk, Layout, Vfs};
use ecsdb_recovery::{
    Existence, History, Moment, Options, Policy, Reconstructed, Step, Verified, lock_closed, look,
    verify_files,
};
use ecsdb_wal::{Durability, Log, Lsn, Payload};

use crate::error::{Error, Result};
use crate::giving_way::GivingWay;
use crate::job::Job;
use crate::persistence::{Persistence, SharedWorld};

/// How an earlier world is read. Unless they are registered, components stay as they are stored: nobody looks at them as Rust values.
fn options(threads: usize, register: bool) -> Options {
    Options { existence: Existence::Required, policy: Policy::TruncateTail, threads, register }
}

/// A directory of another database, by a name that holds wherever the program goes meanwhile, and whatever links lead there.
pub(crate) fn other(vfs: &dyn Vfs, dir: impl Into<PathBuf>) -> Result<Layout> {
    let layout = Layout::new(dir).absolute().and_then(|layout| layout.real(vfs));
    Ok(layout.map_err(ecsdb_recovery::Error::from)?)
}

/// What an earlier world being put together tells the work that does it: how far it is; and whether it goes on.
fn follow(control: &Control) -> impl FnMut(&Step) -> ControlFlow<()> {
    |step| {
        let (done, total) = match step {
            Step::Replay { done, total } => (*done, *total),
            // How much log there is comes to be known after it.
            _ => (0, 0),
        };
        control.step(done, total, 0).map_break(drop)
    }
}

/// Puts an earlier world together at the priority that somebody who waits for it gives it. `read` does so from files that give way, and is told whether to
/// go on.
fn put_together(
    control: &Control,
    vfs: &Arc<dyn Vfs>,
    mut read: impl FnMut(&dyn Vfs, &mut dyn FnMut(&Step) -> ControlFlow<()>) -> Result<Reconstructed> + Send,
) -> Result<Reconstructed> {
    control.urgency().anew(|asks| {
        // CKP-9: what is cancelled is not begun anew.
        if let Err(e) = control.check() {
            return Some(Err(e.into()));
        }
        let (files, mut follow) = (GivingWay::of(vfs.clone(), control, asks), follow(control));
        let past = read(&files, &mut |step| {
            follow(step)?;
            if files.hooks.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        // Whatever it made of files that gave nothing more.
        match () {
            () if control.is_cancelled() => Some(Err(ecsdb_compactor::Error::Cancelled.into())),
            () if files.hooks.gave_way() => None,
            () => Some(past),
        }
    })
}

/// The past of a database that is open: nothing of it is deleted while it is read.
fn of_running(
    persistence: &Persistence,
    register: bool,
) -> impl FnOnce(Moment, &Control) -> Result<Reconstructed> + Send + 'static {
    let (store, log, vfs) =
        (persistence.store.clone(), persistence.log.clone(), persistence.recovery_vfs.clone());
    move |moment, control| {
        let _pin = store.pin();
        // Up to here everything is in the files for certain; what is written meanwhile is not looked at.
        let durable = log.flush()?;
        let (manifest, layout) = (store.manifest(), store.layout());
        let threads = store.settings().threads;
        put_together(control, &vfs, |vfs, follow| {
            let history = History::read(vfs, layout, &manifest, durable)?;
            Ok(history.reconstruct(moment, options(threads, register), follow)?)
        })
    }
}

/// Whoever is only told of the steps.
pub(crate) fn told(progress: &mut dyn FnMut(&Step)) -> impl FnMut(&Step) -> ControlFlow<()> {
    |step| {
        progress(step);
        ControlFlow::Continue(())
    }
}

/// The past of a database that nobody has open.
pub(crate) fn of_closed(
    vfs: &Arc<dyn Vfs>,
    layout: &Layout,
    moment: Moment,
    threads: usize,
    register: bool,
    follow: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Reconstructed> {
    let (_lock, manifest) = lock_closed(&**vfs, layout)?;
    of_locked(&**vfs, layout, &manifest, moment, options(threads, register), follow)
}

fn of_locked(
    vfs: &dyn Vfs,
    layout: &Layout,
    manifest: &ecsdb_snapshot::Manifest,
    moment: Moment,
    options: Options,
    follow: &mut dyn FnMut(&Step) -> ControlFlow<()>,
) -> Result<Reconstructed> {
    Ok(History::of_closed(vfs, layout, manifest)?.reconstruct(moment, options, follow)?)
}

pub(crate) fn into_running(
    persistence: &Persistence,
    from: Option<PathBuf>,
    moment: Moment,
) -> Result<Job<Lsn>> {
    let from = from.map(|dir| other(&*persistence.recovery_vfs, dir)).transpose()?;
    let (world, log) = (persistence.world.clone(), persistence.log.clone());
    let (vfs, events) = (persistence.recovery_vfs.clone(), persistence.events.clone());
    let threads = persistence.store.settings().threads;
    let own = of_running(persistence, false);
    persistence.job(Task::Restore, move |control| {
        control.begin();
        let past = match from {
            Some(dir) => {
                // Kept, whoever has to wait: another opening meanwhile would be in the way of what is done anew.
                let (_lock, manifest) = lock_closed(&*vfs, &dir)?;
                put_together(control, &vfs, |vfs, follow| {
                    of_locked(vfs, &dir, &manifest, moment, options(threads, false), follow)
                })?
            }
            None => own(moment, control)?,
        };
        control.check()?;
        let lsn = replace(&world, &log, &past)?;
        log.wait(lsn)?;
        events.send(Event::Restored { lsn });
        Ok(lsn)
    })
}

/// The transaction that turns the live world into the past one.
fn replace(world: &SharedWorld, log: &Log, past: &Reconstructed) -> Result<Lsn> {
    log.admit()?;
    let mut live = world.hold()?;
    let last = live.lsn();
    let restore = live.restore(&past.world.view())?;
    let changes = restore.change_set();
    if changes.is_empty() {
        restore.commit(last);
        return Ok(last);
    }
    // WAL-3: queued before anybody sees it. When the log refuses, the world is put back as it was.
    let payload = Payload { inline: changes.inline, shared: changes.shared };
    let lsn = log.append(payload, Durability::Immediate)?;
    debug_assert_eq!(lsn, last.next(), "the log numbers transactions as the world does");
    restore.commit(lsn);
    world.committed(lsn);
    if let Err(e) = live.register_linked() {
        // Whoever uses the component is told again.
        tracing::warn!(error = %e, "the restored world has a component that this program cannot read");
    }
    Ok(lsn)
}

pub(crate) fn into_view(persistence: &Persistence, moment: Moment) -> Result<Job<View>> {
    let past = of_running(persistence, true);
    persistence.job(Task::Restore, move |control| {
        control.begin();
        control.check()?;
        Ok(past(moment, control)?.world.view())
    })
}

pub(crate) fn into_directory(
    persistence: &Persistence,
    path: PathBuf,
    moment: Moment,
) -> Result<Job<SnapshotInfo>> {
    let store = persistence.store.clone();
    let to = other(&*persistence.recovery_vfs, path)?;
    let past = of_running(persistence, false);
    persistence.job(Task::Copy, move |control| {
        let past = past(moment, control)?;
        control.check()?;
        Ok(store.copy_to(&to, past.world.view(), control)?)
    })
}

/// Writes the world of a database that nobody has open, as it was at `moment`, into the directory `to`, as a database of its own.
/// The original is only read. O(bytes).
///
/// ```
/// use ecsdb::prelude::*;
/// use ecsdb::{Lsn, Moment, PersistenceConfig};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let (world, copy) = (dir.path().join("world"), dir.path().join("copy"));
/// let db = Database::open(&world)?;
/// db.write(|tx| Ok(tx.spawn(())))?; // LSN 1
/// db.write(|tx| Ok(tx.spawn(())))?; // LSN 2
/// db.close()?;
///
/// ecsdb::restore_copy(&PersistenceConfig::new(&world), &copy, Moment::Lsn(Lsn(1)), |_| {})?;
/// assert_eq!(Database::open(&copy)?.view()?.len(), 1);
/// # Ok::<(), ecsdb::Error>(())
/// ```
///
/// # Errors
/// When the moment is not among what is retained (the error names the range), `to` is not empty, somebody has the original open, or
/// a file operation fails.
pub fn restore_copy(
    from: &PersistenceConfig,
    to: &Path,
    moment: Moment,
    mut progress: impl FnMut(&Step),
) -> Result<SnapshotInfo> {
    let vfs: Arc<dyn Vfs> = Arc::new(Disk);
    let settings = from.store_settings();
    let (own, to) = (from.layout_in(&*vfs)?, other(&*vfs, to)?);
    copy::refuse_within(&own, &to)?;
    let past = of_closed(&vfs, &own, moment, settings.threads, false, &mut told(&mut progress))?;
    let kept = look(&*vfs, &own)?.kept;
    let control = Control::new(Task::Copy, EventSender::default());
    let files = copy::Limited::new(vfs, from.bytes_per_second_max(), &control).map_err(Error::Thread)?;
    Ok(copy::write_database(files.vfs(), &to, past.world.view(), &settings, kept, &control)?)
}

/// How often the files of a running database are read before a fault is taken for one: what is written meanwhile may look like it.
const LOOKS: u32 = 5;

pub(crate) fn verify_running(persistence: &Persistence, progress: &mut dyn FnMut(&Step)) -> Result<Verified> {
    let (store, vfs) = (&persistence.store, &persistence.recovery_vfs);
    let _pin = store.pin();
    let mut look = || {
        persistence.log.flush()?;
        Ok::<_, Error>(verify_files(&**vfs, store.layout(), &store.manifest(), progress)?)
    };
    let mut verified = look()?;
    for _ in 1..LOOKS {
        if verified.faults.is_empty() {
            break;
        }
        verified = look()?;
    }
    // Whoever writes has not come to the end yet; and nobody else can.
    (verified.torn_tail, verified.locked) = (None, true);
    Ok(verified)
}

/// Reads and checks every file of a database that nobody has open, and changes nothing. O(bytes).
///
/// # Errors
/// When there is no database, somebody has it open, or a file operation fails. Damage is in the result.
pub fn verify(config: &PersistenceConfig, mut progress: impl FnMut(&Step)) -> Result<Verified> {
    Ok(ecsdb_recovery::verify(&Disk, &config.layout_in(&Disk)?, &mut progress)?)
}
