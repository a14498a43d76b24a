//! One review through all of it: task, layers, modules, dependent fields, difference, guards, reply.

use std::sync::Arc;
use std::time::Duration;

use bumpalo::Bump;
use serde::Serialize;
use serde_json::Value;

use crate::config::when::{Facts, Scope};
use crate::guards;
use crate::json::{Json, Shape};
use crate::layers::{self, Plan};
use crate::merge::{Merger, Rule, Trouble};
use crate::normalize::normalize;
use crate::owners::Owners;
use crate::patch::{self, Operation, diff};
use crate::provenance::Steps;
use crate::redact::Redactor;
use crate::render::{Call, Fault, Log, Outcome as Returned, Pace};
use crate::review::{self, Review, cut};
use crate::schema::{self, POD, Type};
use crate::snapshot::{Conflict, Layer, Module, OnError, Snapshot, Source};
use crate::sound;
use crate::task::{Pod, Task};
use crate::template;

/// What came of one request.
#[derive(Debug)]
pub enum Verdict {
    /// the reply is ready
    Done(Answer),
    /// this module is not for the inline pace: run the request again with [`Pace::Patient`]
    Slow(String),
}

/// A reply, and what the log line and the metrics say of it.
#[derive(Debug)]
pub struct Answer {
    /// the HTTP status: 200 for every review that could be answered, 4xx otherwise
    pub status: u16,
    /// the AdmissionReview as JSON text, or one clear sentence (text/plain) for a 4xx
    pub body: Vec<u8>,
    /// what happened, from a closed set
    pub outcome: Outcome,
    /// why not: a rejection's closed CamelCase reason
    pub reason: Option<&'static str>,
    /// the rejection's or the 4xx's sentence, or what is worth knowing of a pod that went through
    pub message: Option<String>,
    /// the configured queue (not what the pod claims: bounded in number)
    pub queue: Option<String>,
    /// the review's uid
    pub uid: String,
    /// the pod's namespace
    pub namespace: String,
    /// the pod's name, or its generateName and `*`
    pub name: String,
    /// operations in the patch
    pub operations: usize,
    /// the modules that ran: name, time, whether it failed
    pub modules: Vec<ModuleRun>,
}

/// One module's part in a request.
#[derive(Debug)]
pub struct ModuleRun {
    /// the module's key in the configuration
    pub name: String,
    /// wall clock
    pub elapsed: Duration,
    /// why it failed, if it did
    pub fault: Option<String>,
    /// what it logged, redacted
    pub logs: Vec<Log>,
}

/// What happened to a request, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// allowed with a patch
    Patched,
    /// a task pod that needed no change
    Unchanged,
    /// not ours: another kind, a mirror pod, no task pod
    Skipped,
    /// refused
    Denied,
    /// not a review that could be read
    Malformed,
}

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// from a closed set
    pub reason: Reason,
    /// one sentence for whoever reads it in a terminal or a task's console
    pub message: String,
}

/// The closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// the pod says two different things of its task
    IdentityContradiction,
    /// what applies to the pod has no sound configuration
    ConfigInvalid,
    /// its queue is not configured, and `unknownQueue` is `Deny`
    UnknownQueue,
    /// the environment that it names does not exist or is not for it
    UnknownEnvironment,
    /// a layer needs the primary container, and nobody can say which that is
    NoPrimaryContainer,
    /// a module refused, trapped, or returned what cannot be used
    ModuleFailed,
    /// a module ran out of its time, or of room to run
    ModuleUnavailable,
    /// something would have been changed that is not a layer's or module's to change
    Protected,
    /// the result would not be a valid pod
    InvalidResult,
    /// a list or map is longer than podgraft takes, or the patch would be
    TooLarge,
    /// podgraft itself went wrong
    Internal,
}

