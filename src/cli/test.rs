//! `podgraft test`: case folders, for whoever writes a configuration as for podgraft itself (`tests/cases.rs`).

mod case;
mod junit;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, bail};

pub use case::{Case, Suite, Verdict, find};

use super::load::{counted, load};

/// Run case folders: a pod and a configuration go in, the pod or the refusal that is written down must come out.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A case is a folder with
  pod.yaml or review.json           what is sent: a Pod, a Job or an AdmissionReview
  expected.yaml or denial.txt       what must come back
  config.yaml or config/            its configuration, unless --config gives one for all
  as.txt                            who sends it, unless a submitter of its task system does
  pod-security.txt                  the Pod Security level by which its namespace warns, as `restricted`
Each case is sent a second time with what came out: that must change nothing more.

Examples:
  All cases below a folder, each with its own configuration:
    podgraft test tests/cases --policies policies

  The configuration that is about to go live, in CI:
    podgraft test cases --config podgraft.yaml --policies policies --junit results.xml

  Write down what comes out of those whose name holds gpu, to be read in the diff of the commit:
    podgraft test cases --config podgraft.yaml --only gpu --update

Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.")]
pub(super) struct Args {
    /// Folder with case folders, at any depth, or one case
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Configuration file or folder for the cases that bring none
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
    /// Folder with the template modules (*.wasm)
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Only the cases whose name holds this; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write what comes out into expected.yaml or denial.txt
    #[arg(long)]
    update: bool,
    /// Also write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// A case that was run.
struct Ran {
    name: String,
    elapsed: Duration,
    failure: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cases = chosen(args)?;
    let config = match &args.config {
        Some(path) => Some(load(path, args.policies.as_deref())?),
        None => None,
    };
    let suite = Suite { config, policies: args.policies.clone(), update: args.update };
    let mut out = anstream::stdout().lock();
    // Who reads the first lines only, as `| head` does, still gets the files.
    let writes = args.junit.is_some() || args.update;
    let mut told = Ok(());
    let mut results = Vec::new();
    let mut updated = 0;
    for case in &cases {
        if told.is_err() && !writes {
            break;
        }
        let start = Instant::now();
        let verdict = case.run(&suite).unwrap_or_else(|error| Verdict::Failed(format!("{error:#}\n")));
        let elapsed = start.elapsed();
        updated += usize::from(verdict == Verdict::Updated);
        told = told.and_then(|()| show(&mut out, &case.name, &verdict));
        let failure = if let Verdict::Failed(why) = verdict { Some(why) } else { None };
        results.push(Ran { name: case.name.clone(), elapsed, failure });
    }
    let failed = results.iter().filter(|ran| ran.failure.is_some()).count();
    told = told.and_then(|()| summarise(&mut out, results.len(), failed, updated));
    if let Some(path) = &args.junit {
        let text = junit::text(&args.folder.display().to_string(), &results);
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    told?;
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn chosen(args: &Args) -> anyhow::Result<Vec<Case>> {
    let mut cases = find(&args.folder)?;
    let folder = args.folder.display();
    if cases.is_empty() {
        bail!("{folder} holds no case: a folder with pod.yaml or review.json, and expected.yaml or denial.txt");
    }
    if !args.only.is_empty() {
        let all = counted(cases.len(), "case");
        cases.retain(|case| args.only.iter().any(|text| case.name.contains(text)));
        if cases.is_empty() {
            bail!("none of the {all} in {folder} has {} in its name", args.only.join(" or "));
        }
    }
    Ok(cases)
}

fn show(out: &mut impl Write, name: &str, verdict: &Verdict) -> io::Result<()> {
    let (word, color) = match verdict {
        Verdict::Passed => ("ok     ", AnsiColor::Green),
        Verdict::Updated => ("updated", AnsiColor::Yellow),
        Verdict::Failed(_) => ("FAILED ", AnsiColor::Red),
    };
    let style = Style::new().fg_color(Some(color.into()));
    writeln!(out, "{style}{word}{style:#} {name}")?;
    if let Verdict::Failed(why) = verdict {
        for line in why.lines() {
            writeln!(out, "        {line}")?;
        }
    }
    Ok(())
}

/// `12 cases: 10 passed, 1 updated, 1 failed`
fn summarise(out: &mut impl Write, all: usize, failed: usize, updated: usize) -> io::Result<()> {
    write!(out, "{}: {} passed", counted(all, "case"), all - failed - updated)?;
    for (count, word) in [(updated, "updated"), (failed, "failed")] {
        if count > 0 {
            write!(out, ", {count} {word}")?;
        }
    }
    writeln!(out)
}
