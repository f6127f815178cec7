//! What of a log is damaged or missing, file by file, wherever in it.

use std::path::PathBuf;

use ecsdb_id::Lsn;
use ecsdb_io::FileKind;

use crate::files::LogDir;
use crate::reader::{Damage, Remains};
use crate::scan::LogScan;

/// What is wrong with a segment that is not there.
pub(crate) const MISSING: &str = "the segment is missing";

/// A segment that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Its file, and what is wrong with it.
    pub damage: Damage,
    /// What shows that it was there, or whole.
    pub evidence: String,
    /// There is no file.
    pub missing: bool,
}

/// A segment file without a valid header.
pub(crate) struct Headless {
    pub(crate) number: u64,
    pub(crate) damage: Damage,
    pub(crate) bytes: u64,
    pub(crate) remains: Remains,
}

impl LogScan {
    /// Notes a file that is damaged or missing.
    pub(crate) fn lose(&mut self, damage: Damage, evidence: String) {
        if self.losses.iter().all(|loss| loss.damage.path != damage.path) {
            self.losses.push(Loss { damage, evidence, missing: false });
        }
    }

    /// Notes files without a valid header from before the first segment that has one: there is no break, but where the log has to go back further.
    pub(crate) fn lose_before(&mut self, headless: &[Headless]) {
        let Some(first) = self.segments.first() else { return };
        let (previous, evidence) =
            (first.header.previous.segment, format!("{} follows it", first.path.display()));
        for file in headless.iter().filter(|file| file.number <= previous) {
            self.lose(file.damage.clone(), evidence.clone());
        }
    }

    /// Says of each loss whether there is a file.
    pub(crate) fn tell_missing(&mut self, headless: &[Headless]) {
        for loss in &mut self.losses {
            let path = &loss.damage.path;
            loss.missing = self.segments.iter().all(|segment| segment.path != *path)
                && headless.iter().all(|file| file.damage.path != *path);
        }
    }
}

/// What is wrong with the segments after one that is there, up to another one that is not: with each file, and what there is none of.
pub(crate) fn hole(after: u64, last: u64, dirs: &[LogDir<'_>], headless: &[Headless]) -> Vec<Damage> {
    let mut there: Vec<u64> = headless.iter().map(|file| file.number).collect();
    there.retain(|number| (after + 1..=last).contains(number));
    let mut damaged = Vec::new();
    let mut from = after + 1;
    for number in there.into_iter().chain([last + 1]) {
        // What is missing before it, one beside the other.
        if number > from {
            let mut missing = missed(number - 1, dirs, headless);
            if number - 1 > from {
                missing.what = format!("{}, and nothing from segment {from} on is there", missing.what);
            }
            damaged.push(missing);
        }
        if number <= last {
            damaged.push(missed(number, dirs, headless));
        }
        from = number + 1;
    }
    damaged
}

/// What is wrong with a segment that others say to have been there: with its file, or that there is none where it would be.
pub(crate) fn missed(number: u64, dirs: &[LogDir<'_>], headless: &[Headless]) -> Damage {
    if let Some(file) = headless.iter().find(|file| file.number == number) {
        return file.damage.clone();
    }
    let dir = dirs.iter().find(|dir| number >= dir.first).or(dirs.first());
    // What is archived may lie there without compression, too.
    let is_archived = dir.is_some_and(|dir| dir.archive);
    let kind = if is_archived { FileKind::CompressedSegment } else { FileKind::Segment };
    let name = PathBuf::from(kind.name(number));
    let path = dir.map_or_else(|| name.clone(), |dir| dir.path.join(&name));
    Damage::new(&path, 0, Lsn::ZERO, MISSING)
}
