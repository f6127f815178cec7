//! The model: commits at any time, and the store's one change after another, each of steps between which the power may fail.

use std::collections::BTreeMap;

use stateright::{Model, Property};

use crate::files::{Content, Files, Manifest, Name, Reading, manifest};

/// Transactions, snapshots and crashes at most.
const COMMITS: u8 = 4;
const SNAPSHOTS: usize = 3;
const CRASHES: u8 = 2;
/// Snapshots that the setting keeps.
const KEPT: usize = 2;

/// A deliberate break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// CKP-4: files go before the manifest that has no use for them.
    DeleteBeforeManifest,
    /// CKP-5: a manifest names a snapshot of which the name is not durable.
    ManifestBeforeSnapshot,
    /// CKP-5: the files that an increment has blocks in go with the snapshots that they were.
    ParentsGo,
    /// CKP-3: the log goes as soon as the newest snapshot has it, and the one before is nothing to fall back to.
    NoFallback,
    /// CKP-3: the log goes before the archived copy is durable.
    DeleteBeforeArchive,
    /// CKP-11: an archive that is away is taken for one without anything in it.
    AwayIsEmpty,
    /// CKP-12: a segment that the manifest has given up is read.
    GivenUpIsRead,
}

impl Break {
    pub(crate) const ALL: [Break; 7] = [
        Break::DeleteBeforeManifest,
        Break::ManifestBeforeSnapshot,
        Break::ParentsGo,
        Break::NoFallback,
        Break::DeleteBeforeArchive,
        Break::AwayIsEmpty,
        Break::GivenUpIsRead,
    ];
}

pub(crate) struct Store {
    pub(crate) broken: Option<Break>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    files: Files,
    acknowledged: u8,
    /// Every snapshot that a manifest ever named, with the empty world before: what the setting counts.
    taken: Vec<u8>,
    /// A compaction by hand has given up what there was to fall back to.
    compacted: bool,
    at: Step,
    away: bool,
    was_away: bool,
    crashes: u8,
}

/// How far the store is with its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Idle,
    /// A snapshot's file is written; or its name durable; or the manifest that names it written. By hand, it is a compaction.
    Written {
        lsn: u8,
        base: u8,
        by_hand: bool,
    },
    Named {
        lsn: u8,
        base: u8,
        by_hand: bool,
    },
    Published {
        by_hand: bool,
    },
    /// Archiving and giving up.
    Trimming {
        by_hand: bool,
    },
    Archived {
        segment: u8,
        by_hand: bool,
    },
    GivingUp,
    Deleting,
    /// The power is gone.
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Commit,
    Snapshot {
        full: bool,
    },
    Compact,
    Go,
    ArchiveGoes,
    ArchiveComesBack,
    /// With the pending changes of these bits.
    Crash(u16),
    Recover,
}

