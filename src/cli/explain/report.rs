//! The explanation of one pod as owned data, which `-o json` prints.

use bumpalo::Bump;
use serde::Serialize;

use crate::explain::simulate::OFFLINE_TIMEOUT;
use crate::explain::yaml;
use crate::explain::{self, Explanation, NotApplied, Overridden};
use crate::json::Json;
use crate::k8s::labels::{PRIMARY, USER};
use crate::k8s::patch::is_within;
use crate::k8s::schema::nearest;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::system::{System, SystemKind};
use crate::model::task::Task;
use crate::model::task_systems::selecting_labels;
use crate::mutate::plan::Plan;
use crate::mutate::provenance::{Change, FragmentSource, Steps};
use crate::mutate::{ModuleRun, MutateError, MutateFailure, Mutation};

/// The explanation of one pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// the file that it comes from
    pub(super) manifest: String,
    /// namespace and name
    pub(super) pod: String,
    /// patched, unchanged, skipped or denied
    pub(super) outcome: &'static str,
    /// the reason for which the pod is skipped
    pub(super) because: Option<String>,
    pub(super) denial: Option<DenialView>,
    /// the pod's task; absent for a pod that is no task pod
    pub(super) task: Option<Identity>,
    /// the applied layers and modules, in order; for a denied pod, those before the denial
    pub(super) applied: Vec<Step>,
    /// for a denied pod, the layers and modules that were not applied any more, in order; if one of them denied the pod,
    /// it is the first
    pub(super) remaining: Vec<Step>,
    /// the fields that podgraft set or removed, by path
    pub(super) fields: Vec<Field>,
    /// the settings of applied layers and modules that did not reach the pod
    pub(super) overridden: Vec<OverriddenSetting>,
    /// the units and modules that were not applied
    pub(super) not_applied: Vec<UnappliedSource>,
}

/// The denial of a pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DenialView {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The task of a pod, and the pod's sender.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub(super) system: String,
    pub(super) id: Option<String>,
    pub(super) user: Option<String>,
    /// the name or id in the pod
    pub(super) queue: Option<String>,
    /// the name in the configuration
    pub(super) configured_queue: Option<String>,
    pub(super) primary_container: Option<String>,
    /// the user who sent the pod, and whether podgraft trusts that user
    pub(super) sender: String,
}

/// The file and line of a layer; modules have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Location {
    pub(super) file: String,
    pub(super) line: u32,
}

/// A layer or module that was applied or not reached.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) conflict: Option<String>,
}

/// A field that podgraft set or removed.
#[derive(Debug, Serialize)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) removed: bool,
    /// the layers and modules whose values this one replaced
    pub(super) replaced: Vec<String>,
}

/// A setting that did not reach the pod.
#[derive(Debug, Serialize)]
pub(super) struct OverriddenSetting {
    pub(super) path: String,
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) because: String,
}

/// A unit or module that was not applied.
#[derive(Debug, Serialize)]
pub(super) struct UnappliedSource {
    pub(super) source: String,
    pub(super) because: String,
}

impl Report {
    /// Explains the pod of an AdmissionReview.
    ///
    /// # Errors
    /// The body is no AdmissionReview.
    pub(super) fn build(label: &str, body: &[u8], snapshot: &Snapshot, arena: &Bump) -> Result<Self, String> {
        let review = Review::parse(body, arena)?;
        let explanation = explain::explain(&review, snapshot, Execution::Pooled(&|| OFFLINE_TIMEOUT), arena);
        let pod = Pod::from_review(&review);
        let task = Task::from_pod(&pod, &review, snapshot).ok().flatten();
        let skipped = explanation.skipped.as_ref().map(|reason| match &task {
            None => not_a_task_pod(&pod, snapshot),
            Some(_) => reason.clone(),
        });
        let mut report = Self {
            manifest: label.to_owned(),
            pod: format!("{}/{}", review.namespace, review.object_name()),
            outcome: "skipped",
            because: skipped,
            denial: None,
            task: task.as_ref().map(|task| identity(task, &pod, &review, snapshot)),
            applied: Vec::new(),
            remaining: explanation.remaining.iter().map(|source| step(*source)).collect(),
            fields: Vec::new(),
            overridden: Vec::new(),
            not_applied: not_applied(&explanation),
        };
        if let Some(mutation) = explanation.reached() {
            report.fill(mutation, task.as_ref(), &explanation.overridden, arena);
        }
        match &explanation.result {
            Ok(_) => {}
            Err(MutateFailure { error: MutateError::Denied(denial), .. }) => {
                report.outcome = "denied";
                let (code, reason) = (denial.reason.code(), denial.reason.name());
                report.denial = Some(DenialView { code, reason, message: denial.message.clone() });
            }
            Err(MutateFailure { error: MutateError::NeedsPool(module), .. }) => {
                return Err(format!("module {module} did not run"));
            }
        }
        Ok(report)
    }

