//! The inspection of a component and the recording of a call, for `podgraft module`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmtime::component::Component;

use super::engine::{HOOK, HOST, check_form};
use super::{CallHistory, Engine, Module, sha256_hex, unavailable};
use crate::model::hook::{Execution, Hook, HookError, HookOutput, HookRequest, HookResponse};

/// The contents of a component.
#[derive(Debug)]
pub struct Inspection {
    /// imports, each with true if podgraft provides it
    pub imports: Vec<(String, bool)>,
    /// exports, each with true if podgraft calls it
    pub exports: Vec<(String, bool)>,
    /// number of linear memories, and initial pages of 64 KiB of the largest
    pub memories: (u32, u64),
    /// number of tables, and initial elements of the largest
    pub tables: (u32, u64),
    /// wall clock of the compilation
    pub compile_time: Duration,
    /// bytes of the machine code
    pub compiled_size: usize,
}

impl Engine {
    /// Returns the contents of a component, or `None` if the bytes cannot be compiled; the error of [`Engine::compile`]
    /// has the reason.
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

    /// Compiles a component into a module that records its calls.
    ///
    /// # Errors
    /// The bytes are not a module that podgraft can run; see [`Engine::compile`].
    pub fn compile_recording(&self, name: &str, bytes: &[u8]) -> Result<Arc<RecordingModule>, String> {
        self.compile(name, bytes)?;
        let code = self.link(bytes)?;
        let (digest, ticker) = (sha256_hex(bytes), Arc::clone(&self.ticker));
        let module = Module { digest, code, ticker, history: CallHistory::default() };
        Ok(Arc::new(RecordingModule { module, last: Mutex::default() }))
    }
}

/// A module that records its last call.
#[derive(Debug)]
pub struct RecordingModule {
    module: Module,
    last: Mutex<Option<RecordedCall>>,
}

/// A recorded call of a hook.
#[derive(Debug)]
pub struct RecordedCall {
    /// first argument of the hook
    pub request: String,
    /// second argument of the hook
    pub template: String,
    /// tree that `config-get` reads
    pub task_config: Arc<Value>,
    /// kind of the result (`unchanged`, `template` or `fragment`) and its text; `None` after an error
    pub returned: Option<(&'static str, String)>,
    /// wall clock of the call
    pub elapsed: Duration,
    /// bytes of linear memory at the end of the call, which is also the maximum, as it never shrinks
    pub memory: u64,
}

impl RecordingModule {
    /// Returns the last call, if there was one since the last time this was called.
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
        let recorded = RecordedCall {
            request: call.request.to_owned(),
            template: call.template.to_owned(),
            task_config: Arc::clone(call.task_config),
            returned,
            elapsed,
            memory: state.memory_used(call.budget),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(recorded);
        HookResponse { result, logs: state.into_logs(), elapsed }
    }
}
