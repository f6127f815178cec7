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
    /// Everything survives the power cut.
    Kept,
    /// The process was killed, the machine was not: reads see everything, and what was un-synced still is. A crash after that may lose it.
    Killed,
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
    /// Of this write and what came before, everything up to so many of the write's sectors, and nothing after.
    TornAfter {
        /// The write.
        at: usize,
        /// Its first sectors, so many of them.
        sectors: usize,
    },
    /// Exactly the changes whose bit is set.
    Changes(u64),
    /// Exactly the sectors and names whose bit is set: a write has a bit for each of its sectors, in their order; any other change has one.
    Sectors(u64),
    /// Each file and directory by its own rule: prefixes, subsets, torn writes, lengths without contents.
    Random(u64),
}

impl CrashVariant {
    /// Nothing un-synced survives.
    pub const LOST: CrashVariant = CrashVariant::new(CrashPattern::Lost);
    /// Everything survives.
    pub const KEPT: CrashVariant = CrashVariant::new(CrashPattern::Kept);

    /// The process alone is killed.
    pub const KILLED: CrashVariant = CrashVariant::new(CrashPattern::Killed);

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

/// What a crash may keep or lose, and how thoroughly that is tried.
pub(crate) struct Choices<'a> {
    /// Of each un-synced change, how many parts it has that are kept or lost on their own: the sectors of a write.
    pub(crate) parts: &'a [usize],
    /// So many parts, or changes, have all their subsets tried.
    pub(crate) exhaustive_max: usize,
    /// Random variants after the others.
    pub(crate) random: usize,
    pub(crate) seed: u64,
    pub(crate) names: NameOrder,
}

/// The systematic variants, then the random ones.
pub(crate) fn enumerate(choices: &Choices<'_>) -> Vec<CrashVariant> {
    let Choices { parts, exhaustive_max, random, seed, names } = *choices;
    let changes = parts.len();
    let writes: Vec<usize> = (0..changes).filter(|at| parts[*at] > 1).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut patterns = vec![CrashPattern::Lost, CrashPattern::Kept];
    if changes > 0 {
        patterns.extend([
            CrashPattern::Killed,
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
        let writes = some(writes);
        for at in writes {
            patterns.extend((0..TEARS).map(|_| CrashPattern::Torn { at, seed: rng.u64(..) }));
        }
        if exhaustive_max > 0 {
            let prefixes =
                |at: usize| (1..parts[at]).map(move |sectors| CrashPattern::TornAfter { at, sectors });
            patterns.extend((0..changes).flat_map(prefixes));
            if parts.iter().sum::<usize>() <= exhaustive_max {
                patterns.extend((0..1 << parts.iter().sum::<usize>()).map(CrashPattern::Sectors));
            } else if changes <= exhaustive_max {
                patterns.extend((0..1 << changes).map(CrashPattern::Changes));
            }
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
