//! Crash variants: which of the un-synced changes a power cut keeps. A variant is a small value that repeats
//! the same crash on the same disk.

/// In which order a crash may keep the changes of one directory's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NameOrder {
    /// As a metadata journal does (ext4, xfs): of each directory, a prefix.
    Journal,
    /// Harsher than any journal: any subset, in order.
    #[default]
    Any,
}

/// One way to crash a disk.
///
/// Its `Debug` form is the expression that makes it again, so that a failing case can be run alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CrashVariant {
    /// What is kept.
    pub pattern: CrashPattern,
    /// How much the names of one directory depend on each other.
    pub names: NameOrder,
}

/// Which un-synced changes a crash keeps. They are numbered from 0 in the order in which they were made, over
/// all files and directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPattern {
    /// Nothing un-synced survives.
    Lost,
    /// Everything survives: the process was killed, the machine was not.
    Kept,
    /// The first so many survive.
    Prefix(usize),
    /// This one alone survives.
    Only(usize),
    /// This one alone is lost.
    Without(usize),
    /// Names survive, contents do not: the empty file under its final name.
    Names,
    /// Contents survive, names do not.
    Contents,
    /// Names and lengths survive; written bytes beyond the old end are zeros, or garbage.
    Lengths {
        /// Whether they are garbage rather than zeros.
        garbage: bool,
    },
    /// Everything before this write survives, of the write itself some sectors, of later ones nothing.
    Torn {
        /// The write.
        at: usize,
        /// Which sectors.
        seed: u64,
    },
    /// Each file and directory by its own rule: prefixes, subsets, torn writes, lengths without contents.
    Random(u64),
}

impl CrashVariant {
    /// Nothing un-synced survives.
    pub const LOST: CrashVariant = CrashVariant::new(CrashPattern::Lost);
    /// Everything survives, as when a process is killed.
    pub const KEPT: CrashVariant = CrashVariant::new(CrashPattern::Kept);

    /// A variant of `pattern` with names in [`NameOrder::Journal`].
    pub const fn new(pattern: CrashPattern) -> Self {
        CrashVariant { pattern, names: NameOrder::Journal }
    }

    /// A random crash.
    pub const fn random(seed: u64, names: NameOrder) -> Self {
        CrashVariant { pattern: CrashPattern::Random(seed), names }
    }
}

/// Of each family of systematic variants, at most so many are taken when there are more changes than that.
const FAMILY_MAX: usize = 16;
/// How often the systematic variants tear each write.
const TEARS: usize = 3;

/// The systematic variants for `changes` un-synced changes, of which `writes` are the torn-able ones, then
/// `random` random ones.
pub(crate) fn enumerate(
    changes: usize,
    writes: &[usize],
    random: usize,
    seed: u64,
    names: NameOrder,
) -> Vec<CrashVariant> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut patterns = vec![CrashPattern::Lost, CrashPattern::Kept];
    if changes > 0 {
        patterns.extend([
            CrashPattern::Names,
            CrashPattern::Contents,
            CrashPattern::Lengths { garbage: false },
            CrashPattern::Lengths { garbage: true },
        ]);
        let mut some = |from: Vec<usize>| {
            let mut picked = rng.choose_multiple(from, FAMILY_MAX);
            picked.sort_unstable();
            picked
        };
        patterns.extend(some((1..changes).collect()).into_iter().map(CrashPattern::Prefix));
        patterns.extend(some((0..changes).collect()).into_iter().map(CrashPattern::Only));
        patterns.extend(some((0..changes).collect()).into_iter().map(CrashPattern::Without));
        let writes = some(writes.to_vec());
        for at in writes {
            patterns.extend((0..TEARS).map(|_| CrashPattern::Torn { at, seed: rng.u64(..) }));
        }
        patterns.extend((0..random).map(|_| CrashPattern::Random(rng.u64(..))));
    }
    let mut variants: Vec<CrashVariant> =
        patterns.into_iter().map(|pattern| CrashVariant { pattern, names }).collect();
    if names == NameOrder::Any {
        // Half of the random ones stay within what a journal does.
        for variant in variants.iter_mut().rev().take(random / 2) {
            variant.names = NameOrder::Journal;
        }
    }
    variants
}