    fn fill<'a>(
        &mut self,
        mutation: &Mutation<'a>,
        task: Option<&Task<'_, '_>>,
        overridden: &[Overridden],
        arena: &'a Bump,
    ) {
        self.outcome = if mutation.operations.is_empty() { "unchanged" } else { "patched" };
        self.applied = mutation.fragments.iter().map(|(source, _)| step(*source)).collect();
        let applied = AppliedPaths::new(mutation, arena);
        self.fields = fields(&mutation.steps, &applied, arena);
        self.overridden = overridden.iter().map(|setting| overridden_setting(setting, mutation, task)).collect();
    }

    /// Limits the fields and settings to those at, below or above a path.
    pub(super) fn limited_to(mut self, field: &str) -> Self {
        let is_related = |path: &str| is_within(path, field) || is_within(field, path);
        self.fields.retain(|field| is_related(&field.path));
        self.overridden.retain(|setting| is_related(&setting.path));
        self
    }
}

/// Returns the reason for which a pod is no task pod, with the nearest label that would make it one.
fn not_a_task_pod(pod: &Pod<'_>, snapshot: &Snapshot) -> String {
    let labels: Vec<&str> = selecting_labels().collect();
    if let Some(label) = labels.iter().find(|label| pod.label(label).is_some()) {
        let namespaces = |system: &System| format!("systems.{} is for {}", system.name, system.namespaces.join(", "));
        let systems: Vec<_> = snapshot.systems.iter().map(namespaces).collect();
        let systems = systems.join("; ");
        return format!("it has the label {label}, but is in namespace {}, and {systems}", pod.namespace);
    }
    let own = pod.object.get_path(&["metadata", "labels"]).unwrap_or(Json::Null);
    let nearest_label = own.members().iter().find_map(|(key, _)| Some((*key, nearest(key, labels.iter().copied())?)));
    let hint =
        nearest_label.map_or_else(String::new, |(key, label)| format!("; its label is {key}, did you mean {label}?"));
    format!("it is no task pod: it has none of the labels {}{hint}", labels.join(", "))
}

fn identity(task: &Task<'_, '_>, pod: &Pod<'_>, review: &Review<'_>, snapshot: &Snapshot) -> Identity {
    let plan = Plan::choose(task, pod, snapshot).ok().flatten();
    Identity {
        system: task.system.name.clone(),
        id: task.id.clone(),
        user: task.user.map(str::to_owned),
        queue: task.queue_name.or(task.queue_id).map(str::to_owned),
        configured_queue: plan.and_then(|plan| plan.queue).map(|queue| queue.name.clone()),
        primary_container: task.primary.map(str::to_owned),
        sender: sender(task, review),
    }
}