impl Reason {
    /// As it stands in `status.reason` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::IdentityContradiction => "IdentityContradiction",
            Reason::ConfigInvalid => "ConfigInvalid",
            Reason::UnknownQueue => "UnknownQueue",
            Reason::UnknownEnvironment => "UnknownEnvironment",
            Reason::NoPrimaryContainer => "NoPrimaryContainer",
            Reason::ModuleFailed => "ModuleFailed",
            Reason::ModuleUnavailable => "ModuleUnavailable",
            Reason::Protected => "Protected",
            Reason::InvalidResult => "InvalidResult",
            Reason::TooLarge => "TooLarge",
            Reason::Internal => "Internal",
        }
    }

    /// 422 for what will not change by itself, 503 for what may: Flyte retries the one and not the other.
    pub fn code(self) -> u16 {
        match self {
            Reason::ConfigInvalid | Reason::ModuleUnavailable | Reason::Internal => 503,
            _ => 422,
        }
    }
}

impl Rejection {
    /// A rejection.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // It may quote a name that somebody made very long, and goes into a status, a log and a terminal.
        message.truncate(cut(&message, LONGEST_MESSAGE).len());
        Self { reason, message }
    }
}

/// A label's value, where the API server has looked at it.
const LONGEST_LABEL: usize = 63;

/// Bytes of a rejection's sentence.
const LONGEST_MESSAGE: usize = 2048;

/// Elements that a list, or members that a map, of a pod may have. Merging and comparing look elements up by walking
/// lists, which is the fastest for what pods have (tens) and would take a worker's time by the second for 100,000.
const LARGEST: usize = 4096;

/// The same for what a module returns, each of which is laid by itself.
const LARGEST_RETURNED: usize = 1024;

/// Operations of one patch: every one copies the list that it changes, when the patch is tried.
const MOST_OPERATIONS: usize = 1024;

/// The annotation that tells people what was applied.
pub const APPLIED: &str = "podgraft.io/applied";

/// A pod that went through.
#[derive(Debug)]
pub struct Mutation<'a> {
    /// the patch
    pub operations: &'a [Operation<'a>],
    /// the pod before, after each layer and module, and at the end
    pub steps: Steps<'a>,
    /// what the annotation says; empty when nothing applied
    pub applied: String,
    /// the configured queue
    pub queue: Option<String>,
    /// that the pod names a queue which nobody configured, for whoever looks for what it did not get
    pub note: Option<String>,
}

/// Why there is no mutation.
#[derive(Debug)]
pub enum Stop {
    /// refused
    Rejected(Rejection),
    /// to be run again at the patient pace, because of this module
    Slow(String),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Stop::Rejected(rejection)
    }
}

/// Answers one AdmissionReview.
pub fn answer(body: &[u8], snapshot: &Snapshot, pace: Pace<'_>, arena: &Bump) -> Verdict {
    let review = match Review::parse(body, arena) {
        Ok(review) => review,
        Err(message) => return Verdict::Done(malformed(400, message)),
    };
    let mut modules = Vec::new();
    let result = match mutate(&review, snapshot, pace, &mut modules, arena) {
        Err(Stop::Slow(module)) => return Verdict::Slow(module),
        Err(Stop::Rejected(rejection)) => Err(rejection),
        Ok(mutation) => Ok(mutation),
    };
    Verdict::Done(Answer { modules, ..answered(&review, snapshot, result) })
}

