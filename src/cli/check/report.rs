//! What `podgraft check` found, and how it is told.

use std::fmt::Write as _;

use serde::Serialize;

use super::notices;
use super::probe::{self, Compiled, ProbeResult, UnitProbe};
use crate::cli::input::Manifest;
use crate::cli::load::counted;
use crate::cli::table;
use crate::config::{Built, Diagnostic, Position};
use crate::explain::simulate::{self, Simulation};
use crate::model::snapshot::{Match, Snapshot, Unit, UnitSpec};

/// Everything.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// of all that went in: equal on all replicas that have the same
    digest: String,
    pub(super) problems: Vec<Diagnostic>,
    pub(super) notices: Vec<Diagnostic>,
    /// base, environments by priority, queues by name
    units: Vec<Row>,
    modules: Vec<ModuleRow>,
    pods: Vec<PodRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    unit: String,
    /// which pods it is for
    applies_to: String,
    layers: usize,
    modules: Vec<String>,
    /// how sample pods fared: patched, unchanged, unstable, rejected, left alone, or broken
    sample: &'static str,
    /// why one was refused
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

/// A unit without any sound version.
const INVALID: &str = "broken";

// === impl Report ===

impl Report {
    pub(super) fn of(built: &Built, compiled: Vec<Compiled>, given: &[Manifest]) -> Self {
        let snapshot = &*built.snapshot;
        let tried = probe::probe_units(snapshot);
        let mut report = Self {
            digest: snapshot.digest.clone(),
            problems: built.errors.clone(),
            notices: built.notices.iter().cloned().chain(notices::layer_notices(snapshot)).collect(),
            units: rows(snapshot, &tried),
            modules: Vec::new(),
            pods: Vec::new(),
        };
        report.notices.extend(probe::findings(&tried));
        report.modules = compiled.into_iter().map(|one| report.module(one)).collect();
        for one in given {
            report.try_pod(one, snapshot);
        }
        report
    }

    fn module(&self, compiled: Compiled) -> ModuleRow {
        let users = self.units.iter().filter(|row| row.modules.contains(&compiled.name));
        let used_by = users.map(|row| row.unit.clone()).collect();
        let Compiled { name, digest, bytes, imports, is_sound } = compiled;
        ModuleRow { name, digest, bytes, imports, compiles: is_sound, used_by }
    }

    fn try_pod(&mut self, given: &Manifest, snapshot: &Snapshot) {
        let review = serde_json::from_slice(&given.body).map_err(|error| error.to_string());
        let outcome = review.and_then(|review| simulate::simulate(&review, snapshot));
        let finding = |message: String| Diagnostic::new(&given.label, Position::default(), "", message);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(why) => return self.problems.push(finding(why)),
        };
        let fared = ProbeResult::of(&outcome);
        match &fared {
            ProbeResult::Denied(why) => self.problems.push(finding(format!("is rejected {why}"))),
            ProbeResult::Unstable(how) => self.problems.push(finding(format!("sent through it twice, it {how}"))),
            ProbeResult::Changed => self.notices.extend(applied_twice(&outcome).map(finding)),
            ProbeResult::Unchanged | ProbeResult::Skipped => {}
        }
        self.notices.extend(outcome.note.iter().cloned().map(finding));
        self.pods.push(PodRow { manifest: given.label.clone(), outcome: fared.word(), notice: outcome.note });
    }

    /// The tables for people.
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
                (false, _) => "nobody: it does not compile".to_owned(),
                (true, []) => "nobody".to_owned(),
                (true, users) => users.join(", "),
            };
            let digest = row.digest.chars().take(12).collect();
            let imports = if row.imports.is_empty() { "nothing".to_owned() } else { row.imports.join(", ") };
            [row.name.clone(), digest, format!("{} KiB", row.bytes.div_ceil(1024)), imports, used_by]
        });
        section(&mut text, words(&["MODULE", "DIGEST", "SIZE", "IMPORTS", "USED BY"]), modules);
        let pods = self.pods.iter().map(|row| [row.manifest.clone(), row.outcome.to_owned()]);
        section(&mut text, words(&["MANIFEST", "OUTCOME"]), pods);
        for (unit, why) in self.units.iter().filter_map(|row| Some((&row.unit, row.denied.as_ref()?))) {
            let _ = writeln!(text, "\nA sample pod for {unit} is rejected {why}");
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

/// Fields that the manifest sets, no update may change, and the webhook changed. A list of tolerations is one field.
fn applied_twice(outcome: &Simulation) -> Option<String> {
    let added =
        outcome.touches.iter().map(|touch| touch.path.as_str()).filter(|path| path.starts_with("spec.tolerations["));
    let replaced = outcome.replaced.iter().map(String::as_str).filter(|path| path.starts_with("spec."));
    let changed: Vec<&str> = replaced.chain(added).collect();
    (!changed.is_empty()).then(|| {
        let paths = notices::shortened(&changed);
        format!("a second `kubectl apply` of it fails (422), as it says otherwise of {paths}")
    })
}

fn rows(snapshot: &Snapshot, tried: &[UnitProbe]) -> Vec<Row> {
    let base =
        snapshot.base.iter().map(|unit| row(unit, "every task pod".to_owned(), unit.last_valid.as_deref(), tried));
    let environments = snapshot.environments.iter().map(|unit| {
        let good = unit.last_valid.as_deref();
        let who = good.map_or_else(String::new, |one| {
            let own = || "pods that name it".to_owned();
            let who = if one.matches.is_empty() { own() } else { conditions(&one.matches) };
            format!("{who}; priority {}", one.priority)
        });
        row(unit, who, good.map(|one| &one.graft), tried)
    });
    let queues = snapshot.queues.iter().map(|unit| {
        let good = unit.last_valid.as_deref();
        let who = good.map_or_else(String::new, |one| {
            let id = one.id.as_ref().map(|id| format!("id {id}"));
            let system = one.system.as_ref().map(|system| format!("system {system}"));
            let all = [id, system, Some(conditions(&one.matches))];
            all.into_iter().flatten().collect::<Vec<_>>().join(", ")
        });
        row(unit, who, good.map(|one| &one.graft), tried)
    });
    base.chain(environments).chain(queues).collect()
}

fn row<T>(unit: &Unit<T>, applies_to: String, graft: Option<&UnitSpec>, tried: &[UnitProbe]) -> Row {
    let results = || tried.iter().filter(|one| one.unit == unit.source).map(|one| &one.result);
    let refused =
        results().find_map(|result| if let ProbeResult::Denied(why) = result { Some(why.clone()) } else { None });
    // The worst of several systems' samples.
    let rank = |result: &&ProbeResult| match result {
        ProbeResult::Unstable(_) => 0,
        ProbeResult::Denied(_) => 1,
        ProbeResult::Changed => 2,
        ProbeResult::Unchanged => 3,
        ProbeResult::Skipped => 4,
    };
    Row {
        unit: unit.source.to_string(),
        applies_to,
        layers: graft.map_or(0, |graft| graft.layers.len()),
        modules: graft.into_iter().flat_map(|graft| &graft.modules).map(|module| module.name.clone()).collect(),
        sample: if graft.is_none() { INVALID } else { results().min_by_key(rank).map_or("none", ProbeResult::word) },
        denied: refused,
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
