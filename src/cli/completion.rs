//! `podgraft completion`: what a shell has to know of the command line.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::Shell;

/// Print a script that completes podgraft's commands and flags in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bash, for every login of this user:
    podgraft completion bash > ~/.local/share/bash-completion/completions/podgraft

  zsh, into a folder of $fpath:
    podgraft completion zsh > ~/.zfunc/_podgraft

  fish:
    podgraft completion fish > ~/.config/fish/completions/podgraft.fish")]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Kind,
}

/// The shells whose scripts are looked after.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// bash 4 and later
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Writes the script for `command` to stdout.
pub(super) fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        Kind::Bash => Shell::Bash,
        Kind::Zsh => Shell::Zsh,
        Kind::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "podgraft", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