/// Describes the sender: the user, and whether podgraft trusts what that user says of the task.
fn sender(task: &Task<'_, '_>, review: &Review<'_>) -> String {
    let name = review.user.get("username").and_then(|name| name.as_str()).filter(|name| !name.is_empty());
    let name = name.unwrap_or("an unknown user");
    let system = task.system;
    let claims =
        system.kind == SystemKind::ClearML || review.object.get_path(&["metadata", "annotations", USER]).is_some();
    if task.trusted {
        return format!("{name}, a submitter of systems.{}: trusted", system.name);
    }
    if !claims {
        return format!("{name}; the pod claims no task id and no user");
    }
    let reason = if system.submitters.iter().any(|submitter| submitter == name) {
        "but from inside a task's pod".to_owned()
    } else if system.submitters.is_empty() {
        format!("but systems.{} has no submitters", system.name)
    } else {
        format!("who is not one of systems.{}.submitters ({})", system.name, system.submitters.join(", "))
    };
    format!("{name}, {reason}: task id and user are not trusted, so layers and modules that need them do not apply")
}

fn location(layer: &Layer) -> Location {
    Location { file: layer.file.to_string(), line: layer.line }
}

fn step(source: FragmentSource<'_>) -> Step {
    match source {
        FragmentSource::Layer(layer) => {
            // the variants have the names of the configuration
            let conflict = Some(format!("{:?}", layer.conflict));
            Step { source: layer.source.to_string(), at: Some(location(layer)), conflict }
        }
        FragmentSource::Module(module) => Step { source: format!("module/{}", module.name), at: None, conflict: None },
    }
}

/// The applied layers with the paths that they set.
struct AppliedPaths<'a>(Vec<(&'a Layer, Vec<String>)>);

impl<'a> AppliedPaths<'a> {
    fn new(mutation: &Mutation<'a>, arena: &'a Bump) -> Self {
        let layers = mutation.fragments.iter().filter_map(|(source, fragment)| match source {
            FragmentSource::Layer(layer) => {
                let paths = yaml::lines(*fragment, arena)
                    .into_iter()
                    .map(|line| with_primary_name(line.path, mutation.primary));
                Some((*layer, paths.collect()))
            }
            FragmentSource::Module(_) => None,
        });
        Self(layers.collect())
    }

    /// Returns the location of a source's last layer that sets `path`, or a path above or below it.
    fn location(&self, source: &Source, path: &str) -> Option<Location> {
        let layers = || self.0.iter().rev().filter(|(layer, _)| layer.source == *source);
        let sets = |paths: &[String]| paths.iter().any(|own| is_within(own, path) || is_within(path, own));
        let exact = layers().find(|(_, paths)| paths.iter().any(|own| own == path));
        let exact = exact.or_else(|| layers().find(|(_, paths)| sets(paths)));
        exact.or_else(|| layers().next()).map(|(layer, _)| location(layer))
    }
}

/// Replaces the alias of the primary container in a fragment's path by the container's name.
fn with_primary_name(path: String, primary: Option<&str>) -> String {
    let alias = format!("spec.containers[{PRIMARY}]");
    match (path.strip_prefix(&alias), primary) {
        (Some(rest), Some(name)) => format!("spec.containers[{name}]{rest}"),
        _ => path,
    }
}

/// Returns each changed path once, with the source that changed it last.
fn fields<'a>(steps: &Steps<'a>, applied: &AppliedPaths<'_>, arena: &'a Bump) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for change in single_changes(steps, arena).into_iter().rev() {
        let source = change.source.to_string();
        // a later change of the path or of one above it
        if let Some(field) = fields.iter_mut().find(|field| is_within(&change.path, &field.path)) {
            if field.source != source && !field.replaced.contains(&source) {
                field.replaced.insert(0, source);
            }
            continue;
        }
        let at = applied.location(&change.source, &change.path);
        fields.push(Field { path: change.path, source, at, removed: change.removed, replaced: Vec::new() });
    }
    fields.sort_by(|a, b| a.path.cmp(&b.path));
    fields
}

/// Returns the changes of every step. A list or map that is new as a whole gives one change for each entry.
fn single_changes<'a>(steps: &Steps<'a>, arena: &'a Bump) -> Vec<Change> {
    let mut before = steps.submitted;
    let mut found = Vec::new();
    for (source, after) in &steps.steps {
        let step = Steps { submitted: before, steps: vec![(source.clone(), *after)] };
        let lines = yaml::lines(*after, arena);
        for change in step.changes(arena) {
            let mut entries: Vec<String> = lines.iter().filter_map(|line| entry(&line.path, &change.path)).collect();
            entries.dedup();
            if entries.is_empty() || change.removed {
                found.push(change);
            } else {
                found.extend(entries.into_iter().map(|path| Change { path, ..change.clone() }));
            }
        }
        before = *after;
    }
    found
}

