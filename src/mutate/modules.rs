//! The modules' part: what each is asked, and what is taken of its answer.

use std::fmt::Write as _;
use std::time::Duration;

use bumpalo::Bump;
use serde::Serialize;
use serde_json::Value;

use super::{FragmentSource, TaskFacts, NO_PRIMARY, Reason, Denial, MutateError, Work};
use crate::model::condition::{Facts, Scope};
use crate::mutate::guards;
use crate::json::{Json, Shape};
use crate::mutate::plan::Plan;
use crate::merge::{MergeRule, MergeError};
use crate::mutate::normalize::quantities;
use crate::k8s::patch::diff;
use crate::mutate::redact::Redactor;
use crate::model::hook::{HookRequest, HookError, LogLine, HookOutput as Returned};
use crate::k8s::schema::{self, POD, Type};
use crate::model::snapshot::{Conflict, Module, OnError, Source};
use crate::model::task::{Pod, Task};
use crate::mutate::hook_view;

/// One module's part in a request.
#[derive(Debug)]
pub struct ModuleRun {
    /// the module's key in the configuration
    pub name: String,
    /// wall clock
    pub elapsed: Duration,
    /// why it failed, if it did
    pub error: Option<String>,
    /// what it logged, redacted
    pub logs: Vec<LogLine>,
}

/// The same for what a module returns, each of which is laid by itself.
const MAX_RETURNED_ELEMENTS: usize = 1024;

/// Bytes that most templates take: an ordinary one has 6 KB.
const TEMPLATE_CAPACITY: usize = 8 << 10;

impl<'a> Work<'_, 'a> {
    pub(super) fn run_modules(&mut self, runs: &mut Vec<ModuleRun>) -> Result<(), MutateError> {
        if self.plan.modules.is_empty() {
            return Ok(());
        }
        let known = self.task_facts();
        let (task, plan, pod) = (self.task, self.plan, self.pod);
        let mut scope = None;
        for module in &self.plan.modules {
            if let Some(when) = &module.when {
                let scope = scope.get_or_insert_with(|| scope_of(task, plan, &pod, known));
                scope.set_params(&module.params);
                match (when.holds(scope), module.on_error) {
                    (Ok(true), _) => {}
                    (Ok(false), _) => {
                        self.idle.push((module, None));
                        continue;
                    }
                    (Err(why), OnError::Ignore) => {
                        self.idle.push((module, Some(why)));
                        continue;
                    }
                    (Err(why), OnError::Fail) => return Err(failed(module, &format!("condition: {why}")).into()),
                }
            }
            self.run_module(module, known, runs)?;
        }
        Ok(())
    }

    fn run_module(&mut self, module: &'a Module, known: &TaskFacts, runs: &mut Vec<ModuleRun>) -> Result<(), MutateError> {
        let view = template::view(self.steps.last(), self.task, self.arena);
        let mut template = String::with_capacity(TEMPLATE_CAPACITY);
        view.write(&mut template);
        let request = self.request(module, known);
        let call = HookRequest {
            request: &request,
            template: &template,
            task_config: &known.task_config,
            budget: module.budget,
            execution: self.pace,
        };
        let rendered = module.hook.call(&call);
        if matches!(rendered.result, Err(HookError::TooSlowInline)) {
            return Err(MutateError::NeedsPool(module.name.clone()));
        }
        let before = self.steps.last();
        let laid = match rendered.result {
            Err(fault) => Err(denial_of(module, &fault)),
            Ok(returned) => self.apply_output(module, view, returned),
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
            error: laid.as_ref().err().map(|rejection| rejection.message.clone()),
            logs: rendered.logs.iter().map(|log| redactor.log(log)).collect(),
        });
        match (laid, module.on_error) {
            (Err(rejection), OnError::Fail) => Err(MutateError::Denied(rejection)),
            _ => Ok(()),
        }
    }

    /// Takes what a module returned: JSON, of the schema, without what it must not hold.
    fn apply_output(&mut self, module: &'a Module, view: Json<'a>, returned: Returned) -> Result<(), Denial> {
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
        if largest > MAX_RETURNED_ELEMENTS.max(self.review.largest) {
            return Err(failed(module, &format!("returned a {what} with a list or map of {largest} elements")));
        }
        if let Some(name) = template::repeated_name(value) {
            return Err(failed(
                module,
                &format!("returned a {what} in which the name {name:?} stands twice in one object"),
            ));
        }
        let fragment = if whole { template::changes(view, value, self.arena) } else { value };
        schema::validate(without_directives(fragment, self.arena), Type::Object(&POD), false).map_err(|misfit| {
            failed(module, &format!("returned a {what} that is no pod's: {} {}", misfit.path, misfit.message))
        })?;
        let fragment = quantities(fragment, Type::Object(&POD), self.arena);
        if template::holds_opaque(fragment) {
            return Err(failed(module, &format!("returned a {what} that uses a value which was hidden from it")));
        }
        if let Some(path) = guards::beyond_a_module(fragment) {
            return Err(failed(module, &format!("asks for {path}, which a module cannot give: a layer can")));
        }
        let rule =
            MergeRule { conflict: Conflict::Override, keeps_env: false, may_remove: module.may_remove, alias: !whole };
        let before = (self.steps.last(), self.steps.steps.len(), self.laid.len());
        let pod = self.merger.apply(before.0, fragment, rule).map_err(|trouble| match trouble {
            MergeError::Removal(path) => failed(module, &format!("removes {path}, and mayRemove is not set")),
            MergeError::Directive(why) | MergeError::Conflict(why) => {
                failed(module, &format!("returned a {what} that cannot be laid: {why}"))
            }
            MergeError::NoPrimary => failed(module, NO_PRIMARY),
        })?;
        self.steps.push(Source::Module(module.name.clone()), pod);
        self.laid.push((FragmentSource::Module(module), fragment));
        // Checked by itself, so that the refusal is this module's and nothing of it stays where it may be ignored.
        let step = diff(before.0, self.steps.last(), self.arena);
        if let Err(rejection) = self.check(before.0, self.steps.last(), step, self.merger.removed()) {
            self.steps.steps.truncate(before.1);
            self.laid.truncate(before.2);
            return Err(rejection);
        }
        let separator = if self.applied.is_empty() { "" } else { ", " };
        let digest = &module.digest[..module.digest.len().min(12)];
        let _ = write!(self.applied, "{separator}module/{}@{digest}", module.name); // a String takes everything
        Ok(())
    }

    /// The hook's arguments but the template and `task_config` (design section 5).
    fn request(&self, module: &Module, known: &TaskFacts) -> String {
        let request = Request {
            queue: self.task.queue_id,
            queue_name: self.queue_name(),
            task_data: TaskData { id: self.task.id.as_deref(), user: self.task.user },
            providers_info: &known.providers,
            worker: Worker { id: self.worker_id(), namespace: self.pod.namespace, kind: "Pod" },
            params: &module.params,
            environment: self.plan.environment,
            namespace: self.pod.namespace,
            primary_container: self.task.primary,
            dry_run: self.review.dry_run,
        };
        serde_json::to_string(&request).unwrap_or_default()
    }
}

