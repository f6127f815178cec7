//! Directories that are the wrong ones for a session, parts that are put back from an older copy, strangers' files, kills, in any order: whatever
//! comes of it, no world opens that never was, and nothing that was ever whole is gone (REC-17, CKP-10, CKP-11).

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ecsdb::prelude::*;
use ecsdb::{Digest, Lsn, Moment, PersistenceConfig, Policy, StoreError};
use ecsdb_io::{Disk, FileKind};
use ecsdb_snapshot::{Header, Snapshot};
use ecsdb_wal::LogScan;
use proptest::prelude::*;

use crate::components::{Counter, Name};
use crate::golden::copy_dir;
use crate::lifecycle::archiving;
use crate::model::cases;

/// What a session may find in another place than the one before; and the database's own directory.
const PLACES: [&str; 7] = ["world", "log", "log2", "snapshots", "snapshots2", "archive", "archive2"];

#[derive(Debug, Clone)]
enum Step {
    /// An opening with these places, so many transactions and a snapshot after every second, and the end of it. One of the places may go away on
    /// the way, with an empty directory in its place, and be back before the end; and a stranger's file may come, whose number is the one after the highest
    /// that there is in its place, or a little more.
    Session { second: [bool; 3], writes: u64, killed: bool, goes: Option<usize>, comes: Option<Stranger> },
    /// A copy of everything is kept.
    Save,
    /// One place becomes what it was in the copy.
    PutBack(usize),
    /// One place is not there, or there again.
    Unmount(usize),
    /// A file with a name of ours comes.
    Stranger(Stranger),
    /// A salvage, with these places.
    Salvage { second: [bool; 3] },
}

/// A file with a name of ours, and what is in it: noise, or another database's file of that kind.
#[derive(Debug, Clone, Copy)]
struct Stranger {
    place: usize,
    kind: usize,
    number: u64,
    of_another: bool,
}

fn stranger(numbers: std::ops::Range<u64>) -> impl Strategy<Value = Stranger> {
    (0..PLACES.len(), 0..KINDS.len(), numbers, any::<bool>())
        .prop_map(|(place, kind, number, of_another)| Stranger { place, kind, number, of_another })
}

fn step() -> impl Strategy<Value = Step> {
    let mostly_first = || prop::array::uniform3(prop::bool::weighted(0.2));
    prop_oneof![
        8 => (
            mostly_first(),
            0u64..6,
            prop::bool::weighted(0.3),
            prop::option::weighted(0.2, 0..PLACES.len()),
            prop::option::weighted(0.2, stranger(0..3)),
        )
            .prop_map(|(second, writes, killed, goes, comes)| Step::Session { second, writes, killed, goes, comes }),
        2 => Just(Step::Save),
        1 => (0..PLACES.len()).prop_map(Step::PutBack),
        2 => (0..PLACES.len()).prop_map(Step::Unmount),
        2 => stranger(1..8).prop_map(Step::Stranger),
        1 => mostly_first().prop_map(|second| Step::Salvage { second }),
    ]
}

/// The kinds of files that are numbered.
const KINDS: [FileKind; 4] =
    [FileKind::Snapshot, FileKind::Segment, FileKind::CompressedSegment, FileKind::Manifest];

/// Another database's file of each of [`KINDS`].
static OF_ANOTHER: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut another = Run::new();
    another.session([false; 3], 6, false, (None, None), Policy::Strict);
    let live = another.path("live");
    let first = |kind: FileKind| {
        let place = match kind {
            FileKind::Snapshot => "snapshots",
            FileKind::Segment => "log",
            FileKind::Manifest => "world",
            _ => "archive",
        };
        let files = ecsdb_io::numbered_files(&Disk, &live.join(place), &[kind]).unwrap();
        std::fs::read(&files[0].path).unwrap()
    };
    KINDS.map(first).to_vec()
});

/// What is whole, by what is in it: where it lies and under which name does not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whole {
    /// A transaction in a segment, as it is or compressed: database, incarnation and salt of the segment, LSN.
    Transaction(u128, u64, u32, u64),
    /// A snapshot: database, number, LSN, time.
    Snapshot(u128, u64, u64, u64),
    /// By its CRC-32C.
    Stranger(u32),
}

type State = (Lsn, Digest);

