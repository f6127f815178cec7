//! What the crates of ecsdb call things by, on the ground floor, so that core, log and facade speak of one [`Lsn`].

#![forbid(unsafe_code)]

/// The number of a transaction: dense, from 1, never used twice in one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first transaction.
    pub const ZERO: Lsn = Lsn(0);

    /// The last that a log can hold: 48 bits of it stand in a frame.
    pub const MAX: Lsn = Lsn((1 << 48) - 1);

    /// False for a number that no database reaches (a million transactions a second take eight years): a file that says it is not one of ours. A
    /// trillion more can follow any other.
    pub const fn is_reachable(self) -> bool {
        self.0 <= Lsn::MAX.0 - (1 << 40)
    }

    /// The transaction after this one.
    #[must_use]
    pub const fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }
}

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(&self.0, f)
    }
}

/// From a plain number, as it stands in files.
impl From<u64> for Lsn {
    fn from(number: u64) -> Self {
        Lsn(number)
    }
}
