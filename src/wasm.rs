//! The sandbox of template modules, which are WebAssembly components that change a task pod.
//!
//! [`Engine`] compiles bytes into a [`Hook`], once per digest. Each call gets a fresh instance, so its result depends on
//! its arguments only; a call that fails or exceeds its budget ends with a [`HookError`].

mod engine;
mod host;
mod recording;
#[cfg(test)]
mod tests;
pub mod thread_priority;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

pub use engine::{Engine, sha256_hex};
pub use recording::{Inspection, RecordedCall, RecordingModule};

use crate::model::hook::Budget;
use crate::model::hook::{Execution, Hook, HookError, HookOutput, HookRequest, HookResponse};
use engine::{EpochTicker, TICK};
use host::{Guest, LimitExceeded, State, TemplateModulePre};

/// Maximum bytes that a guest returns, or passes to an import, at once. The API server takes no object above 1.5 MiB.
const MAX_OUTPUT: usize = 1 << 20;

/// Maximum duration of a fast call.
const FAST: Duration = Duration::from_millis(1);

/// Number of fast calls after which a module runs inline: enough to outnumber those of a cold cache or a busy machine.
const FAST_CALLS: u32 = 100;

/// Time limit of an inline call, so that a worker's other requests wait no longer than for a page from disk.
const INLINE_LIMIT: Duration = Duration::from_millis(2);

/// A compiled module, shared by all names with these bytes.
struct Module {
    digest: String,
    code: TemplateModulePre<State>,
    ticker: Arc<EpochTicker>,
    history: CallHistory,
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, history, .. } = self;
        formatter.debug_struct("Module").field("digest", digest).field("history", history).finish_non_exhaustive()
    }
}

impl Hook for Module {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let limit = match call.execution {
            Execution::Inline if !self.history.is_fast() => return unavailable(HookError::TooSlowInline),
            Execution::Inline => call.budget.time.min(INLINE_LIMIT),
            Execution::Pooled(left) => call.budget.time.min(left()),
        };
        if limit.is_zero() {
            return unavailable(HookError::Unavailable);
        }
        let start = Instant::now();
        let (result, state) = self.run(call, limit);
        let elapsed = start.elapsed();
        let result = match (call.execution, result) {
            (Execution::Inline, Err(HookError::TimedOut(_))) => {
                self.history.timed_out();
                Err(HookError::TooSlowInline)
            }
            (Execution::Inline, result) => result,
            (Execution::Pooled(_), result) => {
                if elapsed < FAST {
                    self.history.fast_call();
                } else if matches!(result, Err(HookError::TimedOut(_))) {
                    thread_priority::mark_timed_out();
                }
                result
            }
        };
        HookResponse { result, logs: state.into_logs(), elapsed }
    }
}

impl Module {
    /// Makes one call in an instance of its own. The deadline is set before the instance is made, because a component
    /// may run code when it is instantiated.
    fn run(&self, call: &HookRequest<'_>, limit: Duration) -> (Result<HookOutput, HookError>, State) {
        let mut store = Store::new(self.code.engine(), State::new(call));
        store.limiter(|state| state);
        store.set_hostcall_fuel(MAX_OUTPUT);
        let _guard = self.ticker.ticking();
        set_deadline(&mut store, limit);
        let result = self.code.instantiate(&mut store).and_then(|instance| {
            instance.podgraft_template_hook().call_update_template(&mut store, call.request, call.template)
        });
        let result = match result {
            Ok(Ok(Guest::Unchanged)) => Ok(HookOutput::Unchanged),
            Ok(Ok(Guest::Template(text))) => Ok(HookOutput::Template(text)),
            Ok(Ok(Guest::Fragment(text))) => Ok(HookOutput::Fragment(text)),
            Ok(Err(text)) => Err(HookError::Denied(text)),
            Err(error) => Err(classify(&error, call.budget, limit)),
        };
        (result, store.into_data())
    }
}

/// Returns the response of a call that was not made.
fn unavailable(error: HookError) -> HookResponse {
    HookResponse { result: Err(error), logs: Vec::new(), elapsed: Duration::ZERO }
}

/// Sets the deadline of a call, and on a thread that may be demoted the time of its demotion.
fn set_deadline(store: &mut Store<State>, limit: Duration) {
    if !thread_priority::may_demote() {
        store.set_epoch_deadline(ticks(limit));
        return;
    }
    let (deadline, cpu_before) = (Instant::now() + limit, thread_priority::cpu_time());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(UpdateDeadline::Interrupt);
        }
        if thread_priority::may_demote()
            && thread_priority::cpu_time().saturating_sub(cpu_before) < thread_priority::CPU_BEFORE_DEMOTION
        {
            return Ok(UpdateDeadline::Continue(1));
        }
        thread_priority::demote();
        Ok(UpdateDeadline::Continue(ticks(left)))
    });
}

/// Returns the ticks until a deadline that is `limit` away: one more than fit, as the current one has begun already.
fn ticks(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).saturating_add(1)
}

/// Returns the reason why wasmtime ended a call. Its texts are podgraft's own or a trap's fixed ones, because an error's
/// chain may quote the guest.
fn classify(error: &wasmtime::Error, budget: Budget, limit: Duration) -> HookError {
    if let Some(limit) = error.downcast_ref::<LimitExceeded>() {
        return match limit {
            LimitExceeded::Memory => HookError::Memory(budget.memory),
            LimitExceeded::Table => HookError::Trap("table grown beyond its limit".into()),
        };
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return match trap {
            Trap::Interrupt => HookError::TimedOut(limit),
            Trap::StackOverflow => HookError::Stack,
            Trap::AllocationTooLarge => HookError::Memory(budget.memory),
            other => HookError::Trap(other.to_string().trim_start_matches("wasm trap: ").into()),
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return HookError::Unavailable;
    }
    // wasmtime does not export this error's type; a test checks its text
    if error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted") {
        return HookError::Output(MAX_OUTPUT);
    }
    if error.is::<std::str::Utf8Error>() {
        return HookError::Trap("a result that is not UTF-8".into());
    }
    HookError::Trap("a result that breaks the component ABI".into())
}

/// Number of inline calls that time out before a module is pooled until it is reloaded; after each of the ones before,
/// it must make [`FAST_CALLS`] fast calls again. One alone proves nothing: a container over its CPU quota stands still
/// for longer than [`INLINE_LIMIT`], which would make every module that runs just then a slow one.
const MAX_TIMEOUTS: u32 = 3;

/// The history of a module's calls, which decides if it runs inline: after [`FAST_CALLS`] fast calls, until inline calls
/// time out.
#[derive(Debug, Default)]
struct CallHistory {
    /// fast calls since the last timeout, at most [`FAST_CALLS`]
    fast_calls: AtomicU32,
    /// inline calls that timed out
    timeouts: AtomicU32,
}

impl CallHistory {
    fn is_fast(&self) -> bool {
        self.fast_calls.load(Ordering::Relaxed) == FAST_CALLS && self.timeouts.load(Ordering::Relaxed) < MAX_TIMEOUTS
    }

    fn fast_call(&self) {
        // at the maximum there is no write to a cache line that all workers read
        let count = |calls: u32| (calls < FAST_CALLS).then(|| calls + 1);
        let _ = self.fast_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
        self.fast_calls.store(0, Ordering::Relaxed);
    }
}
