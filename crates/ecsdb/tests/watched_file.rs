//! What a watched configuration file that is wrong leaves in the log of the program.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test, which edits a configuration")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ecsdb::prelude::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_mistake_is_a_warning_with_file_and_line() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ecsdb.toml");
    std::fs::write(&file, "[snapshot]\nchain_max = 2\n").unwrap();
    let config = PersistenceConfig::from_file(&file).unwrap();
    let db = Database::new_with_persistence(config).unwrap();
    let _watch = db.watch_config(&file, |_| {}).unwrap();
    std::fs::write(&file, "[snapshot]\nchain_max = 0\n").unwrap();
    let place = format!("{}:2:13: snapshot.chain_max is 0", file.display());
    let began = Instant::now();
    loop {
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        if let Some(line) = log.lines().find(|line| line.contains(&place)) {
            assert!(line.contains("WARN"), "{line}");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(db.config().unwrap().snapshot.chain_max, 2);
}
