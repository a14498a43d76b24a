//! `podgraft module run`: runs one module over a pod, without layers.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::call::Subject;
use super::size;
use crate::cli::diff::{self, Side};
use crate::cli::render::{denial_text, print_logs};
use crate::explain::simulate;
use crate::mutate::Mutation;
use crate::wasm::{Engine, RecordedCall};

/// Run one module over a pod, and show its log, its result and the changed pod.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The module runs as in the webhook: with its arguments, budget (default: 200 ms, 64 MiB) and checks
of the result, and with `***` for env values, arguments and configuration in its log and
errors. No layers are applied; `podgraft render` applies layers and modules.

Examples:
  podgraft module run policies/inject-nfs.wasm -f pod.yaml --task-config @vault.yaml
  podgraft module run policies/ad-role.wasm -f pod.yaml --params @params.yaml --providers @info.yaml
  podgraft module run my-module.wasm -f pod.yaml --queue train -o input

Exit codes: 0 done, 1 the module or podgraft denied the pod, 2 wrong usage or file.")]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Diff)]
    output: Output,
}

/// The output formats.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// a diff of the pod
    Diff,
    /// the result of the module
    Json,
    /// the arguments of the module: request, template and task configuration
    Input,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let engine = Engine::new()?;
    let call = args.subject.prepare(&engine)?;
    let arena = Bump::new();
    let answered = simulate::answer(&call.body, &call.snapshot, &arena).map_err(anyhow::Error::msg)?;
    print_logs(&answered.runs);
    let Some(recorded) = call.recording.last() else {
        bail!("the review creates no task pod, so no module runs");
    };
    let used = format!(
        "{:.2} ms for this first call, {} of memory",
        recorded.elapsed.as_secs_f64() * 1e3,
        size(recorded.memory)
    );
    if matches!(args.output, Output::Input) {
        print(&input(&recorded))?;
    }
    let mutation = match answered.result {
        Ok(Some(mutation)) => mutation,
        Ok(None) => bail!("the review creates no task pod, so no module runs"),
        Err(denial) => {
            errln!("{}\nmodule {}: {used}", denial_text(&denial), call.name);
            return Ok(ExitCode::from(1));
        }
    };
    let (outcome, text) = recorded.returned.as_ref().context("the module did not run")?;
    match args.output {
        Output::Diff => show(&mutation, &arena)?,
        Output::Json => print(&json!({*outcome: value(text)}))?,
        Output::Input => {}
    }
    errln!("module {}: {}; {used}", call.name, describe(outcome, text));
    Ok(ExitCode::SUCCESS)
}

fn describe(outcome: &str, text: &str) -> String {
    if text.is_empty() { outcome.to_owned() } else { format!("{outcome} of {} bytes", text.len()) }
}

fn input(call: &RecordedCall) -> Value {
    json!({"request": value(&call.request), "template": value(&call.template), "task_config": &*call.task_config})
}

/// Parses JSON text that was valid before; an empty text gives null.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn print(value: &Value) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}

fn show(mutation: &Mutation<'_>, arena: &Bump) -> anyhow::Result<()> {
    let (before, after) = (Side::new(mutation.steps.submitted, arena), Side::new(mutation.steps.last(), arena));
    let text = diff::text(&before, &after, &mutation.steps.changes(arena), "");
    Ok(write!(anstream::stdout().lock(), "{text}")?)
}
