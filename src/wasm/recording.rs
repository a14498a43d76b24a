//! What `podgraft module` looks at beside what a request needs: what a file holds, and what a call was given and took.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmtime::component::Component;

use super::engine::{HOOK, HOST, check_form};
use super::{CallHistory, Engine, Module, sha256_hex, unavailable};
use crate::model::hook::{Execution, Hook, HookError, HookOutput, HookRequest, HookResponse};

/// A component as its bytes describe it.
#[derive(Debug)]
pub struct Inspection {
    /// what it imports, and whether podgraft offers that
    pub imports: Vec<(String, bool)>,
    /// what it exports, and whether podgraft calls that
    pub exports: Vec<(String, bool)>,
    /// linear memories, and the pages of 64 KiB that the largest begins with
    pub memories: (u32, u64),
    /// tables, and the elements that the largest begins with
    pub tables: (u32, u64),
    /// wall clock of compiling it
    pub compile_time: Duration,
    /// bytes of what it was compiled to
    pub compiled_size: usize,
}

impl Engine {
    /// Looks into a component. `None` is what is none, or none that can be compiled; [`Engine::compile`] says why.
    pub fn inspect(&self, bytes: &[u8]) -> Option<Inspection> {
        check_form(bytes).ok()?;
        let start = Instant::now();
        let component = Component::new(&self.wasmtime, bytes).ok()?;
        let compile_time = start.elapsed();
        let world = component.component_type();
        let needs = component.resources_required();
        let needs = needs.as_ref();
        Some(Inspection {
            imports: world.imports(&self.wasmtime).map(|(name, _)| (name.to_owned(), name == HOST)).collect(),
            exports: world.exports(&self.wasmtime).map(|(name, _)| (name.to_owned(), name == HOOK)).collect(),
            memories: needs.map_or((0, 0), |needs| (needs.num_memories, needs.max_initial_memory_size.unwrap_or(0))),
            tables: needs.map_or((0, 0), |needs| (needs.num_tables, needs.max_initial_table_size.unwrap_or(0))),
            compile_time,
            compiled_size: component.serialize().map_or(0, |code| code.len()),
        })
    }

    /// Compiles a component as [`Engine::compile`] does, to be looked at while it runs.
    ///
    /// # Errors
    /// The sentence of [`Engine::compile`].
    pub fn compile_recording(&self, name: &str, bytes: &[u8]) -> Result<Arc<RecordingModule>, String> {
        self.compile(name, bytes)?;
        let code = self.link(bytes)?;
        let (digest, clock) = (sha256_hex(bytes), Arc::clone(&self.clock));
        let module = Module { digest, code, clock, record: CallHistory::default() };
        Ok(Arc::new(RecordingModule { module, last: Mutex::default() }))
    }
}

/// A module that remembers its last call.
#[derive(Debug)]
pub struct RecordingModule {
    module: Module,
    last: Mutex<Option<RecordedCall>>,
}

/// One call.
#[derive(Debug)]
pub struct RecordedCall {
    /// the hook's first argument
    pub request: String,
    /// its second one
    pub template: String,
    /// what `config-get` looked into
    pub task_config: Arc<Value>,
    /// what came back, if anything did: `unchanged`, `template` or `fragment`, and the text
    pub returned: Option<(&'static str, String)>,
    /// wall clock
    pub elapsed: Duration,
    /// bytes of linear memory at its end, which is the most that there were: it never shrinks
    pub memory: u64,
}

impl RecordingModule {
    /// The last call, if there was one.
    pub fn last(&self) -> Option<RecordedCall> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Hook for RecordingModule {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let Execution::Pooled(left) = call.execution else { return unavailable(HookError::TooSlowInline) };
        let start = Instant::now();
        let (result, state) = self.module.run(call, call.budget.time.min(left()));
        let elapsed = start.elapsed();
        let returned = result.as_ref().ok().map(|outcome| match outcome {
            HookOutput::Unchanged => ("unchanged", String::new()),
            HookOutput::Template(text) => ("template", text.clone()),
            HookOutput::Fragment(text) => ("fragment", text.clone()),
        });
        let seen = RecordedCall {
            request: call.request.to_owned(),
            template: call.template.to_owned(),
            task_config: Arc::clone(call.task_config),
            returned,
            elapsed,
            memory: state.memory_used(call.budget),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        HookResponse { result, logs: state.into_logs(), elapsed }
    }
}
