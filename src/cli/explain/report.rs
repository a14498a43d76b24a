//! The account of one pod, with nothing borrowed: what `-o json` prints.

use bumpalo::Bump;
use serde::Serialize;

use crate::explain::simulate::OFFLINE_TIMEOUT;
use crate::explain::yaml;
use crate::explain::{self, Explanation, NotApplied, Overridden};
use crate::json::Json;
use crate::k8s::labels::PRIMARY;
use crate::k8s::labels::USER;
use crate::k8s::patch::is_within;
use crate::k8s::schema::nearest;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::hook::Execution;
use crate::model::pod::Pod;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::system::{System, SystemKind};
use crate::model::task::{Task, selecting_labels};
use crate::mutate::plan::Plan;
use crate::mutate::provenance::FragmentSource;
use crate::mutate::provenance::{Change, Steps};
use crate::mutate::{MutateError, MutateFailure, Mutation};

/// Everything that is to be said of one pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// the file that it comes from
    pub(super) manifest: String,
    /// namespace and name
    pub(super) pod: String,
    /// patched, unchanged, alone or rejected
    pub(super) outcome: &'static str,
    /// why it is left alone, or refused
    pub(super) because: Option<String>,
    pub(super) denial: Option<DenialView>,
    /// what the pod is to podgraft; none is no task's pod
    pub(super) task: Option<Identity>,
    /// who was laid, in this order; on a pod that is rejected, until then
    pub(super) applied: Vec<Step>,
    /// of a pod that is rejected, who was to be laid after them: first, if it is one of them, who caused it
    pub(super) not_reached: Vec<Step>,
    /// what podgraft put there or took away, by path
    pub(super) fields: Vec<Field>,
    /// what somebody asked for and is not there
    pub(super) overridden: Vec<Missing>,
    /// what did not apply at all
    pub(super) not_applied: Vec<Unused>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DenialView {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    pub(super) system: String,
    pub(super) id: Option<String>,
    pub(super) user: Option<String>,
    /// as the pod says it
    pub(super) queue: Option<String>,
    /// as the configuration calls it
    pub(super) configured_queue: Option<String>,
    pub(super) primary_container: Option<String>,
    /// whose word it is, and whether it counts
    pub(super) sender: String,
}

/// A place in the configuration; modules have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Location {
    pub(super) file: String,
    pub(super) line: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) conflict: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Field {
    pub(super) path: String,
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) removed: bool,
    /// who put something else there before
    pub(super) replaced: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Missing {
    pub(super) path: String,
    pub(super) source: String,
    pub(super) at: Option<Location>,
    pub(super) because: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Unused {
    pub(super) source: String,
    pub(super) because: String,
}

impl Report {
    /// Works it out.
    ///
    /// # Errors
    /// The body is no review.
    pub(super) fn build(label: &str, body: &[u8], snapshot: &Snapshot, arena: &Bump) -> Result<Self, String> {
        let review = Review::parse(body, arena)?;
        let account = explain::explain(&review, snapshot, Execution::Pooled(&|| OFFLINE_TIMEOUT), arena);
        let pod = Pod::from_review(&review);
        let task = Task::from_pod(&pod, &review, snapshot).ok().flatten();
        let alone = account.skipped.as_ref().map(|why| match &task {
            None => no_task(&pod, snapshot),
            Some(_) => why.clone(),
        });
        let mut explanation = Self {
            manifest: label.to_owned(),
            pod: format!("{}/{}", review.namespace, review.object_name()),
            outcome: "alone",
            because: alone,
            denial: None,
            task: task.as_ref().map(|task| identity(task, &pod, &review, snapshot)),
            applied: Vec::new(),
            not_reached: account.not_reached.iter().map(|by| step(*by)).collect(),
            fields: Vec::new(),
            overridden: Vec::new(),
            not_applied: unused(&account),
        };
        if let Some(mutation) = account.reached() {
            explanation.fill(mutation, task.as_ref(), &account.overridden, arena);
        }
        match &account.result {
            Ok(_) => {}
            Err(MutateFailure { error: MutateError::Denied(rejection), .. }) => {
                explanation.outcome = "rejected";
                let (code, reason) = (rejection.reason.code(), rejection.reason.name());
                explanation.denial = Some(DenialView { code, reason, message: rejection.message.clone() });
            }
            Err(MutateFailure { error: MutateError::NeedsPool(module), .. }) => {
                return Err(format!("module {module} did not run"));
            }
        }
        Ok(explanation)
    }

    fn fill<'a>(&mut self, mutation: &Mutation<'a>, task: Option<&Task<'_, '_>>, lost: &[Overridden], arena: &'a Bump) {
        self.outcome = if mutation.operations.is_empty() { "unchanged" } else { "patched" };
        self.applied = mutation.fragments.iter().map(|(by, _)| step(*by)).collect();
        let laid = AppliedPaths::of(mutation, arena);
        self.fields = fields(&mutation.steps, &laid, arena);
        self.overridden = lost.iter().map(|lost| missing(lost, mutation, task)).collect();
    }

    /// Only what concerns a field, what is in it, and what it is in.
    pub(super) fn about(mut self, field: &str) -> Self {
        let concerns = |path: &str| is_within(path, field) || is_within(field, path);
        self.fields.retain(|one| concerns(&one.path));
        self.overridden.retain(|one| concerns(&one.path));
        self
    }
}

