//! Runs the plan's modules: the request to each hook, and the checks of its output.

use std::fmt::Write as _;
use std::time::Duration;

use bumpalo::Bump;
use serde::Serialize;
use serde_json::Value;

use super::applied::{Applied, Interrupted};
use super::context::{Context, TaskFacts};
use super::mutation::{MutateError, NO_PRIMARY};
use crate::json::{Json, Shape};
use crate::k8s::patch::diff;
use crate::k8s::schema::{self, POD, Type};
use crate::merge::layer::{Conflict, Source};
use crate::merge::{MergeError, MergeRule};
use crate::model::condition::{Facts, Scope};
use crate::model::denial::{Denial, Reason};
use crate::model::hook::{HookError, HookOutput, HookRequest, LogLine};
use crate::model::pod::Pod;
use crate::model::snapshot::{Module, OnError};
use crate::model::task::Task;
use crate::mutate::guards;
use crate::mutate::hook_view;
use crate::mutate::normalize::canonical_quantities;
use crate::mutate::plan::Plan;
use crate::mutate::provenance::FragmentSource;
use crate::mutate::redact::Redactor;

/// One module's part in a request.
#[derive(Debug)]
pub struct ModuleRun {
    /// the module's key in the configuration
    pub name: String,
    /// wall clock
    pub elapsed: Duration,
    /// the failure, if it failed
    pub error: Option<String>,
    /// its log lines, redacted
    pub logs: Vec<LogLine>,
}

/// Elements that a list, or members that a map, of a hook's output may have.
const MAX_RETURNED_ELEMENTS: usize = 1024;

/// Bytes that most templates take: an ordinary one has 6 KB.
const TEMPLATE_CAPACITY: usize = 8 << 10;

type Result<T, E = Denial> = std::result::Result<T, E>;

impl<'w, 'a> Context<'w, 'a> {
    /// Runs the plan's modules in order; adds to `runs` those whose hook was called.
    pub(super) fn run_modules(
        &self,
        mut applied: Applied<'w, 'a>,
        runs: &mut Vec<ModuleRun>,
    ) -> Result<Applied<'w, 'a>, Box<Interrupted<'w, 'a>>> {
        let mut scope = None;
        for module in &self.plan.modules {
            let result = match self.condition_holds(module, &mut scope) {
                Ok(true) => self.run_module(module, &mut applied, runs),
                Ok(false) => {
                    applied.skipped_modules.push((module, None));
                    continue;
                }
                Err(error) if module.on_error == OnError::Ignore => {
                    applied.skipped_modules.push((module, Some(error)));
                    continue;
                }
                Err(error) => Err(failed(module, &format!("condition: {error}")).into()),
            };
            if let Err(error) = result {
                return Err(Interrupted::new(error, applied));
            }
        }
        Ok(applied)
    }

