//! `podgraft module bench`.

use std::io::Write as _;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bumpalo::Bump;

use super::call::Subject;
use super::size;
use crate::cli::render::refusal;
use crate::explain::simulate;
use crate::model::hook::Budget;
use crate::model::hook::{Execution, Hook, HookRequest};
use crate::wasm::{Engine, RecordedCall};

/// A module that returns `unchanged` at once; `empty.wat` is its text.
const EMPTY: &[u8] = include_bytes!("empty.wasm");

/// Calls before those that count: the first ones meet cold caches and pages that are not there yet.
const WARM_UP: u32 = 50;

/// Measure what a call of a module costs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every call has an instance of its own, as in the webhook. A module that does nothing is
called in turn with it: what both cost is podgraft's and wasmtime's, and the ratio
holds on other machines, too.

Examples:
  podgraft module bench policies/inject-nfs.wasm -f pod.yaml --task-config @vault.yaml
  podgraft module bench my-module.wasm -f pod.yaml --queue train --calls 50000

Exit codes: 0 done, 1 the module or podgraft refused the pod, 2 wrong usage or file.")]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// How many calls
    #[arg(long, value_name = "N", default_value = "5000")]
    calls: NonZero<u32>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let engine = Engine::new()?;
    let call = args.subject.prepare(&engine)?;
    let arena = Bump::new();
    let answered = simulate::answer(&call.body, &call.snapshot, &arena).map_err(anyhow::Error::msg)?;
    if let Err(rejection) = answered.result {
        tell!("{}", refusal(&rejection));
        return Ok(ExitCode::from(1));
    }
    let Some(seen) = call.trial.last() else {
        bail!("this is no creation of a task pod, so no module would run");
    };
    let compiled = |name: &str, bytes: &[u8]| engine.compile(name, bytes).map_err(anyhow::Error::msg);
    let module = compiled(&call.name, &args.subject.bytes()?)?;
    let empty = compiled("empty", EMPTY)?;
    let [own, baseline] = times(&[module, empty], &seen, call.budget, args.calls.get())?;
    write!(anstream::stdout().lock(), "{}", table(&own, &baseline, &seen, call.budget))?;
    Ok(ExitCode::SUCCESS)
}

/// The times of each, sorted: called in turn, so that whatever else the machine does meets both.
fn times(
    modules: &[Arc<dyn Hook>; 2],
    seen: &RecordedCall,
    budget: Budget,
    calls: u32,
) -> anyhow::Result<[Vec<Duration>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + calls {
        for (module, times) in modules.iter().zip(&mut times) {
            let rendered = module.call(&HookRequest {
                request: &seen.request,
                template: &seen.template,
                task_config: &seen.task_config,
                budget,
                execution: Execution::Pooled(&|| Duration::MAX),
            });
            if let Err(fault) = rendered.result {
                bail!("in call {}, the module {fault}", round + 1);
            }
            if round >= WARM_UP {
                times.push(rendered.elapsed);
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    Ok(times)
}

fn table(own: &[Duration], baseline: &[Duration], seen: &RecordedCall, budget: Budget) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let calls = u32::try_from(own.len()).unwrap_or(u32::MAX);
    let rate = f64::from(calls) / own.iter().sum::<Duration>().as_secs_f64();
    let (p50, floor) = (micros(percentile(own, 50)), micros(percentile(baseline, 50)));
    format!(
        "calls:     {calls} one after the other, each in an instance of its own\n\
         rate:      {rate:.0} a second on one thread\n\
         time:      p50 {p50:.1} µs, p99 {:.1} µs\n\
         memory:    {} of {}\n\
         baseline:  p50 {floor:.1} µs for a module that does nothing; this one takes {:.1} times that\n",
        micros(percentile(own, 99)),
        size(seen.memory),
        size(budget.memory),
        p50 / floor,
    )
}

/// Of sorted times; there is one at least.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test the_empty_module` assembles it again.
    #[test]
    fn the_empty_module_is_what_its_text_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/module/empty.wat");
        let assembled = wat::parse_file(file).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file.replace(".wat", ".wasm"), &assembled).unwrap();
        }
        assert_eq!(assembled, EMPTY);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!([50, 99].map(|percent| percentile(&times, percent).as_micros()), [101, 199]);
        assert_eq!(percentile(&times[..1], 99).as_micros(), 1);
    }
}
