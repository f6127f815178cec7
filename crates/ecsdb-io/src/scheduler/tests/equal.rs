//! Whatever is done to a file through the scheduler gives what it gives without.

use proptest::prelude::*;

use super::*;
use crate::disk::Disk;
use crate::error::IoError;
use crate::vfs::OpenMode;

#[derive(Debug, Clone)]
enum Step {
    Write {
        offset: u64,
        len: usize,
    },
    /// Right behind the last one, to be merged.
    Append {
        len: usize,
    },
    Read {
        offset: u64,
        len: usize,
    },
    Len,
    SetLen(u64),
    Sync,
    Reopen,
    Rename,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5_000u64, 0..700usize).prop_map(|(offset, len)| Step::Write { offset, len }),
        6 => (1..300usize).prop_map(|len| Step::Append { len }),
        3 => (0..6_000u64, 0..3_000usize).prop_map(|(offset, len)| Step::Read { offset, len }),
        1 => Just(Step::Len),
        1 => (0..6_000u64).prop_map(Step::SetLen),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rename),
    ]
}

/// Does the steps, and tells everything that can be seen of them.
fn perform(vfs: &dyn Vfs, dir: &Path, steps: &[Step]) -> Result<Vec<Vec<u8>>, IoError> {
    let mut seen = Vec::new();
    let mut name = dir.join("0");
    let mut file = vfs.create(&name)?;
    let mut end = 0;
    for (i, step) in steps.iter().enumerate() {
        let mut write = |offset: Option<u64>, len: usize| {
            let offset = offset.unwrap_or(end);
            end = offset + len as u64;
            let bytes: Vec<u8> = (0..len).map(|j| (i * 31 + j) as u8).collect();
            let (left, right) = bytes.split_at(len / 3);
            file.write_all_at(&mut [std::io::IoSlice::new(left), std::io::IoSlice::new(right)], offset)
        };
        match *step {
            Step::Write { offset, len } => write(Some(offset), len)?,
            Step::Append { len } => write(None, len)?,
            Step::Read { offset, len } => {
                let mut bytes = vec![0; len];
                let n = file.read_at(&mut bytes, offset)?;
                seen.push(bytes[..n].to_vec());
            }
            Step::Len => seen.push(file.len()?.to_le_bytes().to_vec()),
            Step::SetLen(len) => file.set_len(len)?,
            Step::Sync => file.sync_data()?,
            Step::Reopen => {
                seen.push(format!("{:?}", vfs.file_len(&name)?).into());
                file = vfs.open(&name, OpenMode::ReadWrite)?;
            }
            Step::Rename => {
                let to = dir.join((i + 1).to_string());
                vfs.rename(&name, &to)?;
                name = to;
            }
        }
    }
    drop(file);
    let file = vfs.open(&name, OpenMode::Read)?;
    let mut content = vec![0; file.len()? as usize];
    file.read_exact_at(&mut content, 0)?;
    seen.push(content);
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_steps_give_the_same_through_the_scheduler_as_directly(
        steps in prop::collection::vec(step(), 1..120),
        queue_bytes_max in 1..4_000u64,
        merge_bytes_max in 0..2_000usize,
    ) {
        let (direct, scheduled) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = SchedulerOptions { queue_bytes_max, merge_bytes_max, ..SchedulerOptions::default() };
        let scheduler = Scheduler::start(options).unwrap();
        let vfs = scheduler.vfs(Arc::new(Disk), Priority::Snapshot);
        let expected = perform(&Disk, direct.path(), &steps).unwrap();
        let seen = perform(&*vfs, scheduled.path(), &steps).unwrap();
        prop_assert_eq!(seen, expected);
    }
}
