//! Where settings come from, which wins, and what a wrong one is told.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::time::Duration;

use ecsdb_config::{ByteSize, PersistenceConfig};
use figment::Jail;

#[test]
#[expect(clippy::result_large_err, reason = "the signature is figment's")]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "ecsdb.toml",
            "dir = \"world\"\n[log]\nflush_interval = \"5ms\"\nsegment_bytes_max = \"32 MiB\"\n\
             [snapshot]\ncompression_level = 3\n",
        )?;
        jail.set_env("ECDB_SNAPSHOT_DIR", "/elsewhere");
        jail.set_env("ECDB_LOG_FLUSH_INTERVAL", "7ms");
        let config = PersistenceConfig::from_file(Path::new("ecsdb.toml")).unwrap();
        let default = PersistenceConfig::new("world");
        assert_eq!(config.dir, Path::new("world"));
        assert_eq!(config.log.flush_interval, Duration::from_millis(7));
        assert_eq!(config.log.segment_bytes_max, ByteSize(32 << 20));
        assert_eq!(config.log.queue_bytes_max, default.log.queue_bytes_max);
        assert_eq!(config.snapshot.compression_level, 3);
        assert_eq!(config.layout().unwrap().snapshot_dir(), Path::new("/elsewhere"));
        assert_eq!(config.layout().unwrap().log_dir(), std::path::absolute("world/log").unwrap());
        Ok(())
    });
}

#[test]
#[expect(clippy::result_large_err, reason = "the signature is figment's")]
fn what_cannot_be_is_refused_with_the_name_of_the_setting() {
    Jail::expect_with(|jail| {
        let error = |text: &str| {
            jail.create_file("c.toml", text).unwrap();
            PersistenceConfig::from_file(Path::new("c.toml")).unwrap_err().to_string()
        };
        let unknown = error("dir = \"w\"\n[log]\nsegment_size = 4\n");
        assert!(unknown.contains("segment_size") && unknown.contains("c.toml"), "{unknown}");
        let wrong = error("dir = \"w\"\n[log]\nflush_interval = \"soon\"\n");
        assert!(wrong.contains("log.flush_interval"), "{wrong}");
        let small = error("dir = \"w\"\n[log]\nsegment_bytes_first = \"1 KiB\"\n");
        assert!(small.contains("log.segment_bytes_first") && small.contains("64 KiB"), "{small}");
        let nothing_kept = error("[archive]\nenabled = true\n");
        assert!(
            nothing_kept.contains("archive.enabled") && nothing_kept.contains("age_max"),
            "{nothing_kept}"
        );
        jail.create_file("own.toml", "[log]\n").unwrap();
        assert_eq!(PersistenceConfig::from_file("own.toml").unwrap().dir, Path::new("."));
        let absent = PersistenceConfig::from_file(Path::new("absent.toml")).unwrap_err().to_string();
        assert!(absent.contains("absent.toml"), "{absent}");
        jail.set_env("ECDB_SNAPSHOT_COMPRESSION_LEVEL", "99");
        let level = PersistenceConfig::from_env("w").unwrap_err().to_string();
        assert!(level.contains("snapshot.compression_level") && level.contains("99"), "{level}");
        Ok(())
    });
}

/// The table in the documentation and the settings there are.
#[test]
fn every_setting_is_documented() {
    let table = include_str!("../../../docs/configuration.md");
    let config = figment::value::Value::serialize(PersistenceConfig::new("w")).unwrap();
    let mut settings = Vec::new();
    for (name, value) in config.into_dict().unwrap() {
        match value.into_dict() {
            Some(section) => settings.extend(section.keys().map(|key| format!("{name}.{key}"))),
            None => settings.push(name),
        }
    }
    assert!(settings.len() > 10, "{settings:?}");
    for setting in &settings {
        assert!(table.contains(&format!("| `{setting}` |")), "{setting} is not in docs/configuration.md");
    }
    let documented = table.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(documented, settings.len(), "the table has settings that are not there");
}