/// Why a pod is nobody's task, and what would make it one.
fn no_task(pod: &Pod<'_>, snapshot: &Snapshot) -> String {
    let labels: Vec<&str> = selecting_labels().collect();
    if let Some(label) = labels.iter().find(|label| pod.label(label).is_some()) {
        let namespaces = |system: &System| format!("systems.{} is for {}", system.name, system.namespaces.join(", "));
        let systems: Vec<_> = snapshot.systems.iter().map(namespaces).collect();
        let systems = systems.join("; ");
        return format!("it has the label {label}, but is in namespace {}, and {systems}", pod.namespace);
    }
    let own = pod.object.get_path(&["metadata", "labels"]).unwrap_or(Json::Null);
    let near = own.members().iter().find_map(|(key, _)| Some((*key, nearest(key, labels.iter().copied())?)));
    let near = near.map_or_else(String::new, |(key, label)| format!("; its label {key} is nearly {label}"));
    format!("it is no task pod: it has none of the labels {}{near}", labels.join(", "))
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

/// Whether the sender is believed, and if not, why.
fn sender(task: &Task<'_, '_>, review: &Review<'_>) -> String {
    let name = review.user.get("username").and_then(|name| name.as_str()).filter(|name| !name.is_empty());
    let name = name.unwrap_or("nobody");
    let system = task.system;
    let claims =
        system.kind == SystemKind::ClearML || review.object.get_path(&["metadata", "annotations", USER]).is_some();
    if task.trusted {
        return format!("{name}, a submitter of systems.{}: believed", system.name);
    }
    if !claims {
        return format!("{name}; the pod claims no task id and no user");
    }
    let why = if system.submitters.iter().any(|submitter| submitter == name) {
        "who sends it from inside a task's pod".to_owned()
    } else if system.submitters.is_empty() {
        format!("and systems.{} names no submitters", system.name)
    } else {
        format!("who is none of systems.{}.submitters ({})", system.name, system.submitters.join(", "))
    };
    format!("{name}, {why}: task id and user are not believed, and nothing applies that needs them")
}

fn place(layer: &Layer) -> Location {
    Location { file: layer.file.to_string(), line: layer.line }
}

fn step(by: FragmentSource<'_>) -> Step {
    match by {
        FragmentSource::Layer(layer) => {
            // the variants are called as the configuration writes them
            let conflict = Some(format!("{:?}", layer.conflict));
            Step { source: layer.source.to_string(), at: Some(place(layer)), conflict }
        }
        FragmentSource::Module(module) => Step { source: format!("module/{}", module.name), at: None, conflict: None },
    }
}

/// The layers with the paths that they set.
struct AppliedPaths<'a>(Vec<(&'a Layer, Vec<String>)>);

impl<'a> AppliedPaths<'a> {
    fn of(mutation: &Mutation<'a>, arena: &'a Bump) -> Self {
        let layers = mutation.fragments.iter().filter_map(|(by, fragment)| match by {
            FragmentSource::Layer(layer) => {
                let paths = yaml::lines(*fragment, arena).into_iter().map(|line| named(line.path, mutation.primary));
                Some((*layer, paths.collect()))
            }
            FragmentSource::Module(_) => None,
        });
        Self(layers.collect())
    }

    /// Where the last of a source's layers stands that sets something at `path`.
    fn place(&self, source: &Source, path: &str) -> Option<Location> {
        let of_source = || self.0.iter().rev().filter(|(layer, _)| layer.source == *source);
        let sets = |paths: &[String]| paths.iter().any(|own| is_within(own, path) || is_within(path, own));
        let exact = of_source().find(|(_, paths)| paths.iter().any(|own| own == path));
        let exact = exact.or_else(|| of_source().find(|(_, paths)| sets(paths)));
        exact.or_else(|| of_source().next()).map(|(layer, _)| place(layer))
    }
}

/// A fragment's path with the primary container's own name.
fn named(path: String, primary: Option<&str>) -> String {
    let alias = format!("spec.containers[{PRIMARY}]");
    match (path.strip_prefix(&alias), primary) {
        (Some(rest), Some(name)) => format!("spec.containers[{name}]{rest}"),
        _ => path,
    }
}

