//! `podgraft module bench`: measures the calls of a module.

use std::io::Write as _;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bumpalo::Bump;

use super::call::Subject;
use super::size;
use crate::cli::render::denial_text;
use crate::explain::simulate;
use crate::model::hook::{Budget, Execution, Hook, HookRequest};
use crate::wasm::{Engine, RecordedCall};

/// A module that returns `unchanged` at once; `empty.wat` is its text.
const EMPTY: &[u8] = include_bytes!("empty.wasm");

/// The number of calls before the measured ones: the first calls meet cold caches and unmapped pages.
const WARM_UP: u32 = 50;

/// Measure the time and memory of a module's calls.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every call has its own instance, as in the webhook. Calls of an empty module alternate with
those of the module: its time is the overhead of podgraft and wasmtime, and the ratio of both
is comparable between machines.

Examples:
  podgraft module bench policies/inject-nfs.wasm -f pod.yaml --task-config @vault.yaml
  podgraft module bench my-module.wasm -f pod.yaml --queue train --calls 50000

Exit codes: 0 done, 1 the module or podgraft denied the pod, 2 wrong usage or file.")]
pub(super) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Number of calls
    #[arg(long, value_name = "N", default_value = "5000")]
    calls: NonZero<u32>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let engine = Engine::new()?;
    let call = args.subject.prepare(&engine)?;
    let arena = Bump::new();
    let answered = simulate::answer(&call.body, &call.snapshot, &arena).map_err(anyhow::Error::msg)?;
    if let Err(denial) = answered.result {
        errln!("{}", denial_text(&denial));
        return Ok(ExitCode::from(1));
    }
    let Some(recorded) = call.recording.last() else {
        bail!("the review creates no task pod, so no module runs");
    };
    let compiled = |name: &str, bytes: &[u8]| engine.compile(name, bytes).map_err(anyhow::Error::msg);
    let module = compiled(&call.name, &args.subject.bytes()?)?;
    let empty = compiled("empty", EMPTY)?;
    let [own, baseline] = times(&[module, empty], &recorded, call.budget, args.calls.get())?;
    write!(anstream::stdout().lock(), "{}", table(&own, &baseline, &recorded, call.budget))?;
    Ok(ExitCode::SUCCESS)
}

/// Measures both modules, and returns their sorted times. The calls alternate, so that other load on the machine affects
/// both.
fn times(
    modules: &[Arc<dyn Hook>; 2],
    recorded: &RecordedCall,
    budget: Budget,
    calls: u32,
) -> anyhow::Result<[Vec<Duration>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..WARM_UP + calls {
        for (module, times) in modules.iter().zip(&mut times) {
            let response = module.call(&HookRequest {
                request: &recorded.request,
                template: &recorded.template,
                task_config: &recorded.task_config,
                budget,
                execution: Execution::Pooled(&|| Duration::MAX),
            });
            if let Err(error) = response.result {
                bail!("in call {}, the module {error}", round + 1);
            }
            if round >= WARM_UP {
                times.push(response.elapsed);
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    Ok(times)
}

fn table(own: &[Duration], baseline: &[Duration], recorded: &RecordedCall, budget: Budget) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let calls = u32::try_from(own.len()).unwrap_or(u32::MAX);
    let rate = f64::from(calls) / own.iter().sum::<Duration>().as_secs_f64();
    let (p50, floor) = (micros(percentile(own, 50)), micros(percentile(baseline, 50)));
    format!(
        "calls:     {calls} one after the other, each with its own instance\n\
         rate:      {rate:.0} a second on one thread\n\
         time:      p50 {p50:.1} µs, p99 {:.1} µs\n\
         memory:    {} of {}\n\
         baseline:  p50 {floor:.1} µs for an empty module; this module takes {:.1} times that\n",
        micros(percentile(own, 99)),
        size(recorded.memory),
        size(budget.memory),
        p50 / floor,
    )
}

/// Returns a percentile of sorted times; zero if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test the_empty_module` assembles the file again.
    #[test]
    fn the_empty_module_matches_its_text() {
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
