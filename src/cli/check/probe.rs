//! Trying a configuration: what becomes of a pod, and whether it stays so.

use crate::config::Position;
use crate::explain::simulate::{self, Sender, Simulation};
use crate::merge::layer::Source;
use crate::model::snapshot::Snapshot;

use super::samples::{self, Sample};
use crate::config::Diagnostic;

/// A module whose bytes are there.
pub(super) struct Compiled {
    pub(super) name: String,
    /// SHA-256, 64 hex digits
    pub(super) digest: String,
    pub(super) bytes: usize,
    /// as `podgraft:template/host@0.1.0`
    pub(super) imports: Vec<String>,
    /// whether it is a template module; why not is among the problems
    pub(super) is_sound: bool,
}

/// How a unit's sample pods fared.
pub(super) struct UnitProbe {
    pub(super) unit: Source,
    pub(super) result: ProbeResult,
}

/// The same of one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProbeResult {
    Changed,
    Unchanged,
    /// sending it again changes it once more: who and where
    Unstable(String),
    /// code, reason and sentence
    Denied(String),
    /// not a task pod
    Skipped,
}

impl ProbeResult {
    pub(super) fn of(outcome: &Simulation) -> Self {
        match (&outcome.result, &outcome.second_run) {
            (Err(why), _) => {
                ProbeResult::Denied(format!("({}, {}): {}", why.reason.code(), why.reason.name(), why.message))
            }
            (Ok(_), Err(why)) => ProbeResult::Unstable(format!("is refused: {}", why.message)),
            (Ok(_), Ok(touches)) if !touches.is_empty() => {
                let touches: Vec<_> =
                    touches.iter().map(|touch| format!("{} ({})", touch.path, touch.source)).collect();
                ProbeResult::Unstable(format!("changes again: {}", touches.join(", ")))
            }
            (Ok(_), Ok(_)) if !outcome.is_task_pod => ProbeResult::Skipped,
            (Ok(_), Ok(_)) if outcome.changes.is_empty() => ProbeResult::Unchanged,
            (Ok(_), Ok(_)) => ProbeResult::Changed,
        }
    }

    /// One word for a table.
    pub(super) fn word(&self) -> &'static str {
        match self {
            ProbeResult::Changed => "patched",
            ProbeResult::Unchanged => "unchanged",
            ProbeResult::Unstable(_) => "unstable",
            ProbeResult::Denied(_) => "rejected",
            ProbeResult::Skipped => "left alone",
        }
    }
}

/// Tries every unit.
pub(super) fn probe_units(snapshot: &Snapshot) -> Vec<UnitProbe> {
    let tried = samples::all(snapshot).into_iter().filter_map(|Sample { unit, pod }| {
        let review = simulate::review(pod, Sender::default(), snapshot).ok()?;
        let outcome = simulate::simulate(&review, snapshot).ok()?;
        Some(UnitProbe { unit, result: ProbeResult::of(&outcome) })
    });
    tried.collect()
}

/// What is to be said of the units that are not stable. Refusals are no findings: a sample has no vault of its own.
pub(super) fn findings(tried: &[UnitProbe]) -> impl Iterator<Item = Diagnostic> {
    tried.iter().filter_map(|one| match &one.result {
        ProbeResult::Unstable(how) => Some(Diagnostic::new(
            "",
            Position::default(),
            &one.unit.to_string(),
            format!("a sample pod that is sent through it twice {how}; keep reinvocationPolicy: Never"),
        )),
        _ => None,
    })
}