/// Each path once, with who was there last.
fn fields<'a>(steps: &Steps<'a>, laid: &AppliedPaths<'_>, arena: &'a Bump) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for touch in single_touches(steps, arena).into_iter().rev() {
        let source = touch.source.to_string();
        // Whoever replaced the whole of it came later.
        if let Some(field) = fields.iter_mut().find(|field| is_within(&touch.path, &field.path)) {
            if field.source != source && !field.replaced.contains(&source) {
                field.replaced.insert(0, source);
            }
            continue;
        }
        let at = laid.place(&touch.source, &touch.path);
        fields.push(Field { path: touch.path, source, at, removed: touch.removed, replaced: Vec::new() });
    }
    fields.sort_by(|a, b| a.path.cmp(&b.path));
    fields
}

/// What every step touched; a whole list or map that is new is told entry by entry.
fn single_touches<'a>(steps: &Steps<'a>, arena: &'a Bump) -> Vec<Change> {
    let mut before = steps.submitted;
    let mut found = Vec::new();
    for (source, after) in &steps.steps {
        let step = Steps { submitted: before, steps: vec![(source.clone(), *after)] };
        let lines = yaml::lines(*after, arena);
        for touch in step.changes(arena) {
            let mut entries: Vec<String> = lines.iter().filter_map(|line| entry(&line.path, &touch.path)).collect();
            entries.dedup();
            if entries.is_empty() || touch.removed {
                found.push(touch);
            } else {
                found.extend(entries.into_iter().map(|path| Change { path, ..touch.clone() }));
            }
        }
        before = *after;
    }
    found
}

/// The member or element of the list or map `outer` that `path` is in. An element itself is told as a whole.
fn entry(path: &str, outer: &str) -> Option<String> {
    let rest = path.strip_prefix(outer).filter(|_| !outer.ends_with(']'))?;
    let length = match rest.chars().next()? {
        '[' => rest.find(']')? + 1,
        '.' => rest[1..].find(['.', '[']).map_or(rest.len(), |end| end + 1),
        _ => return None,
    };
    Some(format!("{outer}{}", &rest[..length]))
}

fn missing(lost: &Overridden, mutation: &Mutation<'_>, task: Option<&Task<'_, '_>>) -> Missing {
    let is_its =
        |layer: &&Layer| lost.location.as_ref().is_some_and(|(file, line)| layer.file == *file && layer.line == *line);
    let layers = mutation
        .fragments
        .iter()
        .filter_map(|(by, _)| if let FragmentSource::Layer(layer) = by { Some(*layer) } else { None });
    let conflict = layers.filter(|layer| layer.source == lost.source).find(is_its).map(|layer| layer.conflict);
    let of_task = task.is_some_and(Task::user_sets_env) && lost.path.contains(".env[");
    let written = lost.manager.as_ref().map_or_else(String::new, |manager| format!(", written by {manager},"));
    let because = match (&lost.winner, conflict) {
        (Some(source), _) => format!("{source} has the last word"),
        (None, Some(Conflict::Override)) if of_task => {
            format!("the task's own env{written} stays; `conflict: Override`, written out, would win")
        }
        (None, Some(Conflict::Keep)) => format!("the pod's own value{written} stays (conflict: Keep)"),
        (None, _) => format!("the pod's own value{written} stays"),
    };
    let at = lost.location.as_ref().map(|(file, line)| Location { file: file.to_string(), line: *line });
    Missing { path: lost.path.clone(), source: lost.source.to_string(), at, because }
}

/// Units that are not for the pod, modules whose condition does not hold, and modules that ran in vain.
fn unused(account: &Explanation<'_>) -> Vec<Unused> {
    let reached = account.reached();
    let (laid, idle) =
        reached.map_or((&[][..], &[][..]), |reached| (&reached.fragments[..], &reached.skipped_modules[..]));
    let condition = |source: &Source| {
        let module = idle.iter().find(|(module, _)| *source == Source::Module(module.name.clone()));
        module.and_then(|(module, _)| module.when.as_ref())
    };
    let passed = account.not_applied.iter().map(|NotApplied { source, reason }| {
        let because =
            condition(source).map_or_else(|| reason.clone(), |when| format!("{reason} (when: {})", when.text));
        Unused { source: source.to_string(), because }
    });
    let is_its =
        |by: &FragmentSource<'_>, name: &str| matches!(by, FragmentSource::Module(module) if module.name == name);
    let was_laid = |name: &str| laid.iter().any(|(by, _)| is_its(by, name));
    let refused = |name: &str| account.not_reached.iter().any(|by| is_its(by, name));
    let in_vain = account.runs.iter().filter(|run| !was_laid(&run.name) && !refused(&run.name)).map(|run| {
        let failed = run.error.as_ref().map(|fault| format!("failed, and its onError is Ignore: {fault}"));
        let because = failed.unwrap_or_else(|| "ran, and had nothing to change".to_owned());
        Unused { source: format!("module/{}", run.name), because }
    });
    passed.chain(in_vain).collect()
}