impl Model for Store {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let first = Manifest { first_segment: 1, first_archived: 1, ..Manifest::default() };
        let durable = BTreeMap::from([(Name::Manifest(1), Content::Manifest(first))]);
        vec![State {
            files: Files { durable, pending: Vec::new() },
            acknowledged: 0,
            taken: vec![0],
            compacted: false,
            at: Step::Idle,
            away: false,
            was_away: false,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.at == Step::Down {
            actions.push(Action::Recover);
            return;
        }
        if state.acknowledged < COMMITS {
            actions.push(Action::Commit);
        }
        let newest = state.taken.last().copied().unwrap_or(0);
        if state.at != Step::Idle {
            actions.push(Action::Go);
        } else if state.taken.len() <= SNAPSHOTS && state.acknowledged > newest {
            actions.extend([Action::Snapshot { full: true }, Action::Compact]);
            if newest > 0 {
                actions.push(Action::Snapshot { full: false });
            }
        }
        if state.away {
            actions.push(Action::ArchiveComesBack);
        } else if !state.was_away {
            actions.push(Action::ArchiveGoes);
        }
        if state.crashes < CRASHES {
            // Of many pending deletions all, none, and each alone are enough.
            let n = state.files.pending.len() as u32;
            if n <= 4 {
                actions.extend((0..1 << n).map(Action::Crash));
            } else {
                let all = (1u16 << n) - 1;
                actions.extend([0, all].map(Action::Crash));
                actions.extend((0..n).flat_map(|i| [1 << i, all ^ 1 << i]).map(Action::Crash));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Commit => {
                state.acknowledged += 1;
                // That a group of the log is durable before it is acknowledged is another model's.
                state.files.durable.insert(Name::Segment(state.acknowledged), Content::Log);
            }
            Action::Snapshot { full } => {
                let (_, manifest) = manifest(&state.files.live())?;
                let lsn = state.acknowledged;
                let base = manifest.snapshots.last().filter(|_| !full).map_or(lsn, |(_, base)| *base);
                state.files.put(Name::Snapshot(lsn), Content::Snapshot(base));
                state.at = Step::Written { lsn, base, by_hand: false };
            }
            Action::Compact => {
                let lsn = state.acknowledged;
                state.files.put(Name::Snapshot(lsn), Content::Snapshot(lsn));
                state.at = Step::Written { lsn, base: lsn, by_hand: true };
            }
            Action::Go => self.go(&mut state)?,
            Action::ArchiveGoes => (state.away, state.was_away) = (true, true),
            Action::ArchiveComesBack => state.away = false,
            Action::Crash(kept) => {
                state.files = state.files.crash(kept);
                state.crashes += 1;
                state.at = Step::Down;
            }
            Action::Recover => {
                let (generation, manifest) = manifest(&state.files.live())?;
                state.taken = taken(&state.taken, &manifest);
                publish(&mut state.files, generation, manifest);
                state.files.sync(Name::Manifest(0));
                self.delete(&mut state.files);
                state.at = Step::Idle;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what was acknowledged is there after a crash (CKP-3, CKP-4, CKP-5, CKP-12)",
                |store: &Store, state: &State| {
                    state.at != Step::Down || store.recovers(state, None) == Some(state.acknowledged)
                },
            ),
            Property::always(
                "… also when any one snapshot is damaged (CKP-3)",
                |store: &Store, state: &State| {
                    let lost = (1..=COMMITS).map(Name::Snapshot);
                    state.at != Step::Down
                        || state.compacted
                        || lost
                            .into_iter()
                            .all(|lost| store.recovers(state, Some(lost)) == Some(state.acknowledged))
                },
            ),
            Property::always(
                "what the setting keeps can be gone back to (CKP-11)",
                |store: &Store, state: &State| {
                    let files = state.files.live();
                    let Some((_, manifest)) = manifest(&files) else { return false };
                    let taken = taken(&state.taken, &manifest);
                    let oldest = taken[taken.len().saturating_sub(KEPT)];
                    let reading = store.reading(&files, &manifest, None);
                    (oldest..=state.acknowledged).all(|n| reading.reaches(n))
                },
            ),
        ]
    }
}

impl Store {
    fn is(&self, broken: Break) -> bool {
        self.broken == Some(broken)
    }

    fn reading<'a>(
        &self,
        files: &'a BTreeMap<Name, Content>,
        manifest: &'a Manifest,
        lost: Option<Name>,
    ) -> Reading<'a> {
        Reading { files, manifest, lost, given_up_too: self.is(Break::GivenUpIsRead) }
    }

    fn recovers(&self, state: &State, lost: Option<Name>) -> Option<u8> {
        let files = state.files.live();
        let (_, manifest) = manifest(&files)?;
        Some(self.reading(&files, &manifest, lost).recovers())
    }

    /// The next step of the store's work.
    fn go(&self, state: &mut State) -> Option<()> {
        let files = state.files.live();
        let (generation, manifest) = manifest(&files)?;
        state.at = match state.at {
            Step::Written { lsn, base, by_hand } => {
                if !self.is(Break::ManifestBeforeSnapshot) {
                    state.files.sync(Name::Snapshot(lsn));
                }
                Step::Named { lsn, base, by_hand }
            }
            Step::Named { lsn, base, by_hand } => {
                let mut next = manifest;
                next.snapshots.push((lsn, base));
                publish(&mut state.files, generation, next);
                Step::Published { by_hand }
            }
            Step::Published { by_hand } => {
                state.files.sync(Name::Manifest(0));
                state.taken = taken(&state.taken, &manifest);
                state.compacted |= by_hand;
                Step::Trimming { by_hand }
            }
            Step::Trimming { .. } if state.away && !self.is(Break::AwayIsEmpty) => Step::Idle,
            Step::Trimming { by_hand } => {
                let first_segment = self.first_needed(&manifest, by_hand).max(manifest.first_segment);
                let archived = |n: &u8| files.contains_key(&Name::Archived(*n));
                let missing = (manifest.first_segment..first_segment).find(|n| !archived(n));
                match missing.filter(|_| !state.away) {
                    Some(segment) => {
                        state.files.put(Name::Archived(segment), Content::Log);
                        Step::Archived { segment, by_hand }
                    }
                    None => {
                        let mut next = self.trimmed(&manifest, by_hand, state.away, |n| archived(&n));
                        next.first_segment = first_segment;
                        if next == manifest {
                            Step::Deleting
                        } else {
                            if self.is(Break::DeleteBeforeManifest) {
                                delete(&mut state.files, &next, false);
                            }
                            publish(&mut state.files, generation, next);
                            Step::GivingUp
                        }
                    }
                }
            }
            Step::Archived { segment, by_hand } => {
                if !self.is(Break::DeleteBeforeArchive) {
                    state.files.sync(Name::Archived(segment));
                }
                Step::Trimming { by_hand }
            }
            Step::GivingUp => {
                state.files.sync(Name::Manifest(0));
                Step::Deleting
            }
            Step::Deleting => {
                self.delete(&mut state.files);
                Step::Idle
            }
            Step::Idle | Step::Down => return None,
        };
        Some(())
    }