fn answered(review: &Review<'_>, snapshot: &Snapshot, result: Result<Option<Mutation<'_>>, Rejection>) -> Answer {
    let mut answer = Answer {
        status: 200,
        body: Vec::new(),
        outcome: Outcome::Skipped,
        reason: None,
        message: None,
        queue: None,
        uid: review.uid.to_owned(),
        namespace: review.namespace.to_owned(),
        name: review.object_name(),
        operations: 0,
        modules: Vec::new(),
    };
    match result {
        Ok(None) => answer.body = review::allowed(review.uid),
        Ok(Some(mutation)) if mutation.operations.is_empty() => {
            answer.outcome = Outcome::Unchanged;
            answer.queue = mutation.queue;
            answer.message = mutation.note;
            answer.body = review::allowed(review.uid);
        }
        Ok(Some(mutation)) => {
            answer.outcome = Outcome::Patched;
            answer.operations = mutation.operations.len();
            answer.body = review::patched(review.uid, mutation.operations, &mutation.applied, &snapshot.digest);
            answer.queue = mutation.queue;
            answer.message = mutation.note;
        }
        Err(rejection) => {
            answer.outcome = Outcome::Denied;
            answer.reason = Some(rejection.reason.name());
            answer.body =
                review::denied(review.uid, rejection.reason.code(), rejection.reason.name(), &rejection.message);
            answer.message = Some(rejection.message);
        }
    }
    answer
}

/// The answer to what is no review: a 4xx with one sentence.
pub fn malformed(status: u16, message: String) -> Answer {
    Answer {
        status,
        body: message.clone().into_bytes(),
        outcome: Outcome::Malformed,
        reason: Some("Malformed"),
        message: Some(message),
        queue: None,
        uid: String::new(),
        namespace: String::new(),
        name: String::new(),
        operations: 0,
        modules: Vec::new(),
    }
}

/// A denial made outside of [`answer`]: no room, no time.
pub fn refuse(body: &[u8], rejection: Rejection) -> Answer {
    let arena = Bump::new();
    match Review::parse(body, &arena) {
        Ok(review) => answered(&review, &Snapshot::default(), Err(rejection)),
        Err(message) => malformed(400, message),
    }
}

/// Takes a review's pod through layers and modules. `None` is a pod that is left alone.
pub fn mutate<'a>(
    review: &Review<'a>,
    snapshot: &'a Snapshot,
    pace: Pace<'_>,
    runs: &mut Vec<ModuleRun>,
    arena: &'a Bump,
) -> Result<Option<Mutation<'a>>, Stop> {
    let pod = Pod { object: review.object, namespace: review.namespace };
    if !is_ours(review, &pod, snapshot) {
        return Ok(None);
    }
    let Some(task) = Task::from_pod(review, snapshot)? else {
        return Ok(None);
    };
    if review.largest > LARGEST {
        let message = format!(
            "the pod has a list or map of {} elements, more than the {LARGEST} that podgraft takes",
            review.largest
        );
        return Err(Rejection::new(Reason::TooLarge, message).into());
    }
    let Some(plan) = Plan::of(&task, &pod, snapshot)? else {
        return Ok(None);
    };
    let owners = Owners::of(pod.object, arena);
    let mut work = Work {
        arena,
        review,
        pod,
        task: &task,
        plan: &plan,
        snapshot,
        pace,
        owners: &owners,
        merger: Merger::new(pod.object, &owners, task.primary, arena),
        steps: Steps { submitted: pod.object, steps: Vec::new() },
        fragments: Vec::new(),
        applied: Vec::new(),
    };
    work.lay_layers()?;
    work.run_modules(runs)?;
    work.finish().map(Some).map_err(Stop::Rejected)
}

/// Not a pod's creation, a mirror pod (the kubelet's own), or podgraft itself: passed through.
fn is_ours(review: &Review<'_>, pod: &Pod<'_>, snapshot: &Snapshot) -> bool {
    review.kind == "Pod"
        && review.is_core
        && review.operation == "CREATE"
        && review.sub_resource.is_empty()
        && matches!(review.object, Json::Object(_))
        && pod.annotation("kubernetes.io/config.mirror").is_none()
        && (snapshot.namespace.is_empty() || review.namespace != snapshot.namespace)
}

