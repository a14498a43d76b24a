//! `podgraft check`: everything that can be said of a configuration before it is live.

mod notices;
mod probe;
mod report;
mod samples;

use std::cell::RefCell;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use self::probe::Compiled;
use self::report::Report;
use super::Output;
use super::input::{self, SendArgs};
use super::load::{Configuration, counted};
use crate::wasm::{Engine, sha256_hex};
use crate::watch;

/// Say everything that is wrong with a configuration, and what is worth knowing of it.
///
/// Besides reading it as the webhook does, every queue and environment is tried with a sample pod of its task system:
/// twice, as what came out must not change once more.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft check --config podgraft.yaml --policies policies

  With the pods and Jobs that must keep working, in CI:
    podgraft check --config config --policies policies -f pod.yaml -f job.yaml --strict -o json

Problems and notices go to stderr, the summary to stdout; with -o json everything goes to stdout.
Exit codes: 0 nothing is wrong, 1 there are problems (with --strict: or notices), 2 wrong usage.")]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// Also try these Pods, Jobs or AdmissionReviews; one that is rejected is a problem
    #[arg(short, long, value_name = "POD|JOB|REVIEW")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    sending: SendArgs,
    /// Let notices count as problems
    #[arg(long)]
    strict: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let engine = Engine::new()?;
    let compiled = RefCell::new(Vec::new());
    let compile = |name: &str, bytes: &[u8]| {
        let code = engine.compile(name, bytes);
        let (name, digest) = (name.to_owned(), sha256_hex(bytes));
        let imports = engine.inspect(bytes).map(|inspection| inspection.imports).unwrap_or_default();
        let imports = imports.into_iter().map(|(import, _)| import).collect();
        compiled.borrow_mut().push(Compiled { name, digest, bytes: bytes.len(), imports, is_sound: code.is_ok() });
        code
    };
    let Configuration { config, policies } = &args.configuration;
    let built = watch::load_once(config, policies.as_deref(), "", &compile)?;
    let given = input::read(&args.filename, &args.sending, &built.snapshot)?;
    let report = Report::of(&built, compiled.into_inner(), &given);
    match args.output {
        Output::Json => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Output::Text => show(&report)?,
    }
    let wrong = !report.problems.is_empty() || args.strict && !report.notices.is_empty();
    Ok(if wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn show(report: &Report) -> anyhow::Result<()> {
    write!(anstream::stdout(), "{}", report.summary())?;
    for (findings, noun) in [(&report.problems, "problem"), (&report.notices, "notice")] {
        if !findings.is_empty() {
            tell!("{}", counted(findings.len(), noun));
        }
        for finding in findings {
            tell!("  {finding}");
        }
    }
    if report.problems.is_empty() && report.notices.is_empty() {
        tell!("nothing to complain about");
    }
    Ok(())
}
