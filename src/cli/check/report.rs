//! The report of `podgraft check`, which `-o json` prints, and its summary as text.

use std::fmt::Write as _;

use serde::Serialize;

use super::notices;
use super::probe::{self, Compiled, ProbeResult, UnitProbe};
use crate::cli::load::counted;
use crate::cli::manifests::Manifest;
use crate::cli::table;
use crate::config::{Built, Diagnostic, Position};
use crate::explain::simulate::{self, Simulation};
use crate::model::snapshot::{Match, Snapshot, Unit, UnitSpec};

/// The errors, notices and tables of a configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// the digest of configuration and modules, 12 hex digits; replicas with equal input have equal digests
    digest: String,
    pub(super) errors: Vec<Diagnostic>,
    pub(super) notices: Vec<Diagnostic>,
    /// base, environments by priority, queues by name
    units: Vec<UnitRow>,
    modules: Vec<ModuleRow>,
    pods: Vec<PodRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnitRow {
    unit: String,
    /// the pods that the unit applies to
    applies_to: String,
    layers: usize,
    modules: Vec<String>,
    /// the outcome of the sample pods: patched, unchanged, unstable, denied or skipped; invalid for a unit without a valid
    /// version; none without a sample pod
    sample: &'static str,
    /// the denial of a sample pod
    denied: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ModuleRow {
    name: String,
    digest: String,
    bytes: usize,
    imports: Vec<String>,
    compiles: bool,
    used_by: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodRow {
    manifest: String,
    outcome: &'static str,
    notice: Option<String>,
}

/// The outcome of a unit without a valid version.
const INVALID: &str = "invalid";

// === impl Report ===

impl Report {
    /// Tries the configuration with sample pods and with the given manifests.
    pub(super) fn new(built: &Built, compiled: Vec<Compiled>, manifests: &[Manifest]) -> Self {
        let snapshot = &*built.snapshot;
        let probes = probe::probe_units(snapshot);
        let mut report = Self {
            digest: snapshot.digest.clone(),
            errors: built.errors.clone(),
            notices: built.notices.iter().cloned().chain(notices::layer_notices(snapshot)).collect(),
            units: rows(snapshot, &probes),
            modules: Vec::new(),
            pods: Vec::new(),
        };
        report.notices.extend(probe::notices(&probes));
        report.modules = compiled.into_iter().map(|module| report.module(module)).collect();
        for manifest in manifests {
            report.try_pod(manifest, snapshot);
        }
        report
    }

    fn module(&self, compiled: Compiled) -> ModuleRow {
        let users = self.units.iter().filter(|row| row.modules.contains(&compiled.name));
        let used_by = users.map(|row| row.unit.clone()).collect();
        let Compiled { name, digest, bytes, imports, is_valid } = compiled;
        ModuleRow { name, digest, bytes, imports, compiles: is_valid, used_by }
    }

    fn try_pod(&mut self, manifest: &Manifest, snapshot: &Snapshot) {
        let review = serde_json::from_slice(&manifest.body).map_err(|error| error.to_string());
        let outcome = review.and_then(|review| simulate::simulate(&review, snapshot));
        let diagnostic = |message: String| Diagnostic::new(&manifest.label, Position::default(), "", message);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return self.errors.push(diagnostic(error)),
        };
        let result = ProbeResult::from_simulation(&outcome);
        match &result {
            ProbeResult::Denied(denial) => self.errors.push(diagnostic(format!("is denied {denial}"))),
            ProbeResult::Unstable(result) => self.errors.push(diagnostic(format!("sent a second time, it {result}"))),
            ProbeResult::Patched => self.notices.extend(applied_twice(&outcome).map(diagnostic)),
            ProbeResult::Unchanged | ProbeResult::Skipped => {}
        }
        self.notices.extend(outcome.note.iter().cloned().map(diagnostic));
        self.pods.push(PodRow { manifest: manifest.label.clone(), outcome: result.word(), notice: outcome.note });
    }

    /// Formats the tables as text.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        if !self.digest.is_empty() {
            let _ = writeln!(text, "configuration {}", self.digest);
        }
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let units = self.units.iter().map(|row| {
            let modules =
                if row.modules.is_empty() { String::new() } else { format!(", modules {}", row.modules.join(", ")) };
            let layers = counted(row.layers, "layer");
            let gives = if row.sample == INVALID { String::new() } else { format!("{layers}{modules}") };
            [row.unit.clone(), row.applies_to.clone(), gives, row.sample.to_owned()]
        });
        section(&mut text, words(&["UNIT", "FOR", "GIVES", "SAMPLE POD"]), units);
        let modules = self.modules.iter().map(|row| {
            let used_by = match (row.compiles, row.used_by.as_slice()) {
                (false, _) => "none: it does not compile".to_owned(),
                (true, []) => "none".to_owned(),
                (true, users) => users.join(", "),
            };
            let digest = row.digest.chars().take(12).collect();
            let imports = if row.imports.is_empty() { "none".to_owned() } else { row.imports.join(", ") };
            [row.name.clone(), digest, format!("{} KiB", row.bytes.div_ceil(1024)), imports, used_by]
        });
        section(&mut text, words(&["MODULE", "DIGEST", "SIZE", "IMPORTS", "USED BY"]), modules);
        let pods = self.pods.iter().map(|row| [row.manifest.clone(), row.outcome.to_owned()]);
        section(&mut text, words(&["MANIFEST", "OUTCOME"]), pods);
        for (unit, denial) in self.units.iter().filter_map(|row| Some((&row.unit, row.denied.as_ref()?))) {
            let _ = writeln!(text, "\nA sample pod for {unit} is denied {denial}");
        }
        text
    }
}