    /// Evaluates the module's `when`. A request's scope is built once: building it costs more than a condition.
    fn condition_holds<'k>(&'k self, module: &'a Module, scope: &mut Option<Scope<'k>>) -> Result<bool, String>
    where
        'a: 'k,
    {
        let Some(when) = &module.when else { return Ok(true) };
        let scope = scope.get_or_insert_with(|| scope_of(self.task, self.plan, &self.pod, self.task_facts()));
        scope.set_params(&module.params);
        when.holds(scope)
    }

    /// Calls one module's hook and applies its output. Under `onError: Ignore` a failure leaves the pod as it was.
    fn run_module(
        &self,
        module: &'a Module,
        applied: &mut Applied<'w, 'a>,
        runs: &mut Vec<ModuleRun>,
    ) -> Result<(), MutateError> {
        let facts = self.task_facts();
        let before = applied.steps.last();
        let view = hook_view::view(before, self.task, self.arena);
        let mut template = String::with_capacity(TEMPLATE_CAPACITY);
        view.write(&mut template);
        let response = module.hook.call(&HookRequest {
            request: &self.hook_arguments(module, facts),
            template: &template,
            task_config: &facts.task_config,
            budget: module.budget,
            execution: self.execution,
        });
        let result = match response.result {
            Err(HookError::TooSlowInline) => return Err(MutateError::NeedsPool(module.name.clone())),
            Err(error) => Err(denial_of(module, &error)),
            Ok(output) => self.apply_output(module, applied, view, output),
        };
        // Gathering the secrets costs more than most modules, so it is done only where there is a text to redact.
        let redactor = if result.is_err() || !response.logs.is_empty() {
            Redactor::new(&[self.pod.object, before], &[&facts.task_config, &facts.providers], self.arena)
        } else {
            Redactor::default()
        };
        let result = result.map_err(|denial| redacted(&denial, module, &redactor));
        runs.push(ModuleRun {
            name: module.name.clone(),
            elapsed: response.elapsed,
            error: result.as_ref().err().map(|denial| denial.message.clone()),
            logs: response.logs.iter().map(|log| redactor.log(log)).collect(),
        });
        match (result, module.on_error) {
            (Err(denial), OnError::Fail) => Err(MutateError::Denied(denial)),
            _ => Ok(()),
        }
    }

    /// Applies the output of a hook, and checks this step by itself: the denial names the module, and a failure that
    /// may be ignored leaves nothing of the output on the pod.
    fn apply_output(
        &self,
        module: &'a Module,
        applied: &mut Applied<'w, 'a>,
        view: Json<'a>,
        output: HookOutput,
    ) -> Result<()> {
        let (text, form) = match output {
            HookOutput::Unchanged => return Ok(()),
            HookOutput::Template(text) => (text, "template"),
            HookOutput::Fragment(text) => (text, "fragment"),
        };
        let fragment = self.read_output(module, view, &text, form)?;
        let rule = MergeRule {
            conflict: Conflict::Override,
            keeps_env: false,
            may_remove: module.may_remove,
            alias: form == "fragment",
        };
        let before = applied.steps.last();
        let pod = applied.merger.apply(before, fragment, rule).map_err(|error| match error {
            MergeError::Removal(path) => failed(module, &format!("removes {path}, and mayRemove is not set")),
            MergeError::Directive(what) | MergeError::Conflict(what) => {
                failed(module, &format!("returned a {form} that cannot be applied: {what}"))
            }
            MergeError::NoPrimary => failed(module, NO_PRIMARY),
        })?;
        let (steps, fragments) = (applied.steps.steps.len(), applied.fragments.len());
        applied.steps.push(Source::Module(module.name.clone()), pod);
        applied.fragments.push((FragmentSource::Module(module), fragment));
        let operations = diff(before, applied.steps.last(), self.arena);
        if let Err(denial) = self.check_step(applied, before, operations, applied.merger.removed()) {
            applied.steps.steps.truncate(steps);
            applied.fragments.truncate(fragments);
            return Err(denial);
        }
        let separator = if applied.names.is_empty() { "" } else { ", " };
        let digest = &module.digest[..module.digest.len().min(12)];
        let _ = write!(applied.names, "{separator}module/{}@{digest}", module.name); // a String takes everything
        Ok(())
    }

    /// Reads a hook's output into a fragment: JSON of the Pod schema, without fields that a module may not set.
    fn read_output(&self, module: &Module, view: Json<'a>, text: &str, form: &str) -> Result<Json<'a>> {
        let text = self.arena.alloc_str(text);
        let (value, largest) = Json::parse_measured(text, &Shape::All, self.arena)
            .ok()
            .filter(|(value, _)| matches!(value, Json::Object(_)))
            .ok_or_else(|| failed(module, &format!("returned a {form} that is not a JSON object")))?;
        if largest > MAX_RETURNED_ELEMENTS.max(self.review.largest) {
            return Err(failed(module, &format!("returned a {form} with a list or map of {largest} elements")));
        }
        if let Some(name) = hook_view::repeated_name(value) {
            let what = format!("returned a {form} with the name {name:?} twice in one object");
            return Err(failed(module, &what));
        }
        let fragment = if form == "template" { hook_view::changes(view, value, self.arena) } else { value };
        schema::validate(without_directives(fragment, self.arena), Type::Object(&POD), false).map_err(|error| {
            failed(module, &format!("returned an invalid {form}: {} {}", error.path, error.message))
        })?;
        let fragment = canonical_quantities(fragment, Type::Object(&POD), self.arena);
        if hook_view::holds_opaque(fragment) {
            return Err(failed(module, &format!("returned a {form} with a value that is hidden from modules")));
        }
        if let Some(path) = guards::layer_only_field(fragment) {
            return Err(failed(module, &format!("sets {path}, which only a layer may set")));
        }
        Ok(fragment)
    }

    /// Returns the hook's arguments as JSON, except the template and `task_config`.
    fn hook_arguments(&self, module: &Module, facts: &TaskFacts) -> String {
        let arguments = Arguments {
            queue: self.task.queue_id,
            queue_name: self.queue_name(),
            task_data: TaskData { id: self.task.id.as_deref(), user: self.task.user },
            providers_info: &facts.providers,
            worker: Worker { id: self.worker_id(), namespace: self.pod.namespace, kind: "Pod" },
            params: &module.params,
            environment: self.plan.environment,
            namespace: self.pod.namespace,
            primary_container: self.task.primary,
            dry_run: self.review.dry_run,
        };
        serde_json::to_string(&arguments).unwrap_or_default()
    }
}

/// Returns the values that conditions can use.
fn scope_of<'k>(task: &'k Task<'_, '_>, plan: &'k Plan<'_>, pod: &Pod<'k>, configured: &'k TaskFacts) -> Scope<'k> {
    let labels = pod.object.get_path(&["metadata", "labels"]);
    let labels = labels.iter().flat_map(Json::members);
    Scope::new(Facts {
        task_config: &configured.task_config,
        providers_info: &configured.providers,
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

/// A hook's arguments except the template and `task_config`.
#[derive(Serialize)]
struct Arguments<'r> {
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

/// Returns a module's denial. Its text is not truncated yet: the redactor would not find a truncated secret.
fn failed(module: &Module, what: &str) -> Denial {
    Denial { reason: Reason::ModuleFailed, message: format!("module {} {what}", module.name) }
}

/// Redacts a module's denial, which may quote the module's output. The module's name stays.
fn redacted(denial: &Denial, module: &Module, redactor: &Redactor<'_>) -> Denial {
    let prefixes = ["module ", "module/"].map(|word| format!("{word}{}", module.name));
    let prefix = prefixes.iter().find(|prefix| denial.message.starts_with(*prefix)).map_or("", String::as_str);
    let message = format!("{prefix}{}", redactor.text(&denial.message[prefix.len()..]));
    Denial { message, reason: denial.reason }
}

fn denial_of(module: &Module, error: &HookError) -> Denial {
    let reason = match error {
        HookError::TimedOut(_) | HookError::Unavailable | HookError::TooSlowInline => Reason::ModuleUnavailable,
        _ => Reason::ModuleFailed,
    };
    Denial { reason, message: format!("module {} {error}", module.name) }
}

/// Removes `$patch` members, which the Pod schema does not know, and list elements that have one: these hold only
/// keys.
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
