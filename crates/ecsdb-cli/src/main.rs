//! The command line of ecsdb.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool's own files are not the engine's")]

mod commands;
mod demo;
mod failure;
mod interrupt;
mod log;
mod opening;
mod output;
mod overlay;
mod place;
mod target;
mod times;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use commands::{
    backup, bench, compact, completions, config, diff, dump, export, hash, history, info, init, inspect,
    load, man, query, repair, restore, snapshot, verify, wal,
};
use output::Output;

#[derive(Parser)]
#[command(
    name = "ecsdb",
    version,
    about = "An embedded Entity-Component-System database",
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong call, 3 not there, 4 damaged, 5 in use, 6 there already, 7 other version or \
                  type, 8 not the same, 130 interrupted (143 by SIGTERM, 129 by SIGHUP)."
)]
pub(crate) struct Cli {
    /// Prints JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an empty database.
    #[command(after_help = "Example:\n  $ ecsdb init new")]
    Init(init::Options),
    /// Show what a database has, and which moments can be gone back to.
    #[command(after_help = "Example:\n  $ ecsdb info world\n  $ ecsdb info world --json")]
    Info(info::Options),
    /// Show archetypes, components and resources, or one entity with all its values.
    #[command(
        after_help = "Example:\n  $ ecsdb inspect world\n  $ ecsdb inspect world 0v1\n  $ ecsdb inspect world --lsn 2"
    )]
    Inspect(inspect::Options),
    /// Show how an entity came to be what it is: each value with LSN and time, from the retained log.
    #[command(after_help = "Example:\n  $ ecsdb history world 0v1\n  $ ecsdb history world 0v1 game.health")]
    History(history::Options),
    /// List the entities that have some components, and values of which something holds.
    #[command(
        after_help = "Example:\n  $ ecsdb query world --with game.name,game.health\n  $ ecsdb query world --where 'game.health.now < 10' \
                      --select game.name,game.health.now\n\nA condition compares a component or one of its fields with a number, true or \
                      false, an entity id, the name of a variant, null, or text in quotes."
    )]
    Query(query::Options),
    /// Show how two databases, or two moments of one, differ; exit code 8 if they do.
    #[command(
        after_help = "Example:\n  $ ecsdb diff world world\n  $ ecsdb diff world@2 world@4    # exit code 8"
    )]
    Diff(diff::Options),
    /// Show the digest of everything stored: equal for equal contents.
    #[command(after_help = "Example:\n  $ ecsdb hash world")]
    Hash(hash::Options),
    /// Write everything as JSON Lines, of which `load` makes the same database.
    #[command(after_help = "Example:\n  $ ecsdb dump world\n  $ ecsdb dump world --output world.jsonl")]
    Dump(dump::Options),
    /// Make a database of what `dump` wrote.
    #[command(
        after_help = "Example:\n  $ ecsdb dump world --output world.jsonl\n  $ ecsdb load loaded world.jsonl"
    )]
    Load(load::Options),
    /// Write each archetype as a table, into a Parquet file.
    #[command(
        override_usage = "ecsdb export [OPTIONS] <DIR> --parquet <TO>",
        after_help = "Example:\n  $ ecsdb export world --parquet tables"
    )]
    Export(export::Options),
    /// Look into the write-ahead log.
    Wal(wal::Options),
    /// Read and check every file of a database, and change nothing.
    #[command(after_help = "Example:\n  $ ecsdb verify world")]
    Verify(verify::Options),
    /// Keep everything of a damaged database that verifies, set the rest aside, and list what is lost.
    #[command(after_help = "Example:\n  $ ecsdb repair world --dry-run\n  $ ecsdb repair world")]
    Repair(repair::Options),
    /// Take a snapshot; what it makes superfluous is archived and deleted as the settings say.
    #[command(after_help = "Example:\n  $ ecsdb snapshot world\n  $ ecsdb snapshot world --list")]
    Snapshot(snapshot::Options),
    /// Write a database as it was at some moment (the last one unless said otherwise) into a new directory.
    #[command(after_help = "Example:\n  $ ecsdb restore world restored --lsn 3")]
    Restore(restore::Options),
    /// Write a copy of a database into a new directory, also while it is open.
    #[command(after_help = "Example:\n  $ ecsdb backup world copy")]
    Backup(backup::Options),
    /// Merge log and snapshots into one full snapshot; what it covers is deleted as far as the settings do not keep it.
    #[command(after_help = "Example:\n  $ ecsdb compact world --dry-run\n  $ ecsdb compact world")]
    Compact(compact::Options),
    /// Look at the settings of a database.
    Config(config::Options),
    /// Replay every 2013 flight out of New York into a digital twin, killing it on the way.
    #[command(after_help = "Example:\n  $ ecsdb demo --kills 0 --flights 2000")]
    Demo(demo::Options),
    /// Measure what this machine and this disk give: durable commits, iterating, a snapshot.
    #[command(after_help = "Example:\n  $ ecsdb bench --seconds 0.1 --entities 10000")]
    Bench(bench::Options),
    /// Print the completions for a shell.
    #[command(after_help = "Example:\n  $ ecsdb completions bash")]
    Completions(completions::Options),
    /// Print the manual page, or write one for each command.
    #[command(after_help = "Example:\n  $ ecsdb man\n  $ ecsdb man pages")]
    Man(man::Options),
}

fn main() -> ExitCode {
    // How whoever is interrupted says so.
    failure::listen_to(std::env::args_os().skip(1));
    // Before anything else: until then a signal ends the process as it ends everybody's.
    let listening = interrupt::listen();
    log::listen();
    let Cli { json, command } = match Cli::try_parse() {
        Ok(call) => call,
        Err(e) => return failure::end_call(&e),
    };
    let done = listening.and_then(|()| run(command, json));
    if !done.as_ref().is_err_and(failure::is_of_the_engine) {
        log::tell();
    }
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::end(&error),
    }
}

fn run(command: Command, json: bool) -> Result<()> {
    let mut out = Output::new(json);
    let done = match &command {
        Command::Init(options) => init::run(options, &mut out),
        Command::Info(options) => info::run(options, &mut out),
        Command::Inspect(options) => inspect::run(options, &mut out),
        Command::History(options) => history::run(options, &mut out),
        Command::Query(options) => query::run(options, &mut out),
        Command::Diff(options) => diff::run(options, &mut out),
        Command::Hash(options) => hash::run(options, &mut out),
        Command::Dump(options) => dump::run(options, &mut out),
        Command::Load(options) => load::run(options, &mut out),
        Command::Export(options) => export::run(options, &mut out),
        Command::Wal(options) => wal::run(options, &mut out),
        Command::Verify(options) => verify::run(options, &mut out),
        Command::Repair(options) => repair::run(options, &mut out),
        Command::Snapshot(options) => snapshot::run(options, &mut out),
        Command::Restore(options) => restore::run(options, &mut out),
        Command::Backup(options) => backup::run(options, &mut out),
        Command::Compact(options) => compact::run(options, &mut out),
        Command::Config(options) => config::run(options, &mut out),
        Command::Bench(options) => bench::run(options, &mut out),
        Command::Completions(options) => completions::run(options, &mut out),
        Command::Man(options) => man::run(options, &mut out),
        Command::Demo(options) => demo::run(options, &mut out),
    };
    // Once it is found, it is said, and no interruption any more. What was found is printed before what is wrong with it. That two differ is nothing
    // wrong: where it was not printed, nobody knows how.
    interrupt::hold();
    let printed = out.flush();
    match done {
        Err(e) if !failure::is_answer(&e) => Err(e),
        done => printed.and(done),
    }
}
