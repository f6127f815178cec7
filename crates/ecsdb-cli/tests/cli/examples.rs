//! Every command has its examples in its help, and each of them works.

use crate::fixture::{Fixture, words};

/// Commands, as the help lists them.
fn commands(fixture: &Fixture) -> Vec<Vec<String>> {
    let listed = |help: &str| -> Vec<String> {
        let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
        let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        names
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(String::from)
            .collect()
    };
    let mut all = Vec::new();
    for name in listed(&fixture.ok(&["--help"])) {
        let help = fixture.ok(&[&name, "--help"]);
        if help.contains("Commands:\n") {
            all.extend(listed(&help).into_iter().map(|sub| vec![name.clone(), sub]));
        } else {
            all.push(vec![name]);
        }
    }
    all
}

#[test]
fn each_command_has_examples_that_work() {
    let fixture = Fixture::new();
    let commands = commands(&fixture);
    assert!(commands.len() >= 23, "{commands:?}");
    for command in commands {
        let fixture = Fixture::new();
        let help =
            fixture.ok(&[&command.iter().map(String::as_str).collect::<Vec<_>>()[..], &["--help"]].concat());
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
