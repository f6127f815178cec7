//! Every command has its examples in its help, and each of them works.

use crate::fixture::{Fixture, words};
use crate::tree::commands;

#[test]
fn each_command_has_examples_that_work() {
    let fixture = Fixture::new();
    for command in commands(&fixture) {
        let fixture = Fixture::new();
        let help = fixture.ok(&words(&format!("{command} --help")));
        let examples: Vec<&str> =
            help.lines().filter_map(|line| line.trim().strip_prefix("$ ecsdb ")).collect();
        assert!(!examples.is_empty(), "{command:?} has no example: {help}");
        for example in examples {
            let (example, code) = match example.split_once("# exit code ") {
                Some((example, code)) => (example, code.trim().parse().unwrap()),
                None => (example, 0),
            };
            let (found, out, error) = fixture.run(&words(example));
            assert_eq!(found, code, "ecsdb {example}: {out}{error}");
        }
    }
}
