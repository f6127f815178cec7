//! What the machine finds after power has returned: a moment of a disk, and the fate of each change at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::file::{Beyond, Change, Fate, FileNode, Tear};
use crate::names::{Ino, keep_in_journal_order};
use crate::state::State;
use crate::variant::{Choices, CrashPattern, CrashVariant, NameOrder, enumerate};

/// A disk at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub(crate) state: State,
    pub(crate) clock_ns: u64,
    pub(crate) rng: fastrand::Rng,
    /// Operations done before.
    pub(crate) operation: u64,
    /// Events noted before, where somebody notes them.
    pub(crate) events: usize,
}

/// The fate of every change: two crashes with equal fates leave equal disks.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fates {
    /// False after a mere kill: nothing is decided yet.
    decided: bool,
    names: Vec<bool>,
    files: BTreeMap<Ino, Vec<Fate>>,
}

/// Where an undecided change is to be found.
#[derive(Debug, Clone, Copy)]
enum Where {
    Name(usize),
    File(Ino, usize),
}

impl Moment {
    pub(crate) fn variants(
        &self,
        exhaustive_max: usize,
        random: usize,
        seed: u64,
        names: NameOrder,
    ) -> Vec<CrashVariant> {
        let parts: Vec<usize> = self.undecided().iter().map(|place| self.parts(place)).collect();
        enumerate(&Choices { parts: &parts, exhaustive_max, random, seed, names })
    }

    /// How many parts of a change are kept or lost on their own.
    fn parts(&self, place: &Where) -> usize {
        match *place {
            Where::File(file, at) => self.changes(file)[at].sectors().unwrap_or(1),
            Where::Name(_) => 1,
        }
    }

    pub(crate) fn fates(&self, variant: CrashVariant) -> Fates {
        let undecided = self.undecided();
        // What is decided is kept; the rest is set below.
        let mut fates = Fates {
            decided: variant.pattern != CrashPattern::Killed,
            names: vec![true; self.state.name_changes.len()],
            files: self
                .changed_files()
                .map(|(ino, file)| (ino, vec![Fate::Kept; file.changes().len()]))
                .collect(),
        };
        if let CrashPattern::Random(seed) = variant.pattern {
            self.decide_randomly(&undecided, &mut fates, seed, variant.names);
        } else if let CrashPattern::Sectors(mask) = variant.pattern {
            let mut bits = (0..64).map(|bit| mask >> bit & 1 == 1);
            for place in &undecided {
                let kept: Vec<bool> = bits.by_ref().take(self.parts(place)).collect();
                match *place {
                    Where::Name(i) => fates.names[i] = kept == [true],
                    Where::File(file, i) => set(&mut fates, file, i, tear(kept, Beyond::Absent)),
                }
            }
        } else {
            for (at, place) in undecided.into_iter().enumerate() {
                match place {
                    Where::Name(i) => fates.names[i] = keeps_name(variant.pattern, at),
                    Where::File(file, i) => {
                        let change = &self.changes(file)[i];
                        set(&mut fates, file, i, fate_of_change(variant.pattern, at, change));
                    }
                }
            }
        }
        if variant.names == NameOrder::Journal {
            keep_in_journal_order(&self.state.name_changes, &mut fates.names);
        }
        fates
    }

    /// The state after the crash: everything in it is durable, but for a kill. The fates of files that have no name any more
    /// are forgotten.
    pub(crate) fn state_after(&self, fates: &mut Fates) -> State {
        let mut state = self.state.clone();
        if !fates.decided {
            return state;
        }
        for (change, kept) in self.state.name_changes.iter().zip(&fates.names) {
            if *kept {
                change.apply(&mut state.dirs, |dir| &mut dir.durable);
            }
        }
        state.name_changes = Arc::default();
        state.dirs.values_mut().for_each(|dir| dir.live = Arc::clone(&dir.durable));
        state.forget_detached();
        fates.files.retain(|ino, fates| match state.files.get_mut(ino) {
            Some(file) => {
                *file = Arc::new(FileNode::durable_as(file.after_crash(fates)));
                true
            }
            None => false,
        });
        state
    }

