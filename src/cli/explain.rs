//! `podgraft explain`: why a pod became what it is, and why something did not reach it.

mod report;
mod text;

use std::io::Write as _;
use std::process::ExitCode;

use self::report::Report;
use super::Output;
use super::input::Manifests;
use super::load::Configuration;
use bumpalo::Bump;

/// Say which layer or module put which field into a pod, and why others did not apply.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  Who put what there, with file and line, and what did not apply:
    podgraft explain -f pod.yaml --config podgraft.yaml --policies policies

  Why the task does not see an environment variable:
    podgraft explain -f pod.yaml --config podgraft.yaml --field 'spec.containers[main].env[HF_HOME]'

  A pod of the cluster, as somebody else would have created it:
    kubectl get pod train -o json | podgraft explain -f - --config podgraft.yaml --as jane

Exit codes: 0 explained, 1 explained and the pod is rejected, 2 wrong usage or configuration.")]
pub(super) struct Args {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    configuration: Configuration,
    /// Only what is said of this field and what is in it, as `spec.containers[main].env`
    #[arg(long, value_name = "FIELDPATH")]
    field: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.configuration.load()?;
    let given = args.manifests.read(&snapshot)?;
    let mut out = anstream::stdout().lock();
    let mut rejected = false;
    for (index, one) in given.iter().enumerate() {
        let arena = Bump::new();
        let explained = Report::build(&one.label, &one.body, &snapshot, &arena);
        let explained = explained.map_err(|why| anyhow::anyhow!("{}: {why}", one.label))?;
        let explained = match &args.field {
            Some(field) => explained.about(field),
            None => explained,
        };
        rejected |= explained.denial.is_some();
        if args.output == Output::Json {
            writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?;
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", text::of(&explained, args.field.as_deref()))?;
        }
    }
    Ok(if rejected { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
