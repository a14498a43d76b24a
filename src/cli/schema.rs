//! `podgraft schema`: what editors have to know of a configuration.

use std::process::ExitCode;

use crate::config;

/// Print the JSON schema of a configuration, for editors that complete and check it while it is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft schema > graftconfig.schema.json

and as the first line of a configuration beside it:
  # yaml-language-server: $schema=graftconfig.schema.json

Exit code: 0 done.")]
pub(super) struct Args {}

/// Writes the schema to stdout.
pub(super) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    say!("{:#}", config::json_schema());
    Ok(ExitCode::SUCCESS)
}
