//! The command line: one module per verb.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Writes a line to stdout. A closed pipe is an error, which ends the program quietly; `println!` would panic.
macro_rules! outln {
    ($($text:tt)*) => { std::io::Write::write_fmt(&mut anstream::stdout(), format_args!("{}\n", format_args!($($text)*)))? };
}

/// Writes a line to stderr. A closed pipe is ignored: the result is on stdout.
macro_rules! errln {
    ($($text:tt)*) => { _ = std::io::Write::write_fmt(&mut anstream::stderr(), format_args!("{}\n", format_args!($($text)*))) };
}

mod certs;
mod check;
mod completion;
pub mod diff;
mod explain;
pub mod load;
mod manifests;
mod module;
mod render;
mod schema;
mod serve;
mod table;
pub mod test;

/// Grafts per-queue and per-environment pod templates and WASM template modules onto ML task pods.
#[derive(Debug, Parser)]
#[command(
    name = "podgraft",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  podgraft check --config podgraft.yaml --policies policies
  podgraft render -f pod.yaml --config podgraft.yaml --policies policies -o diff
  podgraft test tests/cases --policies policies"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(Box<serve::Args>),
    Render(render::Args),
    Check(check::Args),
    Test(test::Args),
    Explain(explain::Args),
    Module(module::Args),
    Schema(schema::Args),
    Completion(completion::Args),
    Certs(certs::Args),
}

/// The output formats of `check`, `explain` and `certs check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// text for humans
    Text,
    /// JSON for programs
    Json,
}

/// Returns the description of the command line, for the generated reference in `docs/cli.md`.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the verb of the command line.
///
/// # Errors
/// The usage or a configuration is wrong, or stdout is closed.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::Serve(args) => serve::run(*args),
        Verb::Render(args) => render::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Explain(args) => explain::run(&args),
        Verb::Module(args) => module::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Completion(args) => completion::run(&args, command()),
        Verb::Certs(args) => certs::run(args),
    }
}

#[cfg(test)]
mod tests;
