//! `podgraft render`: the offline twin of the webhook.
//!
//! A manifest becomes the review that the API server would send, the same code answers it, and what is printed
//! comes out of that answer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, bail};
use bumpalo::Bump;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use crate::json::Json;
use crate::mutate::{self, Mutation, Stop};
use crate::provenance::{Touch, is_within};
use crate::render::Pace;
use crate::review::Review;
use crate::snapshot::Snapshot;
use crate::yaml::{self, Line};
use crate::{task, watch};

/// Shows what the webhook would do to a pod, without any cluster.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  podgraft render -f pod.yaml --config podgraft.yaml -o diff")]
pub struct RenderArgs {
    /// Pod manifest (YAML or JSON) or AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|REVIEW")]
    pub filename: PathBuf,
    /// Configuration file, or folder of configuration files
    #[arg(long, value_name = "FILE|DIR")]
    pub config: PathBuf,
    /// Folder with the template modules (*.wasm)
    #[arg(long, value_name = "DIR")]
    pub policies: Option<PathBuf>,
    /// The pod's namespace; default: the manifest's own, else `default`
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Who creates the pod; default: a submitter of its task system, whose word counts
    #[arg(long = "as", value_name = "USER")]
    pub user: Option<String>,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
}

/// The forms of the result.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Output {
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
pub fn run(args: &RenderArgs) -> anyhow::Result<ExitCode> {
    let snapshot = watch::load_once(&args.config, args.policies.as_deref())?;
    let body = review_text(&read(&args.filename)?, args, &snapshot)?;
    let arena = Bump::new();
    let review = Review::parse(&body, &arena).map_err(anyhow::Error::msg)?;
    // Nobody waits behind this: modules may take all of their budget.
    let left = || Duration::from_secs(10);
    let mut runs = Vec::new();
    let result = mutate::mutate(&review, &snapshot, Pace::Patient(&left), &mut runs, &arena);
    for log in runs.iter().flat_map(|run| run.logs.iter().map(move |log| (run, log))) {
        anstream::eprintln!("module {}: {}", log.0.name, log.1.message);
    }
    match result {
        Ok(Some(mutation)) => print(args.output, &mutation, &arena)?,
        Ok(None) => {
            anstream::eprintln!("not a task pod of this configuration: left as it is");
            print_untouched(args.output, review.object, &arena)?;
        }
        Err(Stop::Rejected(rejection)) => {
            anstream::eprintln!("rejected ({}, {}): {}", rejection.reason.code(), rejection.reason.name(), rejection.message);
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

/// The review of what was given: itself, or one made around a pod as the API server would.
fn review_text(text: &str, args: &RenderArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<u8>> {
    let file = args.filename.display();
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let given: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(_) => serde_saphyr::from_str_with_options(text, options).map_err(|error| anyhow::anyhow!("{file}: {error}"))?,
    };
    match given["kind"].as_str() {
        Some("AdmissionReview") if args.user.is_none() && args.namespace.is_none() => Ok(text.as_bytes().to_vec()),
        Some("AdmissionReview") => {
            let mut review = given;
            if let Some(user) = &args.user {
                review["request"]["userInfo"] = json!({"username": user});
            }
            if let Some(namespace) = &args.namespace {
                review["request"]["namespace"] = json!(namespace);
            }
            Ok(serde_json::to_vec(&review)?)
        }
        Some("Pod") => Ok(serde_json::to_vec(&around(without_nulls(given), args, snapshot))?),
        Some(other) => bail!("{file}: is a {other}; a Pod or an AdmissionReview is expected"),
        None => bail!("{file}: has no kind; a Pod or an AdmissionReview is expected"),
    }
}

fn around(pod: Value, args: &RenderArgs, snapshot: &Snapshot) -> Value {
    let own = pod["metadata"]["namespace"].as_str();
    let namespace = args.namespace.as_deref().or(own).unwrap_or("default").to_owned();
    let user = args.user.clone().unwrap_or_else(|| {
        let arena = Bump::new();
        let seen = task::Pod { object: Json::lift(&pod, &arena), namespace: &namespace };
        task::a_submitter(&seen, snapshot).unwrap_or_default()
    });
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "render",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "name": pod["metadata"]["name"],
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": user},
            "object": pod,
        }
    })
}