/// Returns the entry of the list or map `outer` that contains `path`. An element of a list is not split further.
fn entry(path: &str, outer: &str) -> Option<String> {
    let rest = path.strip_prefix(outer).filter(|_| !outer.ends_with(']'))?;
    let length = match rest.chars().next()? {
        '[' => rest.find(']')? + 1,
        '.' => rest[1..].find(['.', '[']).map_or(rest.len(), |end| end + 1),
        _ => return None,
    };
    Some(format!("{outer}{}", &rest[..length]))
}

fn overridden_setting(setting: &Overridden, mutation: &Mutation<'_>, task: Option<&Task<'_, '_>>) -> OverriddenSetting {
    let is_its = |layer: &&Layer| {
        setting.location.as_ref().is_some_and(|(file, line)| layer.file == *file && layer.line == *line)
    };
    let layers = mutation
        .fragments
        .iter()
        .filter_map(|(source, _)| if let FragmentSource::Layer(layer) = source { Some(*layer) } else { None });
    let conflict = layers.filter(|layer| layer.source == setting.source).find(is_its).map(|layer| layer.conflict);
    let is_task_env = task.is_some_and(Task::user_sets_env) && setting.path.contains(".env[");
    let set_by = setting.manager.as_ref().map_or_else(String::new, |manager| format!(", set by {manager},"));
    let because = match (&setting.winner, conflict) {
        (Some(source), _) => format!("{source} overrides it"),
        (None, Some(Conflict::Override)) if is_task_env => {
            format!("the task's own env{set_by} is kept; an explicit `conflict: Override` would replace it")
        }
        (None, Some(Conflict::Keep)) => format!("the pod's own value{set_by} is kept (conflict: Keep)"),
        (None, _) => format!("the pod's own value{set_by} is kept"),
    };
    let at = setting.location.as_ref().map(|(file, line)| Location { file: file.to_string(), line: *line });
    OverriddenSetting { path: setting.path.clone(), source: setting.source.to_string(), at, because }
}

/// Returns the units that do not match the pod, the modules that were skipped, and the modules that changed nothing.
fn not_applied(explanation: &Explanation<'_>) -> Vec<UnappliedSource> {
    let reached = explanation.reached();
    let (applied, skipped) =
        reached.map_or((&[][..], &[][..]), |reached| (&reached.fragments[..], &reached.skipped_modules[..]));
    let condition = |source: &Source| {
        let module = skipped.iter().find(|(module, _)| *source == Source::Module(module.name.clone()));
        module.and_then(|(module, _)| module.when.as_ref())
    };
    let not_applied = explanation.not_applied.iter().map(|NotApplied { source, reason }| {
        let because =
            condition(source).map_or_else(|| reason.clone(), |when| format!("{reason} (when: {})", when.text));
        UnappliedSource { source: source.to_string(), because }
    });
    let is_module = |source: &FragmentSource<'_>, name: &str| matches!(source, FragmentSource::Module(module) if module.name == name);
    let is_applied = |name: &str| applied.iter().any(|(source, _)| is_module(source, name));
    let is_remaining = |name: &str| explanation.remaining.iter().any(|source| is_module(source, name));
    let unchanged = |run: &&ModuleRun| !is_applied(&run.name) && !is_remaining(&run.name);
    let without_effect = explanation.runs.iter().filter(unchanged).map(|run| {
        let failed = run.error.as_ref().map(|error| format!("failed, and its onError is Ignore: {error}"));
        let because = failed.unwrap_or_else(|| "ran and changed nothing".to_owned());
        UnappliedSource { source: format!("module/{}", run.name), because }
    });
    not_applied.chain(without_effect).collect()
}
