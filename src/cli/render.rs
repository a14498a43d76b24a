//! `podgraft render`: the offline twin of the webhook.
//!
//! A manifest becomes the review that the API server would send, the same code answers it, and what is printed
//! comes out of that answer.

use std::io::Write;
use std::process::ExitCode;

use bumpalo::Bump;
use clap::ValueEnum;

use super::diff::{self, Side};
use super::input::{Manifest, Manifests};
use super::load::Configuration;
use crate::explain::simulate;
use crate::explain::yaml;
use crate::model::denial::Denial;
use crate::model::snapshot::Snapshot;
use crate::mutate::{ModuleRun, Mutation};

/// Show what the webhook would do to a pod, without any cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  What changes, and who changes it:
    podgraft render -f pod.yaml --config podgraft.yaml --policies policies -o diff

  A Job's pod as the Job controller would send it, the operations as the webhook would reply:
    podgraft render -f job.yaml --config podgraft.yaml -o patch

  All pods and Jobs of a chart, in one namespace:
    helm template release chart | podgraft render -f - --namespace ml --config config

  For a namespace with the label pod-security.kubernetes.io/warn:
    podgraft render -f pod.yaml --config podgraft.yaml --policies policies --pod-security baseline

Exit codes: 0 done, 1 a pod was rejected, 2 wrong usage or configuration.")]
pub(super) struct Args {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    configuration: Configuration,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// The forms of the result.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// the pod as it comes back
    Yaml,
    /// the same as JSON
    Json,
    /// the RFC 6902 operations, byte for byte as the webhook's reply carries them
    Patch,
    /// before and after, each changed line with the layer or module that made it
    Diff,
    /// who touched which field
    Provenance,
}

/// Runs the command. Exit code 0 is done, 1 is a rejected pod; an error is wrong usage or configuration.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.configuration.load()?;
    let given = args.manifests.read(&snapshot)?;
    let several = given.len() > 1;
    let mut rejected = false;
    for (index, one) in given.iter().enumerate() {
        let who = if several { format!("{}: ", one.label) } else { String::new() };
        rejected |= !show(one, &who, index, args.output, &snapshot)?;
    }
    Ok(if rejected { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Renders one manifest and prints it; `who` stands before what is said of it. False is rejected.
fn show(given: &Manifest, who: &str, index: usize, output: Output, snapshot: &Snapshot) -> anyhow::Result<bool> {
    let arena = Bump::new();
    let answered =
        simulate::answer(&given.body, snapshot, &arena).map_err(|why| anyhow::anyhow!("{}: {why}", given.label))?;
    say_logs(&answered.runs);
    let mutation = match answered.result {
        Ok(Some(mutation)) => {
            if let Some(note) = &mutation.notice {
                tell!("{who}{note}");
            }
            if mutation.operations.is_empty() {
                tell!("{who}nothing to change");
            }
            mutation
        }
        Ok(None) => {
            tell!("{who}not a task pod of this configuration: left as it is");
            Mutation::none(answered.review.object)
        }
        Err(rejection) => {
            tell!("{who}{}", refusal(&rejection));
            return Ok(false);
        }
    };
    print(output, &mutation, who, index, &arena)?;
    Ok(true)
}

/// A rejection as people read it.
pub(super) fn refusal(rejection: &Denial) -> String {
    format!("rejected ({}, {}): {}", rejection.reason.code(), rejection.reason.name(), rejection.message)
}

/// What modules logged, on stderr.
pub(super) fn say_logs(runs: &[ModuleRun]) {
    for (run, log) in runs.iter().flat_map(|run| run.logs.iter().map(move |log| (run, log))) {
        tell!("module {}: {}", run.name, log.message);
    }
}

fn print(output: Output, mutation: &Mutation<'_>, who: &str, index: usize, arena: &Bump) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let after = mutation.steps.last();
    match output {
        Output::Yaml => {
            let mark = if index > 0 { "---\n" } else { "" };
            write!(out, "{mark}{}", yaml::text(after))?;
        }
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&after)?)?,
        Output::Patch => writeln!(out, "{}", serde_json::to_string(mutation.operations)?)?,
        Output::Diff => {
            let (before, after) = (Side::new(mutation.steps.submitted, arena), Side::new(after, arena));
            head(&mut out, who)?;
            write!(out, "{}", diff::text(&before, &after, &mutation.steps.changes(arena), ""))?;
        }
        Output::Provenance => {
            head(&mut out, who)?;
            for touch in mutation.steps.changes(arena) {
                let removed = if touch.removed { " removed" } else { "" };
                writeln!(out, "{}{removed} by {}", touch.path, touch.source)?;
            }
        }
    }
    Ok(())
}

/// Tells several diffs apart.
fn head(out: &mut impl Write, who: &str) -> std::io::Result<()> {
    match who.strip_suffix(": ") {
        Some(label) => writeln!(out, "# {label}"),
        None => Ok(()),
    }
}
