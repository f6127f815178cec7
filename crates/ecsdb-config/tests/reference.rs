//! What is documented is what there is: the schema, the example file and the table are made from the types.

#![allow(
    clippy::disallowed_methods,
    clippy::result_large_err,
    clippy::unwrap_used,
    reason = "a test, and figment's signatures"
)]

use ecsdb_config::{Applies, PersistenceConfig, example, schema, settings, table};
use figment::Jail;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/");
const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- end of the settings -->\n";

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{DOCS}{name}")).unwrap()
}

/// The page before the table, the table, and the page after it.
fn page() -> [String; 3] {
    let page = read("configuration.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (table, after) = rest.split_once(END).unwrap();
    [before.into(), table.into(), after.into()]
}

/// Writes what is made from the types: `cargo test -p ecsdb-config -- --ignored write_reference`.
#[test]
#[ignore = "writes docs/"]
fn write_reference() {
    let [before, _, after] = page();
    std::fs::write(format!("{DOCS}configuration.md"), format!("{before}{BEGIN}{}{END}{after}", table()))
        .unwrap();
    std::fs::write(format!("{DOCS}ecsdb.schema.json"), schema()).unwrap();
    std::fs::write(format!("{DOCS}ecsdb.example.toml"), example()).unwrap();
}

#[test]
fn what_is_documented_is_current() {
    let how = "cargo test -p ecsdb-config -- --ignored write_reference";
    assert_eq!(page()[1], table(), "docs/configuration.md: {how}");
    assert_eq!(read("ecsdb.schema.json"), schema(), "docs/ecsdb.schema.json: {how}");
    assert_eq!(read("ecsdb.example.toml"), example(), "docs/ecsdb.example.toml: {how}");
}

/// The one default that is not a value of the settings.
#[test]
fn the_bound_of_an_archive_is_said() {
    let enabled = settings().iter().find(|setting| setting.key == "archive.enabled").unwrap();
    assert_eq!(ecsdb_compactor::ARCHIVE_BYTES_DEFAULT, 10 << 30);
    for text in [&enabled.description, &read("configuration.md"), &read("operations.md")] {
        assert!(text.contains("10 GiB"), "{text}");
    }
}

#[test]
fn every_setting_says_what_it_is() {
    assert_eq!(settings().len(), 32);
    for setting in settings() {
        assert!(setting.description.ends_with('.'), "{setting:?}");
        assert!(!setting.default.is_empty() && setting.default != "null", "{setting:?}");
        assert!(!setting.example.is_empty() && setting.example != "null", "{setting:?}");
    }
    let next: Vec<&str> =
        settings().iter().filter(|it| it.applies == Applies::NextOpening).map(|it| &*it.key).collect();
    let expected = [
        "dir",
        "wal.dir",
        "wal.segment_bytes_first",
        "snapshot.dir",
        "archive.dir",
        "recovery.policy",
        "recovery.threads",
    ];
    assert_eq!(next, expected);
}

#[test]
fn the_example_says_nothing_and_what_is_commented_out_in_it_parses() {
    Jail::expect_with(|jail| {
        jail.clear_env();
        jail.create_file("ecsdb.toml", &example())?;
        assert_eq!(PersistenceConfig::from_file("ecsdb.toml").unwrap(), PersistenceConfig::new("."));
        let says_something =
            |line: &&str| !(line.is_empty() || line.starts_with('#') || line.starts_with('['));
        assert_eq!(example().lines().find(says_something), None);
        let all: String = example()
            .lines()
            .map(|line| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ")) {
                Some(setting) => format!("{setting}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        jail.create_file("all.toml", &all)?;
        let config = PersistenceConfig::from_file("all.toml").unwrap();
        assert_eq!(config.archive.enabled, Some(true));
        assert!([config.wal.dir, config.snapshot.dir, config.archive.dir].iter().all(Option::is_some));
        for setting in settings() {
            let name = setting.key.rsplit('.').next().unwrap();
            assert!(all.contains(&format!("\n{name} = ")), "{} is missing", setting.key);
        }
        Ok(())
    });
}
