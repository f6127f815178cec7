use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::disk::Disk;
use crate::scheduler::tests::fake::Fake;
use crate::vfs::Vfs;

/// Both forms of a new file, in a directory of their own.
async fn forms(dir: &Path) -> [AsyncFile; 2] {
    let over = AsyncFile::of(Disk.create(&dir.join("vfs")).unwrap());
    [AsyncFile::create(dir.join("tokio")).await.unwrap(), over]
}

/// Polls `future` `count` times at most, and drops it.
async fn abandon(future: impl Future, count: usize) {
    let mut future = pin!(future);
    for _ in 0..count {
        let ready = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await;
        if ready {
            break;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test]
async fn both_forms_read_write_and_change_their_length_alike() {
    let dir = tempfile::tempdir().unwrap();
    for file in forms(dir.path()).await {
        assert!(file.is_empty().await.unwrap());
        file.write_all_at(b"world", 6).await.unwrap();
        file.write_all_at(b"hello ", 0).await.unwrap();
        file.write_all_at(b"", 100).await.unwrap();
        assert_eq!(file.len().await.unwrap(), 11);
        let mut bytes = [0; 20];
        assert_eq!(file.read_at(&mut bytes, 6).await.unwrap(), 5);
        assert_eq!(&bytes[..5], b"world");
        assert_eq!(file.read_at(&mut bytes, 11).await.unwrap(), 0);
        assert_eq!(file.read_at(&mut bytes, 1_000).await.unwrap(), 0);
        file.read_exact_at(&mut bytes[..11], 0).await.unwrap();
        assert_eq!(&bytes[..11], b"hello world");

        let error = file.read_exact_at(&mut bytes, 5).await.unwrap_err();
        assert_eq!(error.cause.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("ends at byte 11, 14 bytes short"), "{error}");
        assert_eq!(error.path, file.path());

        file.set_len(5).await.unwrap();
        file.set_len(7).await.unwrap();
        file.sync_data().await.unwrap();
        assert_eq!(file.len().await.unwrap(), 7);
        file.read_exact_at(&mut bytes[..7], 0).await.unwrap();
        assert_eq!(&bytes[..7], b"hello\0\0");
    }
}

#[tokio::test]
async fn both_forms_carry_more_than_one_operation_takes() {
    let dir = tempfile::tempdir().unwrap();
    for file in forms(dir.path()).await {
        let bytes: Vec<u8> = (0..5 << 20).map(|i: u32| (i / 7) as u8).collect();
        file.write_all_at(&bytes, 3).await.unwrap();
        file.sync_data().await.unwrap();
        let mut back = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut back, 3).await.unwrap(), READ_BYTES_MAX);
        file.read_exact_at(&mut back, 3).await.unwrap();
        assert!(back == bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_forms_are_shared_by_tasks_that_work_at_different_offsets() {
    let dir = tempfile::tempdir().unwrap();
    for file in forms(dir.path()).await {
        let file = Arc::new(file);
        let tasks = (0..8u8).map(|task| {
            let file = file.clone();
            tokio::spawn(async move {
                for i in 0..50 {
                    let offset = (i * 8 + u64::from(task)) * 10;
                    file.write_all_at(&[task + 1; 10], offset).await.unwrap();
                    let mut back = [0; 10];
                    file.read_exact_at(&mut back, offset).await.unwrap();
                    assert_eq!(back, [task + 1; 10]);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(file.len().await.unwrap(), 8 * 50 * 10);
    }
}

#[tokio::test]
async fn both_forms_let_no_dropped_operation_overtake_a_later_one() {
    // WAL-13
    let dir = tempfile::tempdir().unwrap();
    for file in forms(dir.path()).await {
        for polls in 0..30 {
            abandon(file.write_all_at(&[1; 100], 0), polls % 7).await;
            abandon(file.set_len(50), polls % 5).await;
            abandon(file.read_at(&mut [0; 100], 10), polls % 3).await;
            abandon(file.sync_data(), polls % 4).await;
            file.write_all_at(&[2; 200], 0).await.unwrap();
            let mut back = [0; 200];
            file.read_exact_at(&mut back, 0).await.unwrap();
            assert_eq!(back, [2; 200]);
            assert_eq!(file.len().await.unwrap(), 200);
        }
    }
}

#[tokio::test]
async fn errors_name_operation_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let error = AsyncFile::open(&path, OpenMode::Read).await.unwrap_err();
    assert!(error.is_not_found() && error.op == FileOp::Open && error.path == path, "{error}");
    AsyncFile::create(&path).await.unwrap().write_all_at(b"x", 0).await.unwrap();
    let error = AsyncFile::create(&path).await.unwrap_err();
    assert_eq!((error.op, error.cause.kind()), (FileOp::Create, io::ErrorKind::AlreadyExists));

    let over = AsyncFile::of(Disk.open(&path, OpenMode::Read).unwrap());
    for file in [AsyncFile::open(&path, OpenMode::Read).await.unwrap(), over] {
        let error = file.write_all_at(b"y", 0).await.unwrap_err();
        assert_eq!((error.op, error.path.as_path()), (FileOp::Write, path.as_path()));
        assert_eq!(file.set_len(0).await.unwrap_err().op, FileOp::SetLen);
        assert_eq!(file.len().await.unwrap(), 1);
    }
}

#[test]
fn outside_a_runtime_everything_is_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let [tokio, over] = runtime.block_on(forms(dir.path()));
    fn ready<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match pin!(future).poll(&mut context) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("it waits"),
        }
    }
    assert!(ready(AsyncFile::create(&path)).is_err());
    for file in [&tokio, &over] {
        assert!(ready(file.len()).is_err());
        assert!(ready(file.read_at(&mut [0], 0)).is_err());
        assert!(ready(file.write_all_at(b"x", 0)).is_err());
        assert!(ready(file.set_len(1)).is_err());
        assert!(ready(file.sync_data()).is_err());
    }
}

#[tokio::test]
async fn the_error_of_a_dropped_write_is_returned_by_the_next_change_once() {
    // WAL-13
    let disk = Fake::default();
    let file = AsyncFile::of(disk.create(Path::new("f")).unwrap());
    disk.hold("f");
    disk.fail("f", FileOp::Write, 1);
    {
        let mut write = pin!(file.write_all_at(b"lost", 0));
        let pending = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
        disk.await_held("f", 1);
    }
    disk.release("f");
    let error = file.sync_data().await.unwrap_err();
    assert!(error.is_full_disk() && error.op == FileOp::Write, "{error}");
    assert_eq!(disk.log(), ["write f 0+4"]);
    file.sync_data().await.unwrap();
}

/// The device that is always full.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_form_over_tokio_returns_a_write_error_from_the_call_that_made_it() {
    let file = AsyncFile::open("/dev/full", OpenMode::ReadWrite).await.unwrap();
    for _ in 0..3 {
        let error = file.write_all_at(b"x", 0).await.unwrap_err();
        assert!(error.is_full_disk() && error.op == FileOp::Write, "{error}");
    }
    // When a write was under way as its future was dropped, the next sync tells of it. (A sync of this device is an
    // error anyway, but another one.) How many polls it takes is up to the threads.
    for attempt in 0.. {
        abandon(file.write_all_at(b"x", 0), attempt % 8).await;
        if file.sync_data().await.unwrap_err().is_full_disk() {
            break;
        }
        assert!(attempt < 10_000, "no dropped write was ever told of");
    }
}