/// The API server drops `null` from what it is sent, and charts render many.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            Value::Object(members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

fn print(output: Output, mutation: &Mutation<'_>, arena: &Bump) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    let after = mutation.steps.last();
    match output {
        Output::Yaml => write!(out, "{}", yaml::text(after))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&after)?)?,
        Output::Patch => writeln!(out, "{}", serde_json::to_string(mutation.operations)?)?,
        Output::Diff => write!(out, "{}", coloured_diff(mutation, arena))?,
        Output::Provenance => {
            for touch in mutation.steps.touches(arena) {
                let verb = if touch.removed { "removed by" } else { "by" };
                writeln!(out, "{} {verb} {}", touch.path, touch.source)?;
            }
        }
    }
    Ok(())
}

fn print_untouched(output: Output, pod: Json<'_>, arena: &Bump) -> anyhow::Result<()> {
    let steps = crate::provenance::Steps { submitted: pod, steps: Vec::new() };
    print(output, &Mutation { operations: &[], steps, applied: String::new(), queue: None }, arena)
}

/// The changed lines with three lines around them, and behind each who made it.
pub fn coloured_diff<'a>(mutation: &Mutation<'a>, arena: &'a Bump) -> String {
    let before = shown(mutation.steps.submitted, arena);
    let after = shown(mutation.steps.last(), arena);
    let touches = mutation.steps.touches(arena);
    let texts = |lines: &[Line]| lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
    let (old, new) = (texts(&before), texts(&after));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.iter().map(String::as_str).collect(), new.iter().map(String::as_str).collect());
    let diff = TextDiff::from_slices(&old, &new);
    let width = after.iter().map(|line| line.text.chars().count().min(WIDEST)).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (index, group) in diff.grouped_ops(3).iter().enumerate() {
        if index > 0 {
            text.push_str(&painted(AnsiColor::BrightBlack, "  ⋮"));
        }
        for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
            let line = match (change.old_index(), change.new_index()) {
                (_, Some(index)) => &after[index],
                (Some(index), None) => &before[index],
                (None, None) => continue,
            };
            text.push_str(&match change.tag() {
                ChangeTag::Equal => format!("  {}\n", line.text),
                ChangeTag::Insert => painted(AnsiColor::Green, &signed('+', line, &touches, width)),
                ChangeTag::Delete => painted(AnsiColor::Red, &signed('-', line, &touches, width)),
            });
        }
    }
    text
}

/// Longer lines (a task's arguments) do not push the notes off the screen.
const WIDEST: usize = 72;

fn painted(color: AnsiColor, line: &str) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{line}{style:#}\n")
}

fn signed(sign: char, line: &Line, touches: &[Touch], width: usize) -> String {
    let covers = touches.iter().rev().find(|touch| is_within(&line.path, &touch.path));
    let touch = covers.or_else(|| touches.iter().rev().find(|touch| is_within(&touch.path, &line.path)));
    let note = touch.map_or_else(String::new, |touch| format!("# {}", touch.source));
    format!("{sign} {:width$}{note}", line.text)
}

/// The pod as people want to see it: bookkeeping that nobody reads is left out.
fn shown<'a>(pod: Json<'a>, arena: &'a Bump) -> Vec<Line> {
    let metadata = pod.get("metadata").unwrap_or(Json::Object(&[]));
    let annotations = metadata.get("annotations").unwrap_or(Json::Object(&[]));
    let annotations = annotations.without(crate::review::LAST_APPLIED, arena);
    let metadata = metadata.without("managedFields", arena);
    let metadata = if metadata.get("annotations").is_some() { metadata.with("annotations", annotations, arena) } else { metadata };
    yaml::lines(pod.with("metadata", metadata, arena).without("status", arena), arena)
}