/// One pod on its way.
struct Work<'w, 'a> {
    arena: &'a Bump,
    review: &'w Review<'a>,
    pod: Pod<'a>,
    task: &'w Task<'a, 'a>,
    plan: &'w Plan<'a>,
    snapshot: &'a Snapshot,
    pace: Pace<'w>,
    owners: &'w Owners<'a>,
    merger: Merger<'a, 'w>,
    steps: Steps<'a>,
    fragments: Vec<Json<'a>>,
    applied: Vec<String>,
}

impl<'a> Work<'_, 'a> {
    fn lay_layers(&mut self) -> Result<(), Rejection> {
        for layer in &self.plan.layers {
            let rule = Rule {
                overrides: layer.conflict == Conflict::Override,
                keeps_env: self.task.owner_sets_env() && !layer.explicit,
                may_remove: false,
                alias: true,
            };
            let fragment = Json::lift(&layer.fragment, self.arena);
            self.lay(&layer.source, fragment, rule).map_err(|trouble| in_layer(layer, &trouble))?;
        }
        Ok(())
    }

    fn lay(&mut self, source: &Source, fragment: Json<'a>, rule: Rule) -> Result<(), Trouble> {
        let pod = self.merger.lay(self.steps.last(), fragment, rule)?;
        self.steps.push(source.clone(), pod);
        self.fragments.push(fragment);
        let name = source.to_string();
        if self.applied.last() != Some(&name) {
            self.applied.push(name);
        }
        Ok(())
    }

    fn run_modules(&mut self, runs: &mut Vec<ModuleRun>) -> Result<(), Stop> {
        if self.plan.modules.is_empty() {
            return Ok(());
        }
        let task_config = layers::vault(&self.snapshot.task_config, self.task, &self.pod, self.plan.queue);
        let providers = layers::vault(&self.snapshot.providers_info, self.task, &self.pod, self.plan.queue);
        let known = Known { task_config, providers };
        let (task, plan, pod) = (self.task, self.plan, self.pod);
        let mut scope = None;
        for module in &self.plan.modules {
            if let Some(when) = &module.when {
                let scope = scope.get_or_insert_with(|| scope_of(task, plan, &pod, &known));
                scope.set_params(&module.params);
                match (when.holds(scope), module.on_error) {
                    (Ok(true), _) => {}
                    (Ok(false), _) | (Err(_), OnError::Ignore) => continue,
                    (Err(why), OnError::Fail) => return Err(failed(module, &format!("condition: {why}")).into()),
                }
            }
            self.run_module(module, &known, runs)?;
        }
        Ok(())
    }

    fn run_module(&mut self, module: &'a Module, known: &Known, runs: &mut Vec<ModuleRun>) -> Result<(), Stop> {
        let view = template::view(self.steps.last(), self.task, self.arena);
        let template = serde_json::to_string(&view).unwrap_or_default();
        let request = self.request(module, known);
        let call = Call {
            request: &request,
            template: &template,
            task_config: &known.task_config,
            budget: module.budget,
            pace: self.pace,
        };
        let rendered = module.code.render(&call);
        if matches!(rendered.result, Err(Fault::Slow)) {
            return Err(Stop::Slow(module.name.clone()));
        }
        let before = self.steps.last();
        let laid = match rendered.result {
            Err(fault) => Err(fault_of(module, &fault)),
            Ok(returned) => self.take(module, view, returned),
        };
        // Gathering what must not be said costs more than most modules: only where there is something to say.
        let redactor = if laid.is_err() || !rendered.logs.is_empty() {
            Redactor::new(&[self.pod.object, before], &[&known.task_config, &known.providers], self.arena)
        } else {
            Redactor::default()
        };
        let laid = laid.map_err(|rejection| redacted(&rejection, module, &redactor));
        runs.push(ModuleRun {
            name: module.name.clone(),
            elapsed: rendered.elapsed,
            fault: laid.as_ref().err().map(|rejection| rejection.message.clone()),
            logs: rendered.logs.iter().map(|log| redactor.log(log)).collect(),
        });
        match (laid, module.on_error) {
            (Err(rejection), OnError::Fail) => Err(Stop::Rejected(rejection)),
            _ => Ok(()),
        }
    }

    /// Takes what a module returned: JSON, of the schema, without what it must not hold.
    fn take(&mut self, module: &'a Module, view: Json<'a>, returned: Returned) -> Result<(), Rejection> {
        let (text, whole) = match returned {
            Returned::Unchanged => return Ok(()),
            Returned::Template(text) => (text, true),
            Returned::Fragment(text) => (text, false),
        };
        let what = if whole { "template" } else { "fragment" };
        let text = self.arena.alloc_str(&text);
        let (value, largest) = Json::parse_measured(text, &Shape::All, self.arena)
            .ok()
            .filter(|(value, _)| matches!(value, Json::Object(_)))
            .ok_or_else(|| failed(module, &format!("returned a {what} that is not a JSON object")))?;
        if largest > LARGEST_RETURNED.max(self.review.largest) {
            return Err(failed(module, &format!("returned a {what} with a list or map of {largest} elements")));
        }
        if let Some(name) = template::repeated_name(value) {
            return Err(failed(
                module,
                &format!("returned a {what} in which the name {name:?} stands twice in one object"),
            ));
        }
        let fragment = if whole { template::changes(view, value, self.arena) } else { value };
        schema::check(without_directives(fragment, self.arena), Type::Object(&POD), false).map_err(|misfit| {
            failed(module, &format!("returned a {what} that is no pod's: {} {}", misfit.path, misfit.message))
        })?;
        if template::holds_opaque(fragment) {
            return Err(failed(module, &format!("returned a {what} that uses a value which was hidden from it")));
        }
        if let Some(path) = guards::beyond_a_module(fragment) {
            return Err(failed(module, &format!("asks for {path}, which a module cannot give: a layer can")));
        }
        let rule = Rule { overrides: true, keeps_env: false, may_remove: module.may_remove, alias: !whole };
        let source = Source::Module(module.name.clone());
        let before = (self.steps.last(), self.steps.steps.len(), self.fragments.len(), self.applied.len());
        self.lay(&source, fragment, rule).map_err(|trouble| match trouble {
            Trouble::Removal(path) => failed(module, &format!("removes {path}, and mayRemove is not set")),
            Trouble::Directive(path) => failed(module, &format!("returned a directive that does not exist: {path}")),
            Trouble::NoPrimary => failed(module, NO_PRIMARY),
        })?;
        // Checked by itself, so that the refusal is this module's and nothing of it stays where it may be ignored.
        let step = diff(before.0, self.steps.last(), self.arena);
        if let Err(rejection) = self.check(before.0, self.steps.last(), step, self.merger.removed()) {
            self.steps.steps.truncate(before.1);
            self.fragments.truncate(before.2);
            self.applied.truncate(before.3);
            return Err(rejection);
        }
        if let Some(applied) = self.applied.last_mut() {
            *applied = format!("module/{}@{}", module.name, &module.digest[..module.digest.len().min(12)]);
        }
        Ok(())
    }

    /// The hook's arguments but the template and `task_config` (design section 5).
    fn request(&self, module: &Module, known: &Known) -> String {
        let primary =
            self.pod.containers().iter().find(|c| c.get("name").is_some_and(|name| name.as_str() == self.task.primary));
        let worker_id = primary.and_then(|container| Pod::env(container, "CLEARML_WORKER_ID"));
        let request = Request {
            queue: self.task.queue_id,
            queue_name: self.plan.queue.map_or(self.task.queue_name, |queue| Some(queue.name.as_str())),
            task_data: TaskData { id: self.task.id.as_deref(), user: self.task.user },
            providers_info: &known.providers,
            worker: Worker { id: worker_id, namespace: self.pod.namespace, kind: "Pod" },
            params: &module.params,
            environment: self.plan.environment,
            namespace: self.pod.namespace,
            primary_container: self.task.primary,
            dry_run: self.review.dry_run,
        };
        serde_json::to_string(&request).unwrap_or_default()
    }

    fn finish(mut self) -> Result<Mutation<'a>, Rejection> {
        let (pod, mut removable) =
            normalize(self.pod.object, self.steps.last(), &self.fragments, self.task.primary, self.owners, self.arena);
        self.steps.push(Source::Normalize, pod);
        removable.extend_from_slice(self.merger.removed());
        let applied = self.applied.join(", ");
        if !self.steps.steps.is_empty() {
            let annotated = annotate(self.steps.last(), self.arena.alloc_str(&applied), self.arena);
            self.steps.push(Source::Normalize, annotated);
        }
        let operations = diff(self.pod.object, self.steps.last(), self.arena);
        self.guard(operations, &removable)?;
        let queue = self.plan.queue.map(|queue| queue.name.clone());
        let note = self.plan.queue.is_none().then(|| self.task.queue_name.or(self.task.queue_id)).flatten();
        let note =
            note.map(|name| format!("queue '{}' is not configured (unknownQueue: Base)", cut(name, LONGEST_LABEL)));
        Ok(Mutation { operations, steps: self.steps, applied, queue, note })
    }

    /// Everything that must hold before a patch may leave.
    fn guard(&self, operations: &[Operation<'a>], removable: &[String]) -> Result<(), Rejection> {
        if operations.len() > MOST_OPERATIONS {
            let message = format!("the pod would need {} changes, more than {MOST_OPERATIONS}", operations.len());
            return Err(Rejection::new(Reason::TooLarge, message));
        }
        self.check(self.pod.object, self.steps.last(), operations, removable)?;
        // A patch that does not apply rejects the pod even where failures are ignored, and nobody is named.
        match patch::apply(self.pod.object, operations, self.arena) {
            Ok(result) if result == self.steps.last() => Ok(()),
            Ok(_) => Err(Rejection::new(
                Reason::Internal,
                "the patch gives another pod than the layers do; please report this",
            )),
            Err(why) => {
                Err(Rejection::new(Reason::Internal, format!("the patch does not apply: {why}; please report this")))
            }
        }
    }

    /// What must hold of the way from one pod to another.
    fn check(
        &self,
        before: Json<'a>,
        after: Json<'a>,
        operations: &[Operation<'a>],
        removable: &[String],
    ) -> Result<(), Rejection> {
        let by =
            |path: &str| self.steps.culprit(path, self.arena).map_or_else(String::new, |source| format!("{source}: "));
        guards::check(operations, self.task, self.pod.owner().is_some(), removable).map_err(|(path, whose)| {
            Rejection::new(Reason::Protected, format!("{}{path} may not be changed: {whose}", by(&path)))
        })?;
        guards::fits(operations).map_err(|misfit| {
            let message = format!("{}{} {}", by(&misfit.path), misfit.path, misfit.message);
            Rejection::new(Reason::InvalidResult, message)
        })?;
        sound::check(before, after)
            .map_err(|(path, what)| Rejection::new(Reason::InvalidResult, format!("{}{path} {what}", by(&path))))
    }
}

/// What conditions are asked about.
fn scope_of<'k>(task: &'k Task<'_, '_>, plan: &'k Plan<'_>, pod: &Pod<'k>, known: &'k Known) -> Scope<'k> {
    let labels = pod.object.at(&["metadata", "labels"]);
    let labels = labels.iter().flat_map(Json::members);
    Scope::new(Facts {
        task_config: &known.task_config,
        providers_info: &known.providers,
        labels: labels.filter_map(|(key, value)| Some((*key, value.as_str()?))).collect(),
        queue: task.queue_id.unwrap_or_default(),
        queue_name: plan.queue.map_or(task.queue_name, |queue| Some(queue.name.as_str())).unwrap_or_default(),
        environment: plan.environment.unwrap_or_default(),
        namespace: pod.namespace,
        user: task.user.unwrap_or_default(),
        task_id: task.id.as_deref().unwrap_or_default(),
        task_name: "",
        system: &task.system.name,
    })
}

