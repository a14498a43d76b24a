//! `podgraft render`: the offline twin of the webhook.
//!
//! A manifest becomes the review that the API server would send, the same code answers it, and what is printed
//! comes out of that answer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use clap::ValueEnum;
use serde_json::Value;

use super::diff::{self, Side};
use super::load::load;
use crate::json::Json;
use crate::mutate::{self, Mutation, Stop};
use crate::offline;
use crate::offline::Sender;
use crate::render::Pace;
use crate::review::Review;
use crate::snapshot::Snapshot;
use crate::yaml;

/// Shows what the webhook would do to a pod, without any cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  podgraft render -f pod.yaml --config podgraft.yaml -o diff")]
pub(super) struct Args {
    /// Pod manifest (YAML or JSON) or AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|REVIEW")]
    filename: PathBuf,
    /// Configuration file, or folder of configuration files
    #[arg(long, value_name = "FILE|DIR")]
    config: PathBuf,
    /// Folder with the template modules (*.wasm)
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The pod's namespace; default: the manifest's own, else `default`
    #[arg(short, long)]
    namespace: Option<String>,
    /// Who creates the pod; default: a submitter of its task system, whose word counts
    #[arg(long = "as", value_name = "USER")]
    user: Option<String>,
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
    let snapshot = load(&args.config, args.policies.as_deref())?;
    let body = review_text(read(&args.filename)?, args, &snapshot)?;
    let arena = Bump::new();
    let review = Review::parse(&body, &arena).map_err(|why| anyhow::anyhow!("{}: {why}", args.filename.display()))?;
    // Nobody waits behind this: modules may take all of their budget.
    let left = || Duration::from_secs(10);
    let mut runs = Vec::new();
    let result = mutate::mutate(&review, &snapshot, Pace::Patient(&left), &mut runs, &arena);
    for log in runs.iter().flat_map(|run| run.logs.iter().map(move |log| (run, log))) {
        anstream::eprintln!("module {}: {}", log.0.name, log.1.message);
    }
    match result {
        Ok(Some(mutation)) => {
            if let Some(note) = &mutation.note {
                anstream::eprintln!("{note}");
            }
            if mutation.operations.is_empty() {
                anstream::eprintln!("nothing to change");
            }
            print(args.output, &mutation, &arena)?;
        }
        Ok(None) => {
            anstream::eprintln!("not a task pod of this configuration: left as it is");
            print_untouched(args.output, review.object, &arena)?;
        }
        Err(Stop::Rejected(rejection)) => {
            anstream::eprintln!(
                "rejected ({}, {}): {}",
                rejection.reason.code(),
                rejection.reason.name(),
                rejection.message
            );
            return Ok(ExitCode::from(1));
        }
        Err(Stop::Slow(module)) => bail!("module {module} did not run"),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).context("standard input cannot be read");
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The review that the webhook would be sent.
fn review_text(text: String, args: &Args, snapshot: &Snapshot) -> anyhow::Result<Vec<u8>> {
    let file = args.filename.display();
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let given: Value = match serde_json::from_str(&text) {
        Ok(value) => value,
        Err(_) => {
            serde_saphyr::from_str_with_options(&text, options).map_err(|error| anyhow::anyhow!("{file}: {error}"))?
        }
    };
    let sender = Sender { namespace: args.namespace.as_deref(), user: args.user.as_deref() };
    if given["kind"] == "AdmissionReview" && sender.namespace.is_none() && sender.user.is_none() {
        return Ok(text.into_bytes()); // the very bytes that the webhook got
    }
    let review = offline::review(given, sender, snapshot).map_err(|why| anyhow::anyhow!("{file}: {why}"))?;
    Ok(serde_json::to_vec(&review)?)
}

fn print(output: Output, mutation: &Mutation<'_>, arena: &Bump) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let after = mutation.steps.last();
    match output {
        Output::Yaml => write!(out, "{}", yaml::text(after))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&after)?)?,
        Output::Patch => writeln!(out, "{}", serde_json::to_string(mutation.operations)?)?,
        Output::Diff => {
            let side = |pod| Side::new(pod, arena);
            let (before, after) = (side(mutation.steps.submitted), side(after));
            write!(out, "{}", diff::text(&before, &after, &mutation.steps.touches(arena), ""))?;
        }
        Output::Provenance => {
            for touch in mutation.steps.touches(arena) {
                let removed = if touch.removed { " removed" } else { "" };
                writeln!(out, "{}{removed} by {}", touch.path, touch.source)?;
            }
        }
    }
    Ok(())
}

fn print_untouched(output: Output, pod: Json<'_>, arena: &Bump) -> anyhow::Result<()> {
    print(output, &Mutation::untouched(pod), arena)
}