    /// The first segment that recovery needs: what follows the snapshot that it falls back to.
    fn first_needed(&self, manifest: &Manifest, by_hand: bool) -> u8 {
        let snapshots = &manifest.snapshots;
        snapshots.len().checked_sub(self.least(snapshots, by_hand)).map_or(1, |i| snapshots[i].0 + 1)
    }

    /// How many of the newest snapshots recovery needs: the newest chain, and the end of the one before.
    fn least(&self, snapshots: &[(u8, u8)], by_hand: bool) -> usize {
        if by_hand || self.is(Break::NoFallback) {
            return 1;
        }
        let newest = snapshots.last().map_or(0, |(_, base)| *base);
        let chain = snapshots.iter().rev().take_while(|(_, base)| *base == newest).count();
        chain + 1
    }

    /// With what the setting does not keep given up.
    fn trimmed(
        &self,
        manifest: &Manifest,
        by_hand: bool,
        away: bool,
        archived: impl Fn(u8) -> bool,
    ) -> Manifest {
        let mut next = manifest.clone();
        let first_segment = self.first_needed(manifest, by_hand).max(manifest.first_segment);
        let mut bases: Vec<u8> = manifest.snapshots.iter().map(|(lsn, _)| *lsn).collect();
        let is_there = |n: u8| !away && archived(n);
        let joined = (manifest.first_archived..first_segment).rev().take_while(|n| is_there(*n)).last();
        if joined == Some(1) {
            bases.insert(0, 0);
        }
        let least = self.least(&manifest.snapshots, by_hand).min(manifest.snapshots.len());
        let gone = bases.len().saturating_sub(KEPT.max(least));
        let oldest = bases.get(gone).copied().unwrap_or(0);
        next.snapshots.retain(|(lsn, _)| *lsn >= oldest);
        next.first_archived = (joined.unwrap_or(first_segment)..first_segment)
            .find(|n| *n > oldest)
            .unwrap_or(first_segment)
            .max(manifest.first_archived);
        next
    }

    fn delete(&self, files: &mut Files) {
        if let Some((_, manifest)) = manifest(&files.live()) {
            delete(files, &manifest, self.is(Break::ParentsGo));
        }
    }
}

/// With those that a manifest names which a crash cut off from being noted.
fn taken(noted: &[u8], manifest: &Manifest) -> Vec<u8> {
    let mut taken: Vec<u8> =
        noted.iter().copied().chain(manifest.snapshots.iter().map(|(lsn, _)| *lsn)).collect();
    taken.sort_unstable();
    taken.dedup();
    taken
}

fn publish(files: &mut Files, generation: u8, manifest: Manifest) {
    files.put(Name::Manifest(generation + 1), Content::Manifest(manifest));
}

/// Removes what `manifest` has no use for.
fn delete(files: &mut Files, manifest: &Manifest, parents_too: bool) {
    let uses = |n: u8| {
        let within = |(lsn, base): &(u8, u8)| n == *lsn || (!parents_too && (*base..=*lsn).contains(&n));
        manifest.snapshots.iter().any(within)
    };
    for name in files.live().into_keys() {
        let needed = match name {
            Name::Segment(n) => n >= manifest.first_segment,
            Name::Archived(n) => n >= manifest.first_archived,
            Name::Snapshot(n) => uses(n),
            Name::Manifest(_) => true,
        };
        if !needed {
            files.remove(name);
        }
    }
}
