//! The simulated disk and clock for tests of your own code: every crash, every fault, as often as you like, in milliseconds.
//!
//! [`CrashPoints`] runs your ticks once, cuts the power after each storage operation of theirs, in many variants of what the disk had
//! got by then, opens what is left, and lets you look:
//!
//! ```
//! use ecsdb::prelude::*;
//! use ecsdb::testing::CrashPoints;
//!
//! #[derive(Component, Clone, Copy)]
//! #[component(name = "game.gold", plain)]
//! #[repr(C)]
//! struct Gold(u64);
//!
//! let explored = CrashPoints::new().run(
//!     |db, told| {
//!         let purses = db.write(|tx| Ok([tx.spawn(Gold(100)), tx.spawn(Gold(0))]))?;
//!         for paid in 1..=3 {
//!             db.write(|tx| {
//!                 tx.get_mut::<Gold>(purses[0])?.0 -= 1;
//!                 tx.get_mut::<Gold>(purses[1])?.0 += 1;
//!                 Ok(())
//!             })?;
//!             told.note(paid); // the player has seen it
//!         }
//!         Ok(())
//!     },
//!     |db, told| {
//!         let gold: Vec<u64> = db.view()?.query::<&Gold>()?.map(|gold| gold.0).collect();
//!         assert!(gold.is_empty() || gold.iter().sum::<u64>() == 100, "gold came or went");
//!         assert!(gold.iter().min().copied().unwrap_or(0) >= told.last().copied().unwrap_or(0), "it was paid");
//!         Ok(())
//!     },
//! )?;
//! assert!(explored.crashes > 50);
//! # Ok::<(), ecsdb::testing::Counterexample>(())
//! ```
//!
//! [`open_on`] is for tests of any other form. What a [`SimDisk`] does: [`inject`](SimDisk::inject) a [`Fault`],
//! [`set_quota`](SimDisk::set_quota) to fill up, [`crash`](SimDisk::crash), [`flip_bit`](SimDisk::flip_bit), and
//! [`advance`](SimDisk::advance) or [`set_clock`](SimDisk::set_clock) for the time of day as the database sees it:
//!
//! ```
//! use ecsdb::prelude::*;
//! use ecsdb::testing::{CrashVariant, SimDisk, open_on};
//!
//! let disk = SimDisk::new(1);
//! let db = open_on(&disk).open()?;
//! let ship = db.write(|tx| Ok(tx.spawn(())))?;
//! db.write_with(Durability::Buffered, |tx| Ok(tx.spawn(())))?;
//! let after = open_on(&disk.crash(CrashVariant::LOST)).open()?;
//! assert!(after.view()?.contains(ship));
//! assert_eq!(after.view()?.len(), 1, "what nobody waited for is gone with the power");
//! # Ok::<(), ecsdb::Error>(())
//! ```

use ecsdb_config::PersistenceConfig;

use crate::builder::Builder;
use crate::database::Database;
use crate::error::Result;

pub use ecsdb_io::FileOp;
pub use ecsdb_sim::{
    Counterexample, CrashPattern, CrashVariant, Exploration, Explored, Failure, Fault, Journal, NameOrder,
    SimDisk,
};

/// Where [`open_on`] keeps the database.
pub const DIR: &str = "/world";

/// A builder for the database of a simulated disk, without threads of its own, so that the same test is the same run: whoever waits does
/// the work, and work in the background is done when it is asked for.
pub fn open_on(disk: &SimDisk) -> Builder {
    Database::builder(DIR).vfs(disk.vfs()).without_threads()
}

/// A test that crashes at every storage operation.
#[must_use = "it does nothing before it runs"]
pub struct CrashPoints {
    exploration: Exploration,
    config: Box<dyn Fn(&mut PersistenceConfig) + Send + Sync>,
}

impl Default for CrashPoints {
    fn default() -> Self {
        CrashPoints { exploration: Exploration::default(), config: Box::new(|_| {}) }
    }
}

impl std::fmt::Debug for CrashPoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CrashPoints").field("exploration", &self.exploration).finish_non_exhaustive()
    }
}

impl CrashPoints {
    /// Every operation, with the systematic variants of a crash and some random ones.
    pub fn new() -> Self {
        CrashPoints::default()
    }

    /// Changes how far it goes: the seed, fewer points, more random variants, or the one case that a [`Counterexample`] names.
    pub fn exploration(mut self, change: impl FnOnce(&mut Exploration)) -> Self {
        change(&mut self.exploration);
        self
    }

    /// Changes the settings of the database, each time that it is opened.
    pub fn config(mut self, change: impl Fn(&mut PersistenceConfig) + Send + Sync + 'static) -> Self {
        self.config = Box::new(change);
        self
    }

    /// Opens a new database, runs `ticks` on it and closes it; crashes at each operation on the way, opens what is left, and lets `check`
    /// look at it, with what `ticks` had noted by then. Note an acknowledgment after it was given.
    ///
    /// # Errors
    /// The earliest crash after which the database did not open, or `check` failed or panicked; or the error of `ticks`.
    pub fn run<T: Sync>(
        self,
        ticks: impl FnOnce(&Database, &Journal<T>) -> Result<()>,
        check: impl Fn(&Database, &[T]) -> Result<()> + Sync,
    ) -> std::result::Result<Explored, Counterexample> {
        let open = |disk: &SimDisk| open_on(disk).config(|config| (self.config)(config)).open();
        ecsdb_sim::explore(
            &self.exploration,
            |disk, journal| {
                let db = open(disk)?;
                ticks(&db, journal)?;
                db.close()
            },
            |disk, case| check(&open(disk)?, case.events),
        )
    }
}
