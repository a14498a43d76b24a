//! `podgraft check`: lists the errors of a configuration, and notices about it, before it is live.

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
use super::load::{Configuration, counted};
use super::manifests::{self, SendArgs};
use crate::wasm::{Engine, sha256_hex};
use crate::watch;

/// List the errors of a configuration, and notices about it.
///
/// Loads the configuration like the webhook, then sends a sample pod of the task system through every queue and
/// environment twice: the second time must change nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  podgraft check --config podgraft.yaml --policies policies

  With the pods and Jobs that must keep working, in CI:
    podgraft check --config config --policies policies -f pod.yaml -f job.yaml --strict -o json

Errors and notices go to stderr, the summary to stdout; with -o json everything goes to stdout.
Exit codes: 0 no errors, 1 errors (with --strict also notices), 2 wrong usage.")]
pub(super) struct Args {
    #[command(flatten)]
    configuration: Configuration,
    /// Also try these Pods, Jobs or AdmissionReviews; one that is denied is an error
    #[arg(short, long, value_name = "POD|JOB|REVIEW")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    sender: SendArgs,
    /// Treat notices as errors
    #[arg(long)]
    strict: bool,
    /// Output format
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
        compiled.borrow_mut().push(Compiled { name, digest, bytes: bytes.len(), imports, is_valid: code.is_ok() });
        code
    };
    let Configuration { config, policies } = &args.configuration;
    let built = watch::load_once(config, policies.as_deref(), "", &compile)?;
    let manifests = manifests::read(&args.filename, &args.sender, &built.snapshot)?;
    let report = Report::new(&built, compiled.into_inner(), &manifests);
    match args.output {
        Output::Json => writeln!(std::io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?,
        Output::Text => print(&report)?,
    }
    let failed = !report.errors.is_empty() || args.strict && !report.notices.is_empty();
    Ok(if failed { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Writes the summary to stdout, and the errors and notices with their counts to stderr.
fn print(report: &Report) -> anyhow::Result<()> {
    write!(anstream::stdout(), "{}", report.summary())?;
    let mut counts = Vec::new();
    for (diagnostics, noun) in [(&report.errors, "error"), (&report.notices, "notice")] {
        if !diagnostics.is_empty() {
            errln!("{noun}s:");
            counts.push(counted(diagnostics.len(), noun));
        }
        for diagnostic in diagnostics {
            errln!("  {diagnostic}");
        }
    }
    errln!("{}", if counts.is_empty() { "no errors or notices".to_owned() } else { counts.join(", ") });
    Ok(())
}