/// What a hook is given beside the template.
#[derive(Serialize)]
struct Request<'r> {
    queue: Option<&'r str>,
    queue_name: Option<&'r str>,
    task_data: TaskData<'r>,
    providers_info: &'r Value,
    worker: Worker<'r>,
    params: &'r Value,
    environment: Option<&'r str>,
    namespace: &'r str,
    primary_container: Option<&'r str>,
    dry_run: bool,
}

#[derive(Serialize)]
struct TaskData<'r> {
    id: Option<&'r str>,
    user: Option<&'r str>,
}

#[derive(Serialize)]
struct Worker<'r> {
    #[serde(rename = "worker_id")]
    id: Option<&'r str>,
    namespace: &'r str,
    kind: &'static str,
}

/// What the configuration knows of a pod's user, queue and namespace.
struct Known {
    task_config: Arc<Value>,
    providers: Arc<Value>,
}

const NO_PRIMARY: &str = "has something for the primary container, and nobody can say which that is: set the annotation podgraft.io/primary-container";

fn in_layer(layer: &Layer, trouble: &Trouble) -> Rejection {
    match trouble {
        Trouble::NoPrimary => Rejection::new(Reason::NoPrimaryContainer, format!("{} {NO_PRIMARY}", layer.source)),
        Trouble::Removal(path) | Trouble::Directive(path) => {
            Rejection::new(Reason::ConfigInvalid, format!("{} ({}:{}) {path}", layer.source, layer.file, layer.line))
        }
    }
}