    fn decide_randomly(&self, undecided: &[Where], fates: &mut Fates, seed: u64, order: NameOrder) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tearing = [0.0, 0.5, 1.0][rng.usize(..3)];
        let beyond = rng.u8(..3);
        let mut dirs: BTreeMap<Ino, Rule> = BTreeMap::new();
        let mut files: BTreeMap<Ino, Rule> = BTreeMap::new();
        let count_in_dir =
            |dir| self.state.name_changes.iter().filter(|c| c.dirs().any(|d| d == dir)).count();
        for place in undecided {
            match *place {
                Where::Name(i) => {
                    let mut kept = true;
                    for dir in self.state.name_changes[i].dirs() {
                        let rule = dirs.entry(dir).or_insert_with(|| match order {
                            NameOrder::Journal => Rule::Prefix(rng.usize(..=count_in_dir(dir))),
                            NameOrder::Any => Rule::choose(&mut rng, count_in_dir(dir)),
                        });
                        kept &= rule.keeps(&mut rng);
                    }
                    fates.names[i] = kept;
                }
                Where::File(file, i) => {
                    let changes = self.changes(file);
                    let rule = files.entry(file).or_insert_with(|| Rule::choose(&mut rng, changes.len()));
                    let mut fate = if rule.keeps(&mut rng) { Fate::Kept } else { Fate::Lost };
                    if rng.f64() < tearing {
                        let beyond = match beyond {
                            0 => Beyond::Absent,
                            1 => Beyond::Zeros,
                            _ => Beyond::Garbage(rng.u64(..)),
                        };
                        let share = [0.0, 0.1, 0.5, 0.5, 0.5, 0.9][rng.usize(..6)];
                        fate = torn(&changes[i], &mut rng, share, beyond).unwrap_or(fate);
                    }
                    set(fates, file, i, fate);
                }
            }
        }
    }

    fn undecided(&self) -> Vec<Where> {
        let names = self.state.name_changes.iter().enumerate().filter(|(_, change)| change.is_undecided());
        let mut all: Vec<(u64, Where)> = names.map(|(i, change)| (change.sequence, Where::Name(i))).collect();
        for (ino, file) in self.changed_files() {
            let changes = file.changes().iter().enumerate().filter(|(_, change)| change.is_undecided());
            all.extend(changes.map(|(i, change)| (change.sequence, Where::File(ino, i))));
        }
        all.sort_unstable_by_key(|(sequence, _)| *sequence);
        all.into_iter().map(|(_, place)| place).collect()
    }

    fn changed_files(&self) -> impl Iterator<Item = (Ino, &FileNode)> {
        self.state
            .files
            .iter()
            .map(|(ino, file)| (*ino, &**file))
            .filter(|(_, file)| !file.changes().is_empty())
    }

    fn changes(&self, file: Ino) -> &[Change] {
        self.state.files.get(&file).map_or(&[], |file| file.changes())
    }
}

/// How a random crash treats the changes of one file or directory.
#[derive(Debug)]
enum Rule {
    /// So many more are kept, then none.
    Prefix(usize),
    /// Each is kept with this probability.
    Share(f64),
}

impl Rule {
    fn choose(rng: &mut fastrand::Rng, changes: usize) -> Rule {
        match rng.u8(..6) {
            0 => Rule::Share(0.0),
            1 => Rule::Share(1.0),
            2 => Rule::Share(0.2),
            3 => Rule::Share(0.8),
            4 => Rule::Share(0.5),
            _ => Rule::Prefix(rng.usize(..=changes)),
        }
    }

    fn keeps(&mut self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Rule::Prefix(0) => false,
            Rule::Prefix(left) => {
                *left -= 1;
                true
            }
            Rule::Share(share) => rng.f64() < *share,
        }
    }
}

fn keeps_name(pattern: CrashPattern, at: usize) -> bool {
    match pattern {
        CrashPattern::Lost | CrashPattern::Contents | CrashPattern::Random(_) => false,
        CrashPattern::Kept | CrashPattern::Killed | CrashPattern::Names | CrashPattern::Lengths { .. } => {
            true
        }
        CrashPattern::Prefix(count)
        | CrashPattern::Torn { at: count, .. }
        | CrashPattern::TornAfter { at: count, .. } => at < count,
        CrashPattern::Changes(mask) | CrashPattern::Sectors(mask) => mask >> at & 1 == 1,
        CrashPattern::Only(one) => at == one,
        CrashPattern::Without(one) => at != one,
    }
}

fn fate_of_change(pattern: CrashPattern, at: usize, change: &Change) -> Fate {
    let kept = match pattern {
        CrashPattern::Lengths { garbage } => {
            let beyond = if garbage { Beyond::Garbage(change.sequence) } else { Beyond::Zeros };
            let tear = torn(change, &mut fastrand::Rng::with_seed(0), 0.0, beyond);
            return tear.unwrap_or(Fate::Kept);
        }
        CrashPattern::Torn { at: torn_at, seed } if at == torn_at => {
            let mut rng = fastrand::Rng::with_seed(seed);
            return torn(change, &mut rng, 0.5, Beyond::Absent).unwrap_or(Fate::Lost);
        }
        CrashPattern::TornAfter { at: torn_at, sectors } if at == torn_at => {
            let all = change.sectors().unwrap_or(0);
            return tear((0..all).map(|sector| sector < sectors).collect(), Beyond::Absent);
        }
        CrashPattern::Names => false,
        CrashPattern::Contents => true,
        other => keeps_name(other, at),
    };
    if kept { Fate::Kept } else { Fate::Lost }
}

/// Tears a write so that each sector is kept with probability `share`; `None` for a change of length.
fn torn(change: &Change, rng: &mut fastrand::Rng, share: f64, beyond: Beyond) -> Option<Fate> {
    Some(tear((0..change.sectors()?).map(|_| rng.f64() < share).collect(), beyond))
}

/// What happens to a change of which these parts are kept.
fn tear(kept: Vec<bool>, beyond: Beyond) -> Fate {
    match (beyond, kept.contains(&true), kept.contains(&false)) {
        (_, _, false) => Fate::Kept,
        (Beyond::Absent, false, true) => Fate::Lost,
        _ => Fate::Torn(Tear { kept, beyond }),
    }
}

fn set(fates: &mut Fates, file: Ino, at: usize, fate: Fate) {
    if let Some(slot) = fates.files.get_mut(&file).and_then(|fates| fates.get_mut(at)) {
        *slot = fate;
    }
}
