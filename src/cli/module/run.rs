//! `podgraft module run`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::call::Subject;
use super::size;
use crate::cli::diff::{self, Side};
use crate::cli::render::{refusal, say_logs};
use crate::explain::simulate;
use crate::mutate::Mutation;
use crate::wasm::{Engine, RecordedCall};

/// Run a module over a pod, alone: what it logs, what it returns, what that does to the pod.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The module runs as in the webhook: the same arguments, budget (200 ms, 64 MiB, unless given), checks
of what it returns, and `***` for env values, arguments and configuration in what it
logs or refuses with. Layers are left out; `podgraft render` shows all together.

Examples:
  podgraft module run policies/inject-nfs.wasm -f pod.yaml --task-config @vault.yaml
  podgraft module run policies/ad-role.wasm -f pod.yaml --params @params.yaml --providers @info.yaml
  podgraft module run my-module.wasm -f pod.yaml --queue train -o input

Exit codes: 0 done, 1 the module or podgraft refused the pod, 2 wrong usage or file.")]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// What to print
    #[arg(short, long, value_enum, default_value_t = Output::Diff)]
    output: Output,
}

/// The forms of the result.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    /// the pod before and after
    Diff,
    /// what the module returned
    Json,
    /// what the module is given: request, template and task configuration
    Input,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let engine = Engine::new()?;
    let call = args.subject.prepare(&engine)?;
    let arena = Bump::new();
    let answered = simulate::answer(&call.body, &call.snapshot, &arena).map_err(anyhow::Error::msg)?;
    say_logs(&answered.runs);
    let Some(seen) = call.trial.last() else {
        bail!("this is no creation of a task pod, so no module would run");
    };
    let used =
        format!("{:.2} ms for this first call, {} of memory", seen.elapsed.as_secs_f64() * 1e3, size(seen.memory));
    if matches!(args.output, Output::Input) {
        print(&input(&seen))?;
    }
    let mutation = match answered.result {
        Ok(Some(mutation)) => mutation,
        Ok(None) => bail!("this is no creation of a task pod, so no module would run"),
        Err(rejection) => {
            tell!("{}\nmodule {}: {used}", refusal(&rejection), call.name);
            return Ok(ExitCode::from(1));
        }
    };
    let (outcome, text) = seen.returned.as_ref().context("the module did not run")?;
    match args.output {
        Output::Diff => show(&mutation, &arena)?,
        Output::Json => print(&json!({*outcome: value(text)}))?,
        Output::Input => {}
    }
    tell!("module {}: {}; {used}", call.name, described(outcome, text));
    Ok(ExitCode::SUCCESS)
}

fn described(outcome: &str, text: &str) -> String {
    if text.is_empty() { outcome.to_owned() } else { format!("{outcome} of {} bytes", text.len()) }
}

fn input(seen: &RecordedCall) -> Value {
    json!({"request": value(&seen.request), "template": value(&seen.template), "task_config": &*seen.task_config})
}

/// JSON text as a value; what comes here has been read once already, or is nothing.
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
