//! Where settings come from, which wins, and what a wrong one is told.

#![allow(
    clippy::disallowed_methods,
    clippy::result_large_err,
    clippy::unwrap_used,
    reason = "a test, and figment's signatures"
)]

use std::path::Path;
use std::time::Duration;

use ecsdb_config::{ByteSize, Error, Origin, PersistenceConfig};
use figment::Jail;

/// Runs a test in a directory and an environment of its own.
fn jailed(test: impl FnOnce(&mut Jail)) {
    Jail::expect_with(|jail| {
        jail.clear_env();
        test(jail);
        Ok(())
    });
}

fn from(jail: &mut Jail, text: &str) -> Result<PersistenceConfig, Error> {
    jail.create_file("c.toml", text).unwrap();
    PersistenceConfig::from_file("c.toml")
}

/// What a file is told, and the origins and keys of the problems.
fn told(jail: &mut Jail, text: &str) -> String {
    from(jail, text).unwrap_err().to_string()
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    jailed(|jail| {
        jail.set_env("ECDB_SNAPSHOT_DIR", "/elsewhere");
        jail.set_env("ECDB_WAL_FLUSH_INTERVAL", "7ms");
        let config = from(
            jail,
            "dir = \"world\"\n[wal]\nflush_interval = \"5ms\"\nsegment_bytes_max = \"32 MiB\"\n\
             [snapshot]\ncompression_level = 3\n",
        )
        .unwrap();
        let default = PersistenceConfig::new("world");
        assert_eq!(config.dir, Path::new("world"));
        assert_eq!(config.wal.flush_interval, Duration::from_millis(7));
        assert_eq!(config.wal.segment_bytes_max, ByteSize(32 << 20));
        assert_eq!(config.wal.queue_bytes_max, default.wal.queue_bytes_max);
        assert_eq!(config.snapshot.compression_level, 3);
        assert_eq!(config.layout().unwrap().snapshot_dir(), Path::new("/elsewhere"));
        assert_eq!(config.layout().unwrap().log_dir(), std::path::absolute("world/log").unwrap());
    });
}

#[test]
fn directories_of_a_file_are_within_its_own() {
    jailed(|jail| {
        jail.create_dir("etc").unwrap();
        jail.create_file("etc/one.toml", "[wal]\ndir = \"fast\"\n").unwrap();
        jail.create_file("etc/two.toml", "dir = \"world\"\n[wal]\ndir = \"/fast\"\n").unwrap();
        jail.create_file("here.toml", "").unwrap();
        let one = PersistenceConfig::from_file("etc/one.toml").unwrap();
        assert_eq!((&*one.dir, one.wal.dir.as_deref()), (Path::new("etc"), Some(Path::new("etc/fast"))));
        let two = PersistenceConfig::from_file("etc/two.toml").unwrap();
        // One that names no `dir` is for another database than one beside it, if that is asked for.
        let for_other = PersistenceConfig::from_file_for("etc/one.toml", "other").unwrap();
        assert_eq!((&*for_other.dir, &for_other.wal), (Path::new("other"), &one.wal));
        let named = PersistenceConfig::from_file_for("etc/two.toml", "other").unwrap();
        assert_eq!(named, two);
        assert_eq!((&*two.dir, two.wal.dir.as_deref()), (Path::new("etc/world"), Some(Path::new("/fast"))));
        assert_eq!(PersistenceConfig::from_file("here.toml").unwrap().dir, Path::new("."));
        // One of the environment is within the working directory.
        jail.set_env("ECDB_WAL_DIR", "fast");
        let one = PersistenceConfig::from_file("etc/one.toml").unwrap();
        assert_eq!(one.wal.dir.as_deref(), Some(Path::new("fast")));
    });
}

#[test]
fn a_path_of_the_environment_stays_a_path() {
    jailed(|jail| {
        jail.set_env("ECDB_DIR", "2024");
        jail.set_env("ECDB_ARCHIVE_DIR", "true");
        jail.set_env("ECDB_WAL__DIR", "[1]");
        let config = PersistenceConfig::from_env("w").unwrap();
        assert_eq!(config.dir, Path::new("2024"));
        assert_eq!(config.archive.dir.as_deref(), Some(Path::new("true")));
        assert_eq!(config.wal.dir.as_deref(), Some(Path::new("[1]")));
    });
}

