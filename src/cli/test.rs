//! `podgraft test`: runs case folders. `tests/cases.rs` runs those of this repository.

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

/// Run case folders: send a pod through a configuration and compare the result with the expected pod or denial.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A case is a folder with
  pod.yaml or review.json           the manifest: a Pod, a Job or an AdmissionReview
  expected.yaml or denial.txt       the expected pod or denial
  config.yaml or config/            its configuration (default: that of --config)
  as.txt                            the user who creates the pod (default: a submitter of its task system)
  pod-security.txt                  the Pod Security level of its namespace, such as `restricted` (default: none)
The result of each case is sent a second time, which must change nothing.

Examples:
  All cases below a folder, each with its own configuration:
    podgraft test tests/cases --policies policies

  A configuration before it goes live, in CI:
    podgraft test cases --config podgraft.yaml --policies policies --junit results.xml

  Write the results of the cases with gpu in their name as expected results:
    podgraft test cases --config podgraft.yaml --only gpu --update

Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.")]
pub(super) struct Args {
    /// Folder with case folders, at any depth, or one case
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Configuration file or folder for cases without their own
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
    /// Folder with the template modules (*.wasm)
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Run only the cases with this text in their name; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write the results into expected.yaml or denial.txt
    #[arg(long)]
    update: bool,
    /// Also write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The result of a case.
struct CaseResult {
    name: String,
    elapsed: Duration,
    failure: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let cases = selected_cases(args)?;
    let config = match &args.config {
        Some(path) => Some(load(path, args.policies.as_deref())?),
        None => None,
    };
    let suite = Suite { config, policies: args.policies.clone(), update: args.update };
    let mut out = anstream::stdout().lock();
    // if the reader of stdout is gone (`| head`), the files are still written
    let writes_files = args.junit.is_some() || args.update;
    let mut printed = Ok(());
    let mut results = Vec::new();
    let mut updated = 0;
    for case in &cases {
        if printed.is_err() && !writes_files {
            break;
        }
        let start = Instant::now();
        let verdict = case.run(&suite).unwrap_or_else(|error| Verdict::Failed(format!("{error:#}\n")));
        let elapsed = start.elapsed();
        updated += usize::from(verdict == Verdict::Updated);
        printed = printed.and_then(|()| show(&mut out, &case.name, &verdict));
        let failure = if let Verdict::Failed(reason) = verdict { Some(reason) } else { None };
        results.push(CaseResult { name: case.name.clone(), elapsed, failure });
    }
    let failed = results.iter().filter(|result| result.failure.is_some()).count();
    printed = printed.and_then(|()| summarize(&mut out, results.len(), failed, updated));
    if let Some(path) = &args.junit {
        let text = junit::text(&args.folder.display().to_string(), &results);
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    printed?;
    Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn selected_cases(args: &Args) -> anyhow::Result<Vec<Case>> {
    let mut cases = find(&args.folder)?;
    let folder = args.folder.display();
    if cases.is_empty() {
        bail!(
            "{folder} holds no case; a case is a folder with pod.yaml or review.json, and expected.yaml or denial.txt"
        );
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
    if let Verdict::Failed(reason) = verdict {
        for line in reason.lines() {
            writeln!(out, "        {line}")?;
        }
    }
    Ok(())
}

/// Writes the counts: `12 cases: 10 passed, 1 updated, 1 failed`.
fn summarize(out: &mut impl Write, all: usize, failed: usize, updated: usize) -> io::Result<()> {
    write!(out, "{}: {} passed", counted(all, "case"), all - failed - updated)?;
    for (count, word) in [(updated, "updated"), (failed, "failed")] {
        if count > 0 {
            write!(out, ", {count} {word}")?;
        }
    }
    writeln!(out)
}