/// Not cut here: what is cut off within a secret would no longer be found.
fn failed(module: &Module, what: &str) -> Rejection {
    Rejection { reason: Reason::ModuleFailed, message: format!("module {} {what}", module.name) }
}

/// What is said of a module may quote what it returned.
fn redacted(rejection: &Rejection, module: &Module, redactor: &Redactor<'_>) -> Rejection {
    let ours = ["module ", "module/"].map(|word| format!("{word}{}", module.name));
    let ours = ours.iter().find(|ours| rejection.message.starts_with(*ours)).map_or("", String::as_str);
    let message = format!("{ours}{}", redactor.text(&rejection.message[ours.len()..]));
    Rejection { message, reason: rejection.reason }
}

fn fault_of(module: &Module, fault: &Fault) -> Rejection {
    let reason = match fault {
        Fault::Time(_) | Fault::Busy | Fault::Slow => Reason::ModuleUnavailable,
        _ => Reason::ModuleFailed,
    };
    Rejection { reason, message: format!("module {} {fault}", module.name) }
}

/// A fragment's `$patch` members are ours, not the pod's.
fn without_directives<'a>(fragment: Json<'a>, arena: &'a Bump) -> Json<'a> {
    match fragment {
        Json::Array(items) => Json::array(
            items.iter().filter(|item| item.get("$patch").is_none()).map(|item| without_directives(*item, arena)),
            arena,
        ),
        Json::Object(members) => {
            Json::object(members.iter().map(|(key, value)| (*key, without_directives(*value, arena))), arena)
        }
        other => other,
    }
}

fn annotate<'a>(pod: Json<'a>, applied: &'a str, arena: &'a Bump) -> Json<'a> {
    let metadata = pod.get("metadata").unwrap_or(Json::Object(&[]));
    let annotations = metadata.get("annotations").filter(|annotations| matches!(annotations, Json::Object(_)));
    let annotations = annotations.unwrap_or(Json::Object(&[])).with(APPLIED, Json::Str(applied), arena);
    pod.with("metadata", metadata.with("annotations", annotations, arena), arena)
}

#[cfg(test)]
mod tests;
