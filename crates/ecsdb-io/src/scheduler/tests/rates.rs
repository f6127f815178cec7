//! Rate limits, on Tokio's virtual time: it stands still while anything happens.

use std::time::Duration;

use tokio::time::sleep;

use super::super::executor::execute;
use super::*;
use crate::{OpenMode, Urgency};

/// A scheduler whose executor runs on the test's own runtime.
struct OnVirtualTime(Scheduler, Fake);

impl OnVirtualTime {
    fn start() -> Self {
        OnVirtualTime::of(Urgency::of_caller())
    }

    fn of(urgency: Urgency) -> Self {
        let options = SchedulerOptions { urgency: urgency.clone(), ..SchedulerOptions::default() };
        let scheduler = Scheduler::with(&options);
        tokio::spawn(execute(scheduler.owner.shared.clone(), urgency, on_tokio));
        OnVirtualTime(scheduler, Fake::default())
    }
}

impl Drop for OnVirtualTime {
    fn drop(&mut self) {
        // Waiting for the executor would block the one thread it has.
        self.0.shared().stop();
    }
}

/// On a thread of its own, which has to come to its end.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    done.recv_timeout(Duration::from_secs(60)).expect("it waits for a limit that is not its own")
}

fn written(scheduler: &Scheduler, priority: Priority) -> u64 {
    scheduler.stats()[priority].bytes_written
}

/// Whoever listed a directory waited for what a lower priority writes there, as long as its limit took.
#[test]
fn no_limit_holds_back_who_lists_a_directory_at_a_higher_priority() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    scheduler.set_rate_limit(Priority::Snapshot, Some(0));
    let file = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot).create(Path::new("dir/f")).unwrap();
    file.write_at(b"x", 0).unwrap();
    let vfs = scheduler.vfs(Arc::new(disk), Priority::Recovery);
    assert_eq!(ends(move || vfs.read_dir(Path::new("dir")).unwrap()[0].len), 0);
    assert_eq!(scheduler.stats()[Priority::Snapshot].queued_requests, 1);
}

/// Whoever opened a file waited for those who read it, as long as their limit took.
#[test]
fn no_limit_on_reading_a_file_holds_back_who_opens_it() {
    let (scheduler, disk) = start(SchedulerOptions::default());
    let file = scheduler.vfs(Arc::new(disk.clone()), Priority::Snapshot).create(Path::new("dir/f")).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    scheduler.set_rate_limit(Priority::Snapshot, Some(0));
    let reading = std::thread::spawn(move || file.read_at(&mut [0], 0).unwrap());
    while scheduler.stats()[Priority::Snapshot].queued_requests == 0 {
        std::thread::yield_now();
    }
    let vfs = scheduler.vfs(Arc::new(disk), Priority::Recovery);
    let len = move || vfs.open(Path::new("dir/f"), OpenMode::Read).unwrap().len().unwrap();
    assert_eq!(ends(len), 1);
    scheduler.set_rate_limit(Priority::Snapshot, None);
    assert_eq!(reading.join().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limited_priority_keeps_its_rate_and_the_others_go_on() {
    let virtually = OnVirtualTime::start();
    let OnVirtualTime(scheduler, disk) = &virtually;
    scheduler.set_rate_limit(Priority::Archive, Some(1_000));
    let archive = create(scheduler, disk, Priority::Archive, "archive");
    let log = create(scheduler, disk, Priority::Log, "log");
    for i in 0..100 {
        // Adjacent: merged up to a burst of 100 bytes.
        archive.write_at(&[1; 50], i * 50).unwrap();
    }
    for second in 1..=4 {
        sleep(Duration::from_secs(1)).await;
        let written = written(scheduler, Priority::Archive);
        let allowed = second * 1_000;
        assert!((allowed - 100..=allowed + 200).contains(&written), "{written} after {second} s");
        log.write_at(&[2; 10_000], second * 10_000).unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(self::written(scheduler, Priority::Log), second * 10_000);
    }
    sleep(Duration::from_secs(2)).await;
    assert_eq!(written(scheduler, Priority::Archive), 5_000);
    assert_eq!(scheduler.stats()[Priority::Archive].writes_executed, 50);
}

#[tokio::test(start_paused = true)]
async fn a_limit_can_be_changed_and_lifted_while_requests_wait_for_it() {
    let virtually = OnVirtualTime::start();
    let OnVirtualTime(scheduler, disk) = &virtually;
    scheduler.set_rate_limit(Priority::Archive, Some(0));
    let file = create(scheduler, disk, Priority::Archive, "f");
    for i in 0..1_000 {
        file.write_at(&[1; 50], i * 51).unwrap();
    }
    sleep(Duration::from_secs(3_600)).await;
    assert_eq!(written(scheduler, Priority::Archive), 0);
    scheduler.set_rate_limit(Priority::Archive, Some(1_000));
    sleep(Duration::from_secs(10)).await;
    let slow = written(scheduler, Priority::Archive);
    assert!((9_800..=10_200).contains(&slow), "{slow}");
    scheduler.set_rate_limit(Priority::Archive, Some(4_000));
    sleep(Duration::from_secs(5)).await;
    let faster = written(scheduler, Priority::Archive) - slow;
    assert!((19_500..=20_500).contains(&faster), "{faster}");
    scheduler.set_rate_limit(Priority::Archive, None);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(written(scheduler, Priority::Archive), 50_000);
}

/// CKP-9: what belongs to work that was given up is worth nothing, and keeps that work from its end.
#[tokio::test(start_paused = true)]
async fn no_limit_holds_back_what_was_given_up_and_it_is_no_debt() {
    let urgency = Urgency::of_caller();
    let virtually = OnVirtualTime::of(urgency.clone());
    let OnVirtualTime(scheduler, disk) = &virtually;
    scheduler.set_rate_limit(Priority::Snapshot, Some(1_000));
    let file = create(scheduler, disk, Priority::Snapshot, "f");
    for i in 0..1_000 {
        file.write_at(&[1; 50], i * 51).unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    let slow = written(scheduler, Priority::Snapshot);
    assert!((4_900..=5_200).contains(&slow), "{slow}");
    let given_up = urgency.give_up();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(written(scheduler, Priority::Snapshot), 50_000);
    drop(given_up);
    for i in 0..1_000 {
        file.write_at(&[1; 50], i * 51).unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    let slow = written(scheduler, Priority::Snapshot) - 50_000;
    assert!((4_800..=5_200).contains(&slow), "{slow}");
}
