//! One value a commit, with a log, not waiting for the disk; beside a bare read-modify-write through an index of the same layout.

use ecsdb::prelude::*;

use crate::report::Report;
use crate::{own, time, try_time};

const HOT: usize = 64;

/// What an id is looked up in, and no more: slot, chunk, value.
struct Bare {
    slots: Vec<(u32, u32, u32)>,
    chunks: Vec<Box<[own::Position]>>,
}

const ROWS: usize = 2048;

impl Bare {
    fn new(n: usize) -> Self {
        Bare {
            slots: (0..n).map(|i| (1, 0, i as u32)).collect(),
            chunks: (0..n.div_ceil(ROWS)).map(|_| vec![own::Position::default(); ROWS].into()).collect(),
        }
    }

    #[inline(never)]
    fn add(&mut self, entity: Entity) {
        let (generation, _, row) = self.slots[entity.index() as usize];
        if generation == entity.generation() {
            self.chunks[row as usize / ROWS][row as usize % ROWS].x += 1.0;
        }
    }
}

pub(crate) fn run(report: &mut Report, n: usize) -> anyhow::Result<()> {
    if !report.wants_any(&["commit_hot", "commit_random"]) {
        return Ok(());
    }
    std::fs::create_dir_all("target")?;
    let dir = tempfile::Builder::new().prefix("bench-").tempdir_in("target")?;
    let db = Database::builder(dir.path()).config(PersistenceConfig::manual).open()?;
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..n).map(|_| own::Position::default()))))?;
    let mut bare = Bare::new(n);
    let commits = (n / 3).max(1000);
    for (name, among) in [("commit_hot", HOT), ("commit_random", n)] {
        let order = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..commits).map(|_| ids[random.usize(..among)]).collect::<Vec<_>>()
        };
        let order = order(7);
        report.measure(
            name,
            "ns/commit",
            || Ok(time(commits, || order.iter().for_each(|&id| bare.add(id)))),
            || {
                let ns = try_time(commits, || {
                    order.iter().try_for_each(|&id| {
                        db.write_with(Durability::Buffered, |tx| {
                            tx.get_mut::<own::Position>(id)?.x += 1.0;
                            Ok(())
                        })
                    })
                })?;
                db.sync()?;
                Ok(ns)
            },
        )?;
    }
    db.close()?;
    Ok(())
}