#[test]
fn nested_keys_are_written_with_one_underscore_or_two() {
    jailed(|jail| {
        jail.set_env("ECDB_WAL__FLUSH_INTERVAL", "7ms");
        jail.set_env("ECDB_SNAPSHOT_CHAIN_MAX", "9");
        jail.set_env("ECDB_COMPACTION_DEAD_FRACTION_MAX", "1");
        jail.set_env("ECDB_ARCHIVE_ENABLED", "false");
        jail.set_env("ECDB_WAL_QUEUE_BYTES_MAX", "1048576");
        jail.set_env("ECDB_SNAPSHOT__INTERVAL", "0");
        jail.set_env("ECDB_RECOVERY_POLICY", "strict");
        let config = PersistenceConfig::from_env("w").unwrap();
        assert_eq!(config.wal.flush_interval, Duration::from_millis(7));
        assert_eq!(config.snapshot.chain_max, 9);
        assert_eq!(config.compaction.dead_fraction_max, 1.0);
        assert_eq!(config.archive.enabled, Some(false));
        assert_eq!(config.wal.queue_bytes_max, ByteSize(1 << 20));
        assert_eq!(config.snapshot.interval, Duration::ZERO);
        jail.set_env("ECDB_WAL_FLUSH_INTERVAL", "8ms");
        let both = PersistenceConfig::from_env("w").unwrap_err().to_string();
        assert!(both.contains("ECDB_WAL_FLUSH_INTERVAL and ") || both.contains("unset one"), "{both}");
    });
}

#[test]
fn an_empty_variable_is_told_what_to_do() {
    jailed(|jail| {
        jail.set_env("ECDB_SNAPSHOT_DIR", "");
        jail.set_env("ECDB_SNAPSHOT_CHAIN_MAX", "");
        assert_eq!(
            PersistenceConfig::from_env("w").unwrap_err().to_string(),
            "environment variable ECDB_SNAPSHOT_CHAIN_MAX is empty: unset it, or give it a whole number from 1 to 128, such as 4\n\
             environment variable ECDB_SNAPSHOT_DIR is empty: unset it, or give it a directory (`.` is the working directory)"
        );
    });
}

#[test]
fn a_variable_that_names_no_setting_is_a_warning_and_in_a_check_an_error() {
    jailed(|jail| {
        jail.set_env("ECDB_LOG", "debug");
        jail.set_env("ECDB_LOG_FLUSH_INTERVAL", "1ms");
        jail.set_env("ECSDB_SNAPSHOT_DIR", "/snapshots");
        // Of others, who may call theirs as they like.
        jail.set_env("ECSDB_CASES", "100");
        assert_eq!(PersistenceConfig::from_env("w").unwrap(), PersistenceConfig::new("w"));
        let told = "environment variable ECDB_LOG names no setting\n\
             environment variable ECDB_LOG_FLUSH_INTERVAL names no setting: did you mean ECDB_WAL_FLUSH_INTERVAL?\n\
             environment variable ECSDB_SNAPSHOT_DIR names no setting: did you mean ECDB_SNAPSHOT_DIR? There is no S in the prefix";
        assert_eq!(PersistenceConfig::check_env("w").unwrap_err().to_string(), told);
        jail.create_file("c.toml", "dir = \"w\"\n").unwrap();
        assert_eq!(PersistenceConfig::from_file("c.toml").unwrap().dir, Path::new("w"));
        assert_eq!(PersistenceConfig::check_file("c.toml").unwrap_err().to_string(), told);
    });
}