/// What conditions are asked about.
fn scope_of<'k>(task: &'k Task<'_, '_>, plan: &'k Plan<'_>, pod: &Pod<'k>, known: &'k TaskFacts) -> Scope<'k> {
    let labels = pod.object.get_path(&["metadata", "labels"]);
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

/// Not cut here: what is cut off within a secret would no longer be found.
fn failed(module: &Module, what: &str) -> Denial {
    Denial { reason: Reason::ModuleFailed, message: format!("module {} {what}", module.name) }
}

/// What is said of a module may quote what it returned.
fn redacted(rejection: &Denial, module: &Module, redactor: &Redactor<'_>) -> Denial {
    let ours = ["module ", "module/"].map(|word| format!("{word}{}", module.name));
    let ours = ours.iter().find(|ours| rejection.message.starts_with(*ours)).map_or("", String::as_str);
    let message = format!("{ours}{}", redactor.text(&rejection.message[ours.len()..]));
    Denial { message, reason: rejection.reason }
}

fn denial_of(module: &Module, fault: &HookError) -> Denial {
    let reason = match fault {
        HookError::TimedOut(_) | HookError::Unavailable | HookError::TooSlowInline => Reason::ModuleUnavailable,
        _ => Reason::ModuleFailed,
    };
    Denial { reason, message: format!("module {} {fault}", module.name) }
}

/// A fragment's `$patch` members are ours, not the pod's; elements that have one are keys and no more.
fn without_directives<'a>(fragment: Json<'a>, arena: &'a Bump) -> Json<'a> {
    match fragment {
        Json::Array(items) => Json::array(
            items.iter().filter(|item| item.get("$patch").is_none()).map(|item| without_directives(*item, arena)),
            arena,
        ),
        Json::Object(members) => {
            let kept = members.iter().filter(|(key, _)| *key != "$patch");
            Json::object(kept.map(|(key, value)| (*key, without_directives(*value, arena))), arena)
        }
        other => other,
    }
}