struct Run {
    dir: tempfile::TempDir,
    /// Every state that was ever acknowledged, in any life; and those that a session began or ended with.
    states: HashSet<State>,
    ends: HashSet<State>,
    newest: Option<State>,
    /// What was not acknowledged after that, and may have come about.
    maybe: HashSet<State>,
    strangers: BTreeSet<u32>,
    /// Something but strangers' files was ever not as the last session had left it.
    meddled: bool,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["live", "away", "other"] {
            std::fs::create_dir_all(dir.path().join("all").join(name)).unwrap();
        }
        let (states, ends, maybe, strangers) = Default::default();
        Run { dir, states, ends, newest: None, maybe, strangers, meddled: false }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("all").join(name)
    }

    fn config(&self, second: [bool; 3]) -> PersistenceConfig {
        let mut config = PersistenceConfig::new(self.path("live/world"));
        archiving(&mut config);
        let at = |i: usize| Some(self.path("live").join(PLACES[1 + 2 * i + usize::from(second[i])]));
        (config.wal.dir, config.snapshot.dir, config.archive.dir) = (at(0), at(1), at(2));
        config
    }

    fn step(&mut self, step: &Step) {
        let saved = self.dir.path().join("saved");
        match *step {
            Step::Session { second, writes, killed, goes, comes } => {
                self.meddled |= second != [false; 3];
                self.session(second, writes, killed, (goes, comes), Policy::TruncateTail);
            }
            Step::Salvage { second } => {
                self.meddled = true;
                self.session(second, 2, false, (None, None), Policy::Salvage);
            }
            Step::Save => copy_dir(&self.path("live"), &saved),
            Step::PutBack(place) => {
                let (from, to) = (saved.join(PLACES[place]), self.path("live").join(PLACES[place]));
                if from.exists() {
                    self.meddled = true;
                    copy_dir(&from, &to);
                }
            }
            Step::Unmount(place) => {
                self.meddled = true;
                let (live, away) =
                    (self.path("live").join(PLACES[place]), self.path("away").join(PLACES[place]));
                let was_away = away.exists();
                if live.exists() {
                    let n = std::fs::read_dir(self.path("other")).unwrap().count();
                    let to = if was_away { self.path("other").join(n.to_string()) } else { away.clone() };
                    std::fs::rename(&live, to).unwrap();
                }
                if was_away {
                    std::fs::rename(&away, &live).unwrap();
                }
            }
            Step::Stranger(stranger) => self.comes(stranger),
        }
    }

    fn comes(&mut self, Stranger { place, kind, number, of_another }: Stranger) {
        let place = self.path("live").join(PLACES[place]);
        let path = place.join(KINDS[kind].name(number));
        if !place.exists() || path.exists() {
            return;
        }
        let noise = || fastrand::u128(..).to_le_bytes().repeat(20);
        let bytes = if of_another { OF_ANOTHER[kind].clone() } else { noise() };
        // In the log, a segment that cannot be read, or that is another database's, is not passed over.
        let is_segment = matches!(KINDS[kind], FileKind::Segment | FileKind::CompressedSegment);
        self.meddled |= is_segment && path.parent() == Some(&self.path("live/log"));
        std::fs::write(path, &bytes).unwrap();
        self.strangers.insert(crc32c::crc32c(&bytes));
    }

    /// A stranger's file comes while the database is open, where its next one would go, or a little behind.
    fn comes_meanwhile(&mut self, Stranger { place, kind, number, of_another }: Stranger) {
        let dir = self.path("live").join(PLACES[place]);
        let free = ecsdb_io::next_free_number(&Disk, &dir, KINDS[kind]).unwrap();
        self.comes(Stranger { place, kind, number: free + number, of_another });
    }

    /// A place goes away, if it is there, and something empty stands there; it is back, and what stood there is gone.
    fn goes(&self, place: &str) {
        let (live, gone) = (self.path("live").join(place), self.path("gone"));
        if live.exists() {
            std::fs::rename(&live, gone).unwrap();
            std::fs::create_dir(live).unwrap();
        }
    }

    fn comes_back(&self, place: &str) {
        let (live, gone) = (self.path("live").join(place), self.path("gone"));
        if gone.exists() {
            let n = std::fs::read_dir(self.path("other")).unwrap().count();
            std::fs::rename(&live, self.path("other").join(n.to_string())).unwrap();
            std::fs::rename(gone, live).unwrap();
        }
    }

    fn session(
        &mut self,
        second: [bool; 3],
        writes: u64,
        killed: bool,
        (goes, comes): (Option<usize>, Option<Stranger>),
        policy: Policy,
    ) {
        let is_meddled_with = goes.is_some() || comes.is_some();
        let before = self.whole();
        let mut config = self.config(second);
        config.recovery.policy = policy;
        let db = match Database::new_with_persistence(config) {
            Ok(db) => db,
            Err(e) => {
                assert!(self.meddled, "{e}");
                let after = self.whole();
                assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&Whole>::new());
                return;
            }
        };
        let state = |db: &Database| (db.lsn(), db.view().unwrap().digest().unwrap());
        let report = db.recovery_report().unwrap();
        let found = (report.last_lsn, state(&db).1);
        if report.created {
            assert!(self.meddled || self.newest.is_none(), "{report}");
        } else {
            let allowed = if policy == Policy::Salvage { &self.states } else { &self.ends };
            let is_empty = policy == Policy::Salvage && report.entities == 0;
            assert!(is_empty || allowed.contains(&found), "{found:?} never was: {report}");
            let is_newest = self.newest == Some(found) || self.maybe.contains(&found);
            assert!(self.meddled || is_newest, "{found:?} is not {:?}", self.newest);
        }
        // After a salvage it is the last number that was ever seen that stands for what is left.
        self.states.extend([found, state(&db)]);
        let mut last = found;
        self.maybe.clear();
        for i in 0..writes {
            if let Some(place) = goes.filter(|_| i == writes / 2) {
                self.goes(PLACES[place]);
            }
            if let Some(stranger) = comes.filter(|_| i == writes / 2) {
                self.comes_meanwhile(stranger);
            }
            // No two sessions write the same.
            let large = Name("x".repeat(40_000));
            let written = db.write(|tx| Ok(tx.spawn((Counter(fastrand::u64(..)), large))));
            self.states.insert(state(&db));
            if written.is_ok() {
                last = state(&db);
            } else {
                self.ends.insert(state(&db));
                self.maybe.insert(state(&db));
            }
            assert!(is_meddled_with || written.is_ok(), "{written:?}");
            if i % 2 == 1 {
                let taken = db.snapshot().unwrap().wait();
                let is_away = matches!(taken, Err(ecsdb::Error::Store(StoreError::SnapshotsAway(_))));
                assert!(is_meddled_with || self.meddled && is_away || taken.is_ok(), "{taken:?}");
            }
        }
        if let Some(place) = goes {
            self.comes_back(PLACES[place]);
        }
        self.newest = Some(last);
        self.ends.insert(last);
        if killed {
            let (all, copy) = (self.dir.path().join("all"), self.dir.path().join("killed"));
            copy_dir(&all, &copy);
            self.end(db, is_meddled_with);
            std::fs::remove_dir_all(&all).unwrap();
            std::fs::rename(copy, all).unwrap();
        } else {
            self.end(db, is_meddled_with);
        }
        let after = self.whole();
        assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&Whole>::new());
    }

    fn end(&self, db: Database, is_meddled_with: bool) {
        let closed = db.close();
        // A log that has failed cannot be closed as it should.
        assert!(is_meddled_with || closed.is_ok(), "{closed:?}");
    }

    /// Every moment that can be gone back to is one that was.
    fn judge_the_past(&self) {
        let lsns: BTreeSet<Lsn> = self.states.iter().map(|(lsn, _)| *lsn).collect();
        for lsn in lsns {
            let copy = tempfile::tempdir().unwrap();
            let to = copy.path().join("copy");
            if ecsdb::restore_copy(&self.config([false; 3]), &to, Moment::Lsn(lsn), |_| {}).is_ok() {
                let world = Database::open_read_only(&to).unwrap().view().unwrap().digest().unwrap();
                assert!(
                    self.states.contains(&(lsn, world)) || lsn == Lsn::ZERO,
                    "LSN {lsn} never was {world}"
                );
            }
        }
    }

    fn whole(&self) -> BTreeSet<Whole> {
        let mut whole = BTreeSet::new();
        self.look(&self.dir.path().join("all"), &mut whole);
        whole
    }

    fn look(&self, dir: &Path, whole: &mut BTreeSet<Whole>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.look(&path, whole);
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let sum = crc32c::crc32c(&std::fs::read(&path).unwrap());
            if self.strangers.contains(&sum) {
                whole.insert(Whole::Stranger(sum));
            } else if name.contains(".snap") {
                if let Ok(snapshot) = Snapshot::open(&Disk, &path) {
                    let Header { database, sequence, lsn, created_unix_ns, .. } = *snapshot.header();
                    whole.insert(Whole::Snapshot(database, sequence, lsn, created_unix_ns));
                }
            } else if name.contains(".seg")
                && let Ok(segment) = LogScan::file(&Disk, &path)
            {
                let header = segment.header;
                let lsns = header.first_lsn.0..=segment.end.last_lsn.0;
                let of = |lsn| Whole::Transaction(header.database, header.incarnation, header.salt, lsn);
                whole.extend(lsns.map(of));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(40), max_shrink_time: 120_000, ..ProptestConfig::default() })]

    #[test]
    fn no_world_opens_that_never_was_and_nothing_whole_is_gone(steps in prop::collection::vec(step(), 1..14)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.judge_the_past();
    }
}

/// What is behind the log's end is another database's: an opening that replaces the empty segment before it goes on behind it, since the segment that is made
/// ready next would take its place.
#[test]
fn what_is_behind_an_empty_segment_stays() {
    for (kind, number, of_another) in [(1, 2, true), (1, 3, true), (1, 3, false), (3, 4, true), (0, 1, true)]
    {
        let place = [3, 1, 1, 0][kind];
        let mut run = Run::new();
        let session = Step::Session { second: [false; 3], writes: 0, killed: false, goes: None, comes: None };
        let stranger = Step::Stranger(Stranger { place, kind, number, of_another });
        let writes = Step::Session { second: [false; 3], writes: 4, killed: false, goes: None, comes: None };
        for step in [&session, &stranger, &session, &writes, &session] {
            run.step(step);
        }
    }
}