fn section<const N: usize>(text: &mut String, head: Vec<String>, rows: impl Iterator<Item = [String; N]>) {
    let head: Option<[String; N]> = head.try_into().ok();
    let rows: Vec<_> = head.into_iter().chain(rows).collect();
    if rows.len() > 1 {
        let _ = write!(text, "\n{}", table::text(&rows));
    }
}

/// Names the fields that the manifest sets, the webhook changed, and no update may change. Tolerations are one field.
fn applied_twice(outcome: &Simulation) -> Option<String> {
    let added =
        outcome.changes.iter().map(|change| change.path.as_str()).filter(|path| path.starts_with("spec.tolerations["));
    let replaced = outcome.replaced.iter().map(String::as_str).filter(|path| path.starts_with("spec."));
    let changed: Vec<&str> = replaced.chain(added).collect();
    (!changed.is_empty()).then(|| {
        let paths = notices::shortened(&changed);
        format!("a second `kubectl apply` of this manifest fails (422): podgraft overrides {paths}")
    })
}

fn rows(snapshot: &Snapshot, probes: &[UnitProbe]) -> Vec<UnitRow> {
    let base =
        snapshot.base.iter().map(|unit| row(unit, "every task pod".to_owned(), unit.last_valid.as_deref(), probes));
    let environments = snapshot.environments.iter().map(|unit| {
        let valid = unit.last_valid.as_deref();
        let pods = valid.map_or_else(String::new, |environment| {
            let own = || "pods that name it".to_owned();
            let pods = if environment.matches.is_empty() { own() } else { conditions(&environment.matches) };
            format!("{pods}; priority {}", environment.priority)
        });
        row(unit, pods, valid.map(|unit| &unit.spec), probes)
    });
    let queues = snapshot.queues.iter().map(|unit| {
        let valid = unit.last_valid.as_deref();
        let pods = valid.map_or_else(String::new, |queue| {
            let id = queue.id.as_ref().map(|id| format!("id {id}"));
            let system = queue.system.as_ref().map(|system| format!("system {system}"));
            let all = [id, system, Some(conditions(&queue.matches))];
            all.into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
        row(unit, pods, valid.map(|unit| &unit.spec), probes)
    });
    base.chain(environments).chain(queues).collect()
}

fn row<T>(unit: &Unit<T>, applies_to: String, spec: Option<&UnitSpec>, probes: &[UnitProbe]) -> UnitRow {
    let results = || probes.iter().filter(|probe| probe.unit == unit.source).map(|probe| &probe.result);
    let denied =
        results().find_map(|result| if let ProbeResult::Denied(denial) = result { Some(denial.clone()) } else { None });
    // the worst outcome of the samples of several task systems
    let rank = |result: &&ProbeResult| match result {
        ProbeResult::Unstable(_) => 0,
        ProbeResult::Denied(_) => 1,
        ProbeResult::Patched => 2,
        ProbeResult::Unchanged => 3,
        ProbeResult::Skipped => 4,
    };
    UnitRow {
        unit: unit.source.to_string(),
        applies_to,
        layers: spec.map_or(0, |spec| spec.layers.len()),
        modules: spec.into_iter().flat_map(|spec| &spec.modules).map(|module| module.name.clone()).collect(),
        sample: if spec.is_none() { INVALID } else { results().min_by_key(rank).map_or("none", ProbeResult::word) },
        denied,
    }
}

fn conditions(matches: &Match) -> String {
    let labels: Vec<_> = matches.pod_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let namespaces = match matches.namespaces.as_slice() {
        [] => "any namespace".to_owned(),
        [one] => format!("namespace {one}"),
        several => format!("namespaces {}", several.join(", ")),
    };
    let labels = if labels.is_empty() { String::new() } else { format!(", labels {}", labels.join(", ")) };
    format!("{namespaces}{labels}")
}
