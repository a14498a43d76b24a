//! `podgraft certs`: makes, checks and installs the webhook's certificate.

mod chain;
mod check;
mod cluster;
mod install;
mod make;
mod set;
#[cfg(test)]
mod tests;
mod verify;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;

/// Make, check and install the webhook's certificate.
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  The first time, with podgraft's manifests applied:
    podgraft certs make --dir ~/podgraft-certs
    podgraft certs install --dir ~/podgraft-certs
    podgraft certs check --secret podgraft/podgraft-tls --webhook podgraft

  To renew it, run the same three commands again."
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Make(make::Args),
    Check(check::Args),
    Install(install::Args),
}

/// Runs the command.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Make(args) => make::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Install(args) => install::run(&args),
    }
}

/// The flags for the Service that the API server calls. The certificate must be for its name.
#[derive(Debug, Clone, clap::Args)]
struct Service {
    /// The Service that the webhook configuration names
    #[arg(long, value_name = "NAME", default_value = "podgraft")]
    service: String,
    /// podgraft's own namespace
    #[arg(short, long, value_name = "NS", default_value = "podgraft")]
    namespace: String,
}

impl Service {
    /// Returns the DNS name that the certificate must have.
    fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// Returns the current time in seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A day in seconds.
const DAY: i64 = 24 * 60 * 60;
