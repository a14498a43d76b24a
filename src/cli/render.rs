//! `podgraft render`: simulates the webhook without a cluster.
//!
//! A manifest becomes the AdmissionReview that the API server would send; the webhook's code answers it.

use std::io::Write;
use std::process::ExitCode;

use bumpalo::Bump;
use clap::ValueEnum;

use super::diff::{self, Side};
use super::load::Configuration;
use super::manifests::{Manifest, Manifests};
use crate::explain::simulate;
use crate::explain::yaml;
use crate::model::denial::Denial;
use crate::model::snapshot::Snapshot;
use crate::mutate::{ModuleRun, Mutation};

/// Show the changes that the webhook would make to a pod, without a cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  Every changed line with the layer or module that changed it:
    podgraft render -f pod.yaml --config podgraft.yaml --policies policies -o diff

  The JSON patch for a Job's pod, as the webhook would reply to the Job controller:
    podgraft render -f job.yaml --config podgraft.yaml -o patch

  All pods and Jobs of a chart, in one namespace:
    helm template release chart | podgraft render -f - --namespace ml --config config

  For a namespace with the label pod-security.kubernetes.io/warn=baseline:
    podgraft render -f pod.yaml --config podgraft.yaml --policies policies --pod-security baseline

Exit codes: 0 rendered, 1 a pod was denied, 2 wrong usage or configuration.")]
pub(super) struct Args {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    configuration: Configuration,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// The output formats.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// the changed pod as YAML
    Yaml,
    /// the changed pod as JSON
    Json,
    /// the RFC 6902 operations, byte for byte as in the webhook's reply
    Patch,
    /// a diff, each changed line with its layer or module
    Diff,
    /// every changed path with its layer or module
    Provenance,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.configuration.load()?;
    let manifests = args.manifests.read(&snapshot)?;
    let several = manifests.len() > 1;
    let mut denied = false;
    for (index, manifest) in manifests.iter().enumerate() {
        let prefix = if several { format!("{}: ", manifest.label) } else { String::new() };
        denied |= !show(manifest, &prefix, index, args.output, &snapshot)?;
    }
    Ok(if denied { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Renders one manifest and prints it. `prefix` begins each of its lines on stderr. Returns false if the pod was denied.
fn show(manifest: &Manifest, prefix: &str, index: usize, output: Output, snapshot: &Snapshot) -> anyhow::Result<bool> {
    let arena = Bump::new();
    let answered = simulate::answer(&manifest.body, snapshot, &arena)
        .map_err(|error| anyhow::anyhow!("{}: {error}", manifest.label))?;
    print_logs(&answered.runs);
    let mutation = match answered.result {
        Ok(Some(mutation)) => {
            if let Some(notice) = &mutation.notice {
                errln!("{prefix}{notice}");
            }
            if mutation.operations.is_empty() {
                errln!("{prefix}unchanged");
            }
            mutation
        }
        Ok(None) => {
            errln!("{prefix}skipped: not a task pod of this configuration");
            Mutation::none(answered.review.object)
        }
        Err(denial) => {
            errln!("{prefix}{}", denial_text(&denial));
            return Ok(false);
        }
    };
    print(output, &mutation, prefix, index, &arena)?;
    Ok(true)
}

/// Formats a denial: `denied (422, ModuleFailed): …`.
pub(super) fn denial_text(denial: &Denial) -> String {
    format!("denied ({}, {}): {}", denial.reason.code(), denial.reason.name(), denial.message)
}

/// Writes the log lines of modules to stderr.
pub(super) fn print_logs(runs: &[ModuleRun]) {
    for (run, log) in runs.iter().flat_map(|run| run.logs.iter().map(move |log| (run, log))) {
        errln!("module {}: {}", run.name, log.message);
    }
}

fn print(output: Output, mutation: &Mutation<'_>, prefix: &str, index: usize, arena: &Bump) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let after = mutation.steps.last();
    match output {
        Output::Yaml => {
            let separator = if index > 0 { "---\n" } else { "" };
            write!(out, "{separator}{}", yaml::text(after))?;
        }
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&after)?)?,
        Output::Patch => writeln!(out, "{}", serde_json::to_string(mutation.operations)?)?,
        Output::Diff => {
            let (before, after) = (Side::new(mutation.steps.submitted, arena), Side::new(after, arena));
            print_label(&mut out, prefix)?;
            write!(out, "{}", diff::text(&before, &after, &mutation.steps.changes(arena), ""))?;
        }
        Output::Provenance => {
            print_label(&mut out, prefix)?;
            for change in mutation.steps.changes(arena) {
                let removed = if change.removed { " removed" } else { "" };
                writeln!(out, "{}{removed} by {}", change.path, change.source)?;
            }
        }
    }
    Ok(())
}

/// Writes the label of one of several results as a comment.
fn print_label(out: &mut impl Write, prefix: &str) -> std::io::Result<()> {
    match prefix.strip_suffix(": ") {
        Some(label) => writeln!(out, "# {label}"),
        None => Ok(()),
    }
}
