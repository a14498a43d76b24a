//! `podgraft module`: creates, builds, inspects, runs and measures template modules.

mod bench;
mod build;
mod call;
mod inspect;
mod new;
mod run;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

/// Create, build, inspect and try template modules.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  A new module:
    podgraft module new my-module
    podgraft module build my-module
    podgraft module inspect my-module/my-module.wasm

  Its changes to a pod, and its speed:
    podgraft module run my-module/my-module.wasm -f pod.yaml --queue train --params @params.yaml
    podgraft module bench my-module/my-module.wasm -f pod.yaml --queue train")]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(new::Args),
    Build(build::Args),
    Inspect(inspect::Args),
    Run(run::Args),
    Bench(bench::Args),
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::New(args) => new::run(args),
        Verb::Build(args) => build::run(args),
        Verb::Inspect(args) => inspect::run(args),
        Verb::Run(args) => run::run(args),
        Verb::Bench(args) => bench::run(args),
    }
}

/// Returns the name of a module: its file's name without the extension.
fn name_of(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}

/// Formats a size in bytes: `512 KiB`, `1.5 MiB`.
fn size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes * 10).div_ceil(unit);
    let (tenths, unit) = if bytes < 1 << 20 { (tenths(1 << 10), "KiB") } else { (tenths(1 << 20), "MiB") };
    if tenths % 10 == 0 { format!("{} {unit}", tenths / 10) } else { format!("{}.{} {unit}", tenths / 10, tenths % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_up_to_a_tenth() {
        let shown = [0, 1, 1 << 10, 512 << 10, (1 << 20) - 1, 1 << 20, 3 << 19].map(size);
        assert_eq!(shown, ["0 KiB", "0.1 KiB", "1 KiB", "512 KiB", "1024 KiB", "1 MiB", "1.5 MiB"]);
    }
}