#[test]
fn a_wrong_value_is_told_where_it_stands_what_it_is_and_what_would_do() {
    jailed(|jail| {
        let error = from(jail, "dir = \"w\"\n\n[wal]\nflush_interval = \"soon\"\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "c.toml:4:18: wal.flush_interval is \"soon\", but has to be a time from 100us to 1h, such as \"10ms\""
        );
        let Error::Invalid(problems) = error else { panic!("{error}") };
        assert_eq!(problems[0].key, "wal.flush_interval");
        assert_eq!(problems[0].origin, Origin::File { path: "c.toml".into(), line: 4, column: 18 });
        for (text, expected) in [
            ("dir = 2024", "1:7: dir is 2024, but has to be a directory as text, such as \".\""),
            ("wal = 3", "1:7: wal is 3, but it is a section: write `[wal]`, and its settings below"),
            (
                "wal.flush_interval = 5",
                "1:22: wal.flush_interval is 5, but has to be a time from 100us to 1h",
            ),
            (
                "wal.flush_interval = \"2h\"",
                "is \"2h\", but has to be a time from 100us to 1h, such as \"10ms\"",
            ),
            (
                "[wal]\nqueue_bytes_max = \"1 KiB\"",
                "2:19: wal.queue_bytes_max is \"1 KiB\", but has to be a size from 64 KiB to 1 EiB",
            ),
            (
                "[wal]\nqueue_bytes_max = \"99999999 TiB\"",
                "is \"99999999 TiB\", but has to be a size from 64 KiB to 1 EiB, such as \"64 MiB\"",
            ),
            ("[wal]\nqueue_bytes_max = -1", "is -1, but has to be a size from 64 KiB to 1 EiB"),
            ("retention.bytes_max = \"17 EiB\"", "is \"17 EiB\", but has to be a size of at most 1 EiB"),
            (
                "recovery.threads = 99999999",
                "is 99999999, but has to be a whole number from 0 to 1024, such as 4",
            ),
            (
                "snapshot.after_transactions = -1",
                "is -1, but has to be a whole number of at least 0, such as 4",
            ),
            ("snapshot.threads = 0.5", "is 0.5, but has to be a whole number from 0 to 1024"),
            ("snapshot.chain_max = 0", "is 0, but has to be a whole number from 1 to 128"),
            ("snapshot.compression_level = 23", "is 23, but has to be a whole number from 0 to 22"),
            ("compaction.dead_fraction_max = 1.5", "is 1.5, but has to be a part from 0 to 1, such as 0.5"),
            ("compaction.dead_fraction_max = nan", "is NaN, but has to be a part from 0 to 1, such as 0.5"),
            ("archive.enabled = \"yes\"", "is \"yes\", but has to be true or false"),
            (
                "recovery.policy = \"lenient\"",
                "is \"lenient\", but has to be one of \"strict\", \"truncate-tail\", \"salvage\"",
            ),
            ("snapshot.interval = [1]", "is a list, but has to be a time, such as \"10ms\""),
            (
                "[wal]\ndir = \"\"",
                "2:7: wal.dir is empty, but has to name a directory: `.` is the working directory",
            ),
            (
                "[wal]\ndir = \"a\\u0000b\"",
                "2:7: wal.dir is \"a\\0b\", but has to be a directory as text, such as \"log\", without NUL",
            ),
            ("retention.bytes_max = 1152921504606846977", "is 1152921504606846977, but has to be a size"),
            (
                "retention.bytes_max = \"1152921504606846977\"",
                "is \"1152921504606846977\", but has to be a size",
            ),
            (
                "[wal]\nsegment_bytes_first = \"128 MiB\"",
                "2:23: wal.segment_bytes_first is 128 MiB, but must be at most wal.segment_bytes_max, which is 64 MiB",
            ),
            (
                "[wal]\nsegment_bytes_max = \"128 KiB\"",
                "2:21: wal.segment_bytes_max is 128 KiB, but must be at least wal.segment_bytes_first, which is 256 KiB",
            ),
            (
                "[wal]\ndir = \"x\"\n[archive]\ndir = \"x\"",
                "4:7: archive.dir is x, which is wal.dir, too: each needs",
            ),
            (
                "[retention]\nage_max = \"1h\"\nunlimited = true",
                "3:13: retention.unlimited is true, but there is a limit",
            ),
            ("wal.flush_interval \"soon\"", "c.toml:1:20: this is no TOML: "),
        ] {
            let told = told(jail, text);
            assert!(told.contains(expected), "{text}: {told}");
            assert_eq!(told.lines().count(), 1, "said once: {told}");
        }
        jail.set_env("ECDB_SNAPSHOT_THREADS", "many");
        assert_eq!(
            PersistenceConfig::from_env("w").unwrap_err().to_string(),
            "environment variable ECDB_SNAPSHOT_THREADS is \"many\", but has to be a whole number from 0 to 1024, such as 4"
        );
    });
}

