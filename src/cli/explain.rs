//! `podgraft explain`: lists which layer or module set each field of a pod, and which settings were not applied.

mod report;
mod text;

use std::io::Write as _;
use std::process::ExitCode;

use bumpalo::Bump;

use self::report::Report;
use super::Output;
use super::load::Configuration;
use super::manifests::Manifests;

/// List which layer or module set each field of a pod, and why other settings were not applied.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  Every changed field with its layer, file and line, and the settings that were not applied:
    podgraft explain -f pod.yaml --config podgraft.yaml --policies policies

  Why the task does not see an environment variable:
    podgraft explain -f pod.yaml --config podgraft.yaml --field 'spec.containers[main].env[HF_HOME]'

  A pod of the cluster, as if the user jane created it:
    kubectl get pod train -o json | podgraft explain -f - --config podgraft.yaml --as jane

Exit codes: 0 explained, 1 explained and the pod is denied, 2 wrong usage or configuration.")]
pub(super) struct Args {
    #[command(flatten)]
    manifests: Manifests,
    #[command(flatten)]
    configuration: Configuration,
    /// Limit the explanation to this field and the fields in it, such as `spec.containers[main].env`
    #[arg(long, value_name = "FIELDPATH")]
    field: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let snapshot = args.configuration.load()?;
    let manifests = args.manifests.read(&snapshot)?;
    let mut out = anstream::stdout().lock();
    let mut denied = false;
    for (index, manifest) in manifests.iter().enumerate() {
        let arena = Bump::new();
        let explained = Report::build(&manifest.label, &manifest.body, &snapshot, &arena);
        let explained = explained.map_err(|error| anyhow::anyhow!("{}: {error}", manifest.label))?;
        let explained = match &args.field {
            Some(field) => explained.limited_to(field),
            None => explained,
        };
        denied |= explained.denial.is_some();
        if args.output == Output::Json {
            writeln!(out, "{}", serde_json::to_string_pretty(&explained)?)?;
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            write!(out, "{gap}{}", text::format(&explained, args.field.as_deref()))?;
        }
    }
    Ok(if denied { ExitCode::from(1) } else { ExitCode::SUCCESS })
}
