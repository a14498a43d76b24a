//! Template modules: WebAssembly components that change a task pod.
//!
//! [`Engine`] compiles bytes into a [`Render`], once per digest. Each call gets a fresh instance, so a render is a
//! function of its arguments; whatever the guest does ends as a [`Fault`] within its budget.

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

/// What a guest may return, or hand to an import, at once. The API server takes no object above 1.5 MiB.
const MAX_OUTPUT: usize = 1 << 20;

/// A call this short counts towards the inline pace.
const FAST: Duration = Duration::from_millis(1);

/// This many short calls prove a module fast: enough for a cold cache and a busy machine to be outnumbered.
const FAST_CALLS: u32 = 100;

/// An inline call is cut here, so that a worker's other requests wait no longer than for a page from disk.
const INLINE_LIMIT: Duration = Duration::from_millis(2);

/// A compiled module. Two names for the same bytes share one.
struct Module {
    digest: String,
    code: TemplateModulePre<State>,
    clock: Arc<EpochTicker>,
    record: CallHistory,
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { digest, record, .. } = self;
        formatter.debug_struct("Module").field("digest", digest).field("record", record).finish_non_exhaustive()
    }
}

impl Hook for Module {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        let limit = match call.execution {
            Execution::Inline if !self.record.is_fast() => return unavailable(HookError::TooSlowInline),
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
                self.record.timed_out();
                Err(HookError::TooSlowInline)
            }
            (Execution::Inline, result) => result,
            (Execution::Pooled(_), result) => {
                if elapsed < FAST {
                    self.record.fast_call();
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
    /// One call in an instance of its own. The deadline stands before the instance is made, as a component may
    /// run code when it starts.
    fn run(&self, call: &HookRequest<'_>, limit: Duration) -> (Result<HookOutput, HookError>, State) {
        let mut store = Store::new(self.code.engine(), State::new(call));
        store.limiter(|state| state);
        store.set_hostcall_fuel(MAX_OUTPUT);
        let _ticking = self.clock.ticking();
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

/// A call that was not made.
fn unavailable(fault: HookError) -> HookResponse {
    HookResponse { result: Err(fault), logs: Vec::new(), elapsed: Duration::ZERO }
}

/// Until when a call may run; on a thread that can give way, from when on behind the workers, too.
fn set_deadline(store: &mut Store<State>, limit: Duration) {
    if !thread_priority::may_demote() {
        store.set_epoch_deadline(ticks(limit));
        return;
    }
    let (end, begun) = (Instant::now() + limit, thread_priority::cpu_time());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(UpdateDeadline::Interrupt);
        }
        if thread_priority::may_demote()
            && thread_priority::cpu_time().saturating_sub(begun) < thread_priority::CPU_BEFORE_DEMOTION
        {
            return Ok(UpdateDeadline::Continue(1));
        }
        thread_priority::demote();
        Ok(UpdateDeadline::Continue(ticks(left)))
    });
}

/// Ticks until a deadline that is `limit` away: one more than fit, as the current one is already running out.
fn ticks(limit: Duration) -> u64 {
    u64::try_from(limit.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX / 2).saturating_add(1)
}

/// Why wasmtime ended a call. The texts are ours or a trap's fixed ones: an error's own chain may quote the guest.
fn classify(error: &wasmtime::Error, budget: Budget, limit: Duration) -> HookError {
    if let Some(denied) = error.downcast_ref::<LimitExceeded>() {
        return match denied {
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
    // wasmtime keeps the type of this one to itself; a test holds its text
    if error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted") {
        return HookError::Output(MAX_OUTPUT);
    }
    if error.is::<std::str::Utf8Error>() {
        return HookError::Trap("a result that is not UTF-8".into());
    }
    HookError::Trap("a result that breaks the component ABI".into())
}

/// An inline call that had to be cut sends its module back to proving itself; the third time for good, until it is
/// reloaded. Once alone proves nothing: a container over its CPU quota stands still for longer than [`INLINE_LIMIT`],
/// and every module that runs just then would be sent away with the slow ones.
const MAX_TIMEOUTS: u32 = 3;

/// Whether a module may run inline: after [`FAST_CALLS`] short calls, until inline calls had to be cut.
#[derive(Debug, Default)]
struct CallHistory {
    /// short calls since the last cut, at most [`FAST_CALLS`]
    fast_calls: AtomicU32,
    /// inline calls that had to be cut
    cuts: AtomicU32,
}

impl CallHistory {
    fn is_fast(&self) -> bool {
        self.fast_calls.load(Ordering::Relaxed) == FAST_CALLS && self.cuts.load(Ordering::Relaxed) < MAX_TIMEOUTS
    }

    fn fast_call(&self) {
        // full: nothing to count, and no write to a cache line that all workers read
        let count = |calls: u32| (calls < FAST_CALLS).then(|| calls + 1);
        let _ = self.fast_calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
    }

    fn timed_out(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
        self.fast_calls.store(0, Ordering::Relaxed);
    }
}
