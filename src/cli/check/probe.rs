//! Tries a configuration with sample pods, each sent twice.

use crate::config::Position;
use crate::explain::simulate::{self, Sender, Simulation};
use crate::merge::layer::Source;
use crate::model::snapshot::Snapshot;

use super::samples::{self, Sample};
use crate::config::Diagnostic;

/// A module whose file was found.
pub(super) struct Compiled {
    pub(super) name: String,
    /// SHA-256, 64 hex digits
    pub(super) digest: String,
    pub(super) bytes: usize,
    /// as `podgraft:template/host@0.1.0`
    pub(super) imports: Vec<String>,
    /// false if the file is no template module; the reason is one of the errors
    pub(super) is_valid: bool,
}

/// The result of one sample pod of a unit.
pub(super) struct UnitProbe {
    pub(super) unit: Source,
    pub(super) result: ProbeResult,
}

/// The outcome of a pod that was sent twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeResult {
    Patched,
    Unchanged,
    /// the second time changed it again, or denied it: the paths with their sources, or the denial
    Unstable(String),
    /// the code, reason and message
    Denied(String),
    /// not a task pod
    Skipped,
}

impl ProbeResult {
    pub(super) fn from_simulation(outcome: &Simulation) -> Self {
        match (&outcome.result, &outcome.second_run) {
            (Err(denial), _) => {
                ProbeResult::Denied(format!("({}, {}): {}", denial.reason.code(), denial.reason.name(), denial.message))
            }
            (Ok(_), Err(denial)) => ProbeResult::Unstable(format!("is denied: {}", denial.message)),
            (Ok(_), Ok(changes)) if !changes.is_empty() => {
                let changes: Vec<_> =
                    changes.iter().map(|change| format!("{} ({})", change.path, change.source)).collect();
                ProbeResult::Unstable(format!("changes again: {}", changes.join(", ")))
            }
            (Ok(_), Ok(_)) if !outcome.is_task_pod => ProbeResult::Skipped,
            (Ok(_), Ok(_)) if outcome.changes.is_empty() => ProbeResult::Unchanged,
            (Ok(_), Ok(_)) => ProbeResult::Patched,
        }
    }

    /// Returns the outcome as one word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            ProbeResult::Patched => "patched",
            ProbeResult::Unchanged => "unchanged",
            ProbeResult::Unstable(_) => "unstable",
            ProbeResult::Denied(_) => "denied",
            ProbeResult::Skipped => "skipped",
        }
    }
}

/// Sends the sample pods of every unit.
pub(super) fn probe_units(snapshot: &Snapshot) -> Vec<UnitProbe> {
    let probes = samples::all(snapshot).into_iter().filter_map(|Sample { unit, pod }| {
        let review = simulate::review(pod, Sender::default(), snapshot).ok()?;
        let outcome = simulate::simulate(&review, snapshot).ok()?;
        Some(UnitProbe { unit, result: ProbeResult::from_simulation(&outcome) })
    });
    probes.collect()
}

/// Returns a notice for each unit that is not stable. A denied sample gets none: a sample has no user's task configuration.
pub(super) fn notices(probes: &[UnitProbe]) -> impl Iterator<Item = Diagnostic> {
    probes.iter().filter_map(|probe| match &probe.result {
        ProbeResult::Unstable(result) => Some(Diagnostic::new(
            "",
            Position::default(),
            &probe.unit.to_string(),
            format!("a sample pod, sent a second time, {result}; keep reinvocationPolicy: Never"),
        )),
        _ => None,
    })
}