#[test]
fn an_unknown_key_is_told_the_nearest_one() {
    jailed(|jail| {
        for (text, expected) in [
            (
                "[wal]\nflush_intervall = \"1ms\"",
                "c.toml:2:1: wal.flush_intervall is no setting: did you mean wal.flush_interval?",
            ),
            (
                "[log]\nflush_interval = \"1ms\"",
                "c.toml:2:1: log.flush_interval is no setting: did you mean wal.flush_interval?",
            ),
            ("[log]\ndir = \"x\"", "2:1: log.dir is no setting: did you mean wal.dir?"),
            (
                "[log]",
                "c.toml:1:2: log is no setting and no section: there are wal, snapshot, archive, retention, compaction, recovery",
            ),
            ("[snapshots]\nchain_max = 2", "did you mean snapshot.chain_max?"),
            ("wal.colour = 1", "wal.colour is no setting: in `[wal]` there are dir, segment_bytes_first,"),
            ("flush_interval = \"1ms\"", "flush_interval is no setting: did you mean wal.flush_interval?"),
        ] {
            let told = told(jail, text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    });
}

#[test]
fn several_mistakes_are_told_together() {
    jailed(|jail| {
        jail.set_env("ECDB_WAL_QUEUE_BYTES_MAX", "huge");
        let told = told(jail, "[wal]\nflush_interval = \"soon\"\nsegments = 3\n[snapshot]\nchain_max = 0\n");
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert!(lines.iter().any(|line| line.contains("c.toml:2:18: wal.flush_interval")), "{told}");
        assert!(lines.iter().any(|line| line.contains("c.toml:3:1: wal.segments")), "{told}");
        assert!(lines.iter().any(|line| line.contains("c.toml:5:13: snapshot.chain_max")), "{told}");
        assert!(lines.iter().any(|line| line.contains("ECDB_WAL_QUEUE_BYTES_MAX is \"huge\"")), "{told}");
        // Nor does a program's own.
        let mut config = PersistenceConfig::new("w");
        config.snapshot.chain_max = 0;
        config.recovery.threads = 5000;
        let told = config.validate().unwrap_err().to_string();
        assert_eq!(
            told,
            "snapshot.chain_max is 0, but has to be a whole number from 1 to 128, such as 4\n\
             recovery.threads is 5000, but has to be a whole number from 0 to 1024, such as 4"
        );
    });
}

#[test]
fn a_file_that_is_not_there_or_is_no_text_is_named() {
    jailed(|jail| {
        let absent = PersistenceConfig::from_file("absent.toml").unwrap_err().to_string();
        assert_eq!(absent, "there is no configuration file absent.toml");
        let directory = PersistenceConfig::from_file(jail.directory()).unwrap_err();
        let directory = directory.to_string();
        assert!(directory.ends_with(" is no file, where a file of settings was expected"), "{directory}");
        std::fs::write(jail.directory().join("latin.toml"), b"dir = \"w\"\n# caf\xe9\n").unwrap();
        let latin = PersistenceConfig::from_file("latin.toml").unwrap_err().to_string();
        assert_eq!(latin, "latin.toml:2:6: a byte that is no UTF-8: save the file as UTF-8");
    });
}

#[test]
fn documented_values_work() {
    jailed(|jail| {
        let config = from(
            jail,
            "[wal]\nsegment_age_max = 0\nqueue_bytes_max = 1048576\n[snapshot]\ninterval = 0\nafter_log_bytes = 0\n\
             [compaction]\ninterval = \"0\"\ndead_fraction_max = 0\nsparse_fraction_max = 1\n[retention]\nage_max = \"7days\"\n\
             bytes_max = \"20 GiB\"\n[archive]\nenabled = true\n",
        )
        .unwrap();
        assert_eq!(config.snapshot.interval, Duration::ZERO);
        assert_eq!(config.retention.age_max, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(config.retention.bytes_max, ByteSize(20 << 30));
        assert_eq!(config.compaction.sparse_fraction_max, 1.0);
    });
}

/// What the page on configuration shows was really said.
#[test]
fn the_mistakes_that_are_documented_are_told_so() {
    jailed(|jail| {
        jail.create_dir("world").unwrap();
        jail.create_file(
            "world/ecsdb.toml",
            "[wal]\nflush_interval = \"soon\"\n[log]\nqueue_bytes_max = \"1 MiB\"\n",
        )
        .unwrap();
        jail.set_env("ECDB_SNAPSHOT_THREADS", "many");
        let told = PersistenceConfig::from_file("world/ecsdb.toml").unwrap_err().to_string();
        let page = include_str!("../../../docs/configuration.md");
        assert!(page.contains(&format!("```text\n{told}\n```")), "{told}");
    });
}

#[test]
fn settings_written_as_a_file_are_read_as_what_they_were() {
    jailed(|jail| {
        let mut config = PersistenceConfig::new("/data/a \"world\"");
        config.manual();
        config.wal.flush_interval = Duration::from_micros(1_500);
        config.wal.queue_bytes_max = ByteSize(1_234_567);
        config.archive.enabled = Some(true);
        config.snapshot.dir = Some("/data/snapshots".into());
        config.compaction.dead_fraction_max = 0.25;
        config.retention.unlimited = true;
        let read = from(jail, &config.to_toml()).unwrap();
        assert_eq!(read, config);
    });
}

#[test]
fn mistakes_of_form_hide_no_rule_that_is_broken_and_break_none() {
    jailed(|jail| {
        jail.set_env("ECDB_SNAPSHOT_THREADS", "many");
        let text = "[wal]\nflush_interval = \"soon\"\nsegment_bytes_max = \"128 KiB\"\n\
             [retention]\nunlimited = true\nsnapshots_max = 3\nnothing = 1\n";
        let told = told(jail, text);
        let keys = ["wal.flush_interval is", "retention.nothing is", "ECDB_SNAPSHOT_THREADS is"];
        let rules = ["wal.segment_bytes_max is 128 KiB, but must", "retention.unlimited is true, but"];
        assert_eq!(told.lines().count(), 5, "{told}");
        assert!([&keys[..], &rules].concat().iter().all(|wanted| told.contains(wanted)), "{told}");
        // What was meant by a value that is none is not guessed at.
        let told =
            self::told(jail, "[wal]\nsegment_bytes_first = \"soon\"\nsegment_bytes_max = \"128 KiB\"\n");
        assert!(!told.contains("must be at least") && told.lines().count() == 2, "{told}");
    });
}

#[test]
fn whole_numbers_are_whole_however_they_are_written_and_months_are_no_minutes() {
    jailed(|jail| {
        let config = from(jail, "[wal]\nqueue_bytes_max = 1e6\n[snapshot]\nchain_max = 3.0\n").unwrap();
        assert_eq!((config.wal.queue_bytes_max, config.snapshot.chain_max), (ByteSize(1_000_000), 3));
        let odd = told(jail, "wal.queue_bytes_max = 1000000.5");
        assert!(odd.contains("queue_bytes_max is 1000000.5, but has to be a size from 64 KiB"), "{odd}");
        let config =
            from(jail, "[snapshot]\ninterval = \"1.5m 2month\"\nafter_log_bytes = \"1.5 KIB\"\n").unwrap();
        assert_eq!(config.snapshot.interval, Duration::from_secs(90 + 2 * 2_630_016));
        assert_eq!(config.snapshot.after_log_bytes, ByteSize(1536));
        assert!(told(jail, "snapshot.interval = \"1M\"").contains("is \"1M\", but has to be a time"));
    });
}

#[test]
fn a_name_in_quotes_with_a_dot_in_it_is_no_setting_in_its_section() {
    jailed(|jail| {
        for quoted in ["\"wal.flush_interval\" = \"5ms\"\n", "[wal]\n\"wal.flush_interval\" = 1\n"] {
            let told = told(jail, &format!("{quoted}[snapshot]\nchain_max = 3\n"));
            assert!(
                told.contains("one name, with a dot in it") && told.contains("`flush_interval` in `[wal]`"),
                "{told}"
            );
            assert!(told.contains(&format!("c.toml:{}:1", quoted.lines().count())), "{told}");
        }
    });
}

/// As far as names tell they are two.
#[cfg(unix)]
#[test]
fn of_two_directories_that_a_link_makes_one_the_one_that_was_written_is_named() {
    jailed(|jail| {
        for (dir, link) in [("snapshots", "l"), ("log", "m")] {
            jail.create_dir(dir).unwrap();
            std::os::unix::fs::symlink(dir, link).unwrap();
        }
        let told = |config: &PersistenceConfig| config.layout_in(&ecsdb_io::Disk).unwrap_err().to_string();
        let one = from(jail, "[wal]\ndir = \"l\"").unwrap();
        let said = told(&one);
        assert!(
            said.starts_with("c.toml:2:7: wal.dir is /")
                && said.contains("/snapshots, which is snapshot.dir, too"),
            "{said}"
        );
        let both = from(jail, "[archive]\ndir = \"m\"\n[wal]\ndir = \"log\"").unwrap();
        let said = told(&both);
        assert!(said.starts_with("c.toml:2:7: archive.dir is /") && said.contains("wal.dir, too"), "{said}");
        // What the program has changed since is not what was written.
        let mut changed = one;
        changed.wal.dir = Some("./m/../l".into());
        let said = told(&changed);
        assert!(said.starts_with("wal.dir is /") && said.contains("snapshot.dir, too"), "{said}");
        jail.set_env("ECDB_WAL_DIR", "l");
        let said = told(&PersistenceConfig::from_env(".").unwrap());
        assert!(said.starts_with("environment variable ECDB_WAL_DIR is /"), "{said}");
    });
    let mut config = PersistenceConfig::new("w");
    config.wal.dir = Some("w/snapshots".into());
    let said = config.validate().unwrap_err().to_string();
    assert!(said.starts_with("wal.dir is w/snapshots, which is snapshot.dir, too"), "{said}");
}

#[test]
fn of_two_directories_that_are_one_the_one_that_was_written_is_named() {
    jailed(|jail| {
        let told = told(jail, "[wal]\ndir = \"snapshots\"\n");
        assert!(
            told.contains("c.toml:2:7: wal.dir is") && told.contains("which is snapshot.dir, too"),
            "{told}"
        );
    });
}
