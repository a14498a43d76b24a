//! `podgraft schema`: prints the JSON schema of a configuration.

use std::process::ExitCode;

use crate::config;

/// Print the JSON schema of a configuration, for completion and checks in editors.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft schema > graftconfig.schema.json

and as the first line of a configuration in the same folder:
  # yaml-language-server: $schema=graftconfig.schema.json

Exit code: 0 printed.")]
pub(super) struct Args {}

/// Writes the schema to stdout.
pub(super) fn run(_: &Args) -> anyhow::Result<ExitCode> {
    outln!("{:#}", config::json_schema());
    Ok(ExitCode::SUCCESS)
}
