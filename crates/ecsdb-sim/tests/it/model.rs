//! A naive model: whole contents as vectors, every version of a file and of a name since its last sync. Whatever
//! a crash leaves must be made of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ecsdb_io::{Vfs, VfsFile};
use ecsdb_sim::{CrashPattern, CrashVariant, NameOrder, SimDisk};
use proptest::prelude::*;

use crate::open;

const NAMES: [&str; 4] = ["/a", "/b", "/d/a", "/d/b"];

#[derive(Debug, Clone)]
enum Step {
    Create(usize),
    Write(usize, u64, usize),
    SetLen(usize, u64),
    Sync(usize),
    SyncDir(&'static str),
    /// Within one directory.
    Rename(usize),
    Remove(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        2 => name.clone().prop_map(Step::Create),
        4 => (name.clone(), 0..6000u64, 1..3000usize).prop_map(|(n, at, len)| Step::Write(n, at, len)),
        1 => (name.clone(), 0..9000u64).prop_map(|(n, len)| Step::SetLen(n, len)),
        1 => name.clone().prop_map(Step::Sync),
        1 => prop_oneof![Just("/"), Just("/d")].prop_map(Step::SyncDir),
        2 => name.clone().prop_map(Step::Rename),
        1 => name.prop_map(Step::Remove),
    ]
}

/// The last one is the live one, the first the durable one.
type Versions<T> = Vec<T>;

#[derive(Default)]
struct Model {
    names: BTreeMap<&'static str, Versions<Option<usize>>>,
    files: Vec<Versions<Vec<u8>>>,
    handles: Vec<Arc<dyn VfsFile>>,
}

impl Model {
    fn live(&self, name: &str) -> Option<usize> {
        self.names.get(name).and_then(|versions| *versions.last().unwrap())
    }

    fn set_name(&mut self, name: &'static str, file: Option<usize>) {
        self.names.entry(name).or_insert_with(|| vec![None]).push(file);
    }

    fn change(&mut self, file: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.files[file].last().unwrap().clone();
        change(&mut bytes);
        self.files[file].push(bytes);
    }

    fn apply(&mut self, disk: &SimDisk, step: &Step, fill: u8) {
        match *step {
            Step::Create(n) => {
                let created = disk.create(Path::new(NAMES[n]));
                assert_eq!(created.is_ok(), self.live(NAMES[n]).is_none());
                if let Ok(handle) = created {
                    self.handles.push(handle);
                    self.files.push(vec![Vec::new()]);
                    self.set_name(NAMES[n], Some(self.files.len() - 1));
                }
            }
            Step::Write(n, at, len) => {
                if let Some(file) = self.live(NAMES[n]) {
                    self.handles[file].write_at(&vec![fill; len], at).unwrap();
                    self.change(file, |bytes| {
                        let end = at as usize + len;
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[at as usize..end].fill(fill);
                    });
                }
            }
            Step::SetLen(n, len) => {
                if let Some(file) = self.live(NAMES[n]) {
                    self.handles[file].set_len(len).unwrap();
                    self.change(file, |bytes| bytes.resize(len as usize, 0));
                }
            }
            Step::Sync(n) => {
                if let Some(file) = self.live(NAMES[n]) {
                    self.handles[file].sync_data().unwrap();
                    let live = self.files[file].pop().unwrap();
                    self.files[file] = vec![live];
                }
            }
            Step::SyncDir(dir) => {
                disk.sync_dir(Path::new(dir)).unwrap();
                for (name, versions) in &mut self.names {
                    if Path::new(name).parent() == Some(Path::new(dir)) {
                        versions.drain(..versions.len() - 1);
                    }
                }
            }
            Step::Rename(n) => {
                let (from, to) = (NAMES[n], NAMES[n ^ 1]);
                let renamed = disk.rename(Path::new(from), Path::new(to));
                assert_eq!(renamed.is_ok(), self.live(from).is_some());
                if renamed.is_ok() {
                    self.set_name(to, self.live(from));
                    self.set_name(from, None);
                }
            }
            Step::Remove(n) => {
                let removed = disk.remove(Path::new(NAMES[n]));
                assert_eq!(removed.is_ok(), self.live(NAMES[n]).is_some());
                if removed.is_ok() {
                    self.set_name(NAMES[n], None);
                }
            }
        }
    }

