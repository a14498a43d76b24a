//! `podgraft completion`: prints completion scripts for shells.

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
    shell: ShellName,
}

/// The supported shells.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    /// bash 4 and later
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Writes the completion script of `command` to stdout.
pub(super) fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "podgraft", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
