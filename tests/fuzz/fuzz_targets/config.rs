//! Configuration files of any text.
#![no_main]

use ecsdb::PersistenceConfig;
use libfuzzer_sys::fuzz_target;

thread_local!(static DIR: tempfile::TempDir = tempfile::tempdir().expect("a directory"));

fuzz_target!(|text: &[u8]| {
    DIR.with(|dir| {
        let path = dir.path().join("ecsdb.toml");
        std::fs::write(&path, text).expect("written");
        match PersistenceConfig::from_file(&path) {
            Ok(config) => {
                config.validate().expect("what was read is valid");
                config.layout().expect("it has directories");
                (config.log_options(), config.store_settings(), config.schedule());
            }
            Err(e) => assert!(!e.to_string().is_empty()),
        }
    });
});
