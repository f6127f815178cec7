//! A real process killed by SIGKILL at random moments, again and again on the same directory: every acknowledged
//! transaction is there, and every transaction is whole.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ecsdb::prelude::*;

use crate::components::{Counter, Name, Progress};

const DIR: &str = "ECSDB_TEST_KILL_DIR";
const ENTITIES: usize = 8;

/// The child: transaction n adds n to each of eight counters and to the progress. It prints n once n is durable.
#[test]
#[ignore = "run by the test below, as the process that is killed"]
fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let db = Database::builder(dir)
        .config(|config| config.wal.segment_bytes_max = ecsdb::ByteSize(1 << 20))
        .open()
        .unwrap();
    if db.view().unwrap().resource::<Progress>().is_err() {
        db.write(|tx| {
            tx.insert_resource(Progress(0));
            tx.spawn_batch((0..ENTITIES).map(|i| (Counter(0), Name(format!("counter {i}")))));
            Ok(())
        })
        .unwrap();
    }
    let mut out = std::io::stdout().lock();
    let mut flight = std::collections::VecDeque::new();
    for round in 0u64.. {
        let ticket = db
            .submit(|tx| {
                let progress = tx.resource_mut::<Progress>()?;
                progress.0 += 1;
                let n = progress.0;
                if n % 3 == 0 {
                    tx.query::<&mut Counter>().for_each(|counter| counter.0 += n);
                } else {
                    let ids: Vec<Entity> = tx.query::<(Entity, With<Counter>)>().map(|(id, ())| id).collect();
                    for id in ids {
                        tx.get_mut::<Counter>(id)?.0 += n;
                    }
                }
                Ok(n)
            })
            .unwrap();
        flight.push_back(ticket);
        if flight.len() > 20 {
            let n = flight.pop_front().unwrap().wait().unwrap();
            writeln!(out, "{n}").unwrap();
            out.flush().unwrap();
        }
        if round % 5_000 == 4_999 {
            drop(db.snapshot().unwrap());
        }
    }
}

#[test]
fn acknowledged_transactions_survive_sigkill_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let mut acknowledged = 0;
    for kill in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sigkill::child", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            // The test harness prints lines of its own, and the kill may cut the last one short: only whole lines
            // count.
            let mut last = 0;
            let mut lines = lines;
            let mut line = String::new();
            while lines.read_line(&mut line).unwrap_or(0) > 0 {
                if line.ends_with('\n')
                    && let Ok(n) = line.trim().parse::<u64>()
                {
                    last = n;
                }
                line.clear();
            }
            last
        });
        std::thread::sleep(Duration::from_millis(150 + random.u64(0..500)));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = acknowledged.max(reader.join().unwrap());
        check(dir.path(), acknowledged, kill);
    }
    assert!(acknowledged > 100, "the child hardly ran: {acknowledged}");
}

fn check(dir: &Path, acknowledged: u64, kill: usize) {
    let db = Database::open(dir).unwrap();
    let view = db.view().unwrap();
    let progress = view.resource::<Progress>().map_or(0, |progress| progress.0);
    assert!(progress >= acknowledged, "kill {kill}: {acknowledged} acknowledged, {progress} there");
    let sum = progress * (progress + 1) / 2;
    for (entity, counter) in view.query::<(Entity, &Counter)>().unwrap() {
        assert_eq!(counter.0, sum, "kill {kill}: transaction half there at {entity}");
    }
    // A kill may come between two pages of one write, which is torn then and was never acknowledged.
    assert!(db.recovery_report().unwrap().data_loss <= ecsdb::DataLoss::Unacknowledged);
}