    /// The files as `pick` takes them from the versions of names and contents.
    fn files(&self, newest: bool) -> BTreeMap<&str, &Vec<u8>> {
        let named = |(name, versions): (&&'static str, &Versions<Option<usize>>)| {
            let file = (*if newest { versions.last() } else { versions.first() }.unwrap())?;
            let versions = &self.files[file];
            Some((*name, if newest { versions.last() } else { versions.first() }.unwrap()))
        };
        self.names.iter().filter_map(named).collect()
    }

    fn check_crash(&self, crashed: &SimDisk, variant: CrashVariant) {
        let found: BTreeMap<String, Vec<u8>> = crashed
            .files()
            .into_iter()
            .map(|(path, _)| (path.display().to_string(), crashed.read(&path).unwrap()))
            .collect();
        let expect = |newest| {
            let owned = |(name, bytes): (&str, &Vec<u8>)| (name.to_string(), bytes.clone());
            self.files(newest).into_iter().map(owned).collect::<BTreeMap<_, _>>()
        };
        match variant.pattern {
            CrashPattern::Lost => assert!(found == expect(false), "everything un-synced is lost"),
            CrashPattern::Kept => assert!(found == expect(true), "everything is kept"),
            _ => {}
        }
        for name in NAMES {
            let none = vec![None];
            let versions = self.names.get(name).unwrap_or(&none);
            match found.get(name) {
                None => assert!(versions.contains(&None), "{name} has vanished"),
                Some(bytes) => assert!(
                    versions.iter().flatten().any(|file| is_made_of(bytes, &self.files[*file], variant)),
                    "{name} holds what was never in it"
                ),
            }
        }
    }
}

/// Each sector of `bytes` is that of some version, possibly cut and lengthened with zeros again.
fn is_made_of(bytes: &[u8], versions: &[Vec<u8>], variant: CrashVariant) -> bool {
    let shortest = versions.iter().map(Vec::len).min().unwrap();
    let longest = versions.iter().map(Vec::len).max().unwrap();
    let may_be_garbage =
        matches!(variant.pattern, CrashPattern::Random(_) | CrashPattern::Lengths { garbage: true });
    let sectors = bytes.chunks(512).enumerate().all(|(sector, found)| {
        let start = sector * 512;
        (may_be_garbage && start + found.len() > shortest)
            || versions.iter().any(|version| {
                let end = version.len().min(start + found.len());
                let there = version.get(start..end).unwrap_or(&[]);
                let same = there.iter().zip(found).take_while(|(a, b)| a == b).count();
                found[same..].iter().all(|byte| *byte == 0)
            })
    });
    sectors && bytes.len() <= longest && bytes.len() >= shortest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 64 } else { 1024 }))]

    #[test]
    fn live_reads_and_crashes_agree_with_a_naive_model(
        steps in proptest::collection::vec(step(), 1..24), seed: u64, any_order: bool,
    ) {
        let disk = SimDisk::new(seed);
        disk.put_dir("/d").unwrap();
        let mut model = Model::default();
        for (at, step) in steps.iter().enumerate() {
            model.apply(&disk, step, at as u8 + 1);
            let live = model.files(true);
            prop_assert_eq!(disk.files().len(), live.len());
            for (name, bytes) in live {
                prop_assert!(disk.read(name).unwrap() == *bytes);
                prop_assert_eq!(open(&disk, name).len().unwrap(), bytes.len() as u64);
            }
        }
        let order = if any_order { NameOrder::Any } else { NameOrder::Journal };
        for variant in disk.crash_variants(12, seed, order) {
            model.check_crash(&disk.crash(variant), variant);
        }
    }
}
