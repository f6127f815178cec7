//! `cargo xtask mutants`: breaks a rule of the engine on purpose, in a copy of the sources, and sees that a test falls.
//!
//! A mutant is a piece of source and what stands in its place. Each piece must be found exactly once, so that a mutant which the code
//! has outgrown is told, and what is left must still compile, so that it is a test and not the compiler that kills it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::tools::cargo;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only mutants whose name or rule contains one of these.
    #[arg(long)]
    only: Vec<String>,
    /// Only see that the code has not outgrown them: each piece is found, and nothing is broken.
    #[arg(long)]
    find: bool,
}

#[derive(Deserialize)]
struct Mutant {
    name: String,
    /// The rule that it breaks.
    rule: String,
    file: String,
    from: String,
    to: String,
    /// What is tested: arguments of `cargo test`.
    tests: Vec<String>,
}

#[derive(Deserialize)]
struct Mutants {
    mutant: Vec<Mutant>,
}

const COPY: &str = "target/mutants/source";

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Mutants { mutant: mutants } = toml::from_str(include_str!("mutants.toml"))?;
    let is_chosen = |mutant: &&Mutant| {
        let named = |only: &String| mutant.name.contains(only) || mutant.rule.contains(only);
        args.only.is_empty() || args.only.iter().any(named)
    };
    let chosen: Vec<_> = mutants.iter().filter(is_chosen).collect();
    if args.find {
        chosen.iter().try_for_each(|mutant| broken(mutant, Path::new(".")).map(drop))?;
        println!("{} mutants found", chosen.len());
        return Ok(());
    }
    copy_sources()?;
    let mut survivors = Vec::new();
    for (i, mutant) in chosen.iter().enumerate() {
        let killed = try_one(mutant).with_context(|| mutant.name.clone())?;
        let outcome = if killed { "killed" } else { "SURVIVED" };
        println!("{:>2} of {}: {outcome:<8} {} ({})", i + 1, chosen.len(), mutant.name, mutant.rule);
        if !killed {
            survivors.push(mutant.name.as_str());
        }
    }
    println!("{} of {} mutants killed", chosen.len() - survivors.len(), chosen.len());
    ensure!(survivors.is_empty(), "no test falls for: {}", survivors.join(", "));
    Ok(())
}

/// The tracked files, as they are now.
fn copy_sources() -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()?;
    ensure!(listed.status.success(), "git ls-files failed");
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (Path::new(name), Path::new(COPY).join(name));
        if !from.is_file() {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // What is the same keeps its time, so that it is not built again.
        let content = std::fs::read(from)?;
        if std::fs::read(&to).ok().as_ref() != Some(&content) {
            std::fs::write(&to, content)?;
        }
    }
    Ok(())
}

/// True when a test falls.
fn try_one(mutant: &Mutant) -> anyhow::Result<bool> {
    let path = Path::new(COPY).join(&mutant.file);
    let (source, broken) = broken(mutant, Path::new(COPY))?;
    std::fs::write(&path, broken)?;
    let tested = test(mutant, &["--no-run"]).and_then(|compiles| {
        ensure!(compiles, "the mutant does not compile");
        test(mutant, &[])
    });
    std::fs::write(&path, source)?;
    Ok(!tested?)
}

/// The source as it is, and with the mutant's piece in it.
fn broken(mutant: &Mutant, root: &Path) -> anyhow::Result<(String, String)> {
    let Mutant { name, file, from, to, .. } = mutant;
    let source = std::fs::read_to_string(root.join(file)).with_context(|| file.clone())?;
    let found = source.matches(from).count();
    ensure!(found == 1, "{name}: the piece to be replaced is found {found} times in {file}");
    let broken = source.replacen(from, to, 1);
    Ok((source, broken))
}

fn test(mutant: &Mutant, more: &[&str]) -> anyhow::Result<bool> {
    // Whatever hangs is noticed, too.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "600"]).arg(cargo().get_program());
    command.arg("test").args(&mutant.tests).args(more).current_dir(COPY);
    command.env("CARGO_TARGET_DIR", std::env::current_dir()?.join("target/mutants/build"));
    command.env("RUSTFLAGS", "-Awarnings").stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.status()?.success())
}
