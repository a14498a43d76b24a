//! What the core asks of a compiled module. The shell (`module.rs`) implements it with wasmtime; tests may
//! implement it with a closure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A compiled template module.
pub trait Hook: Send + Sync + fmt::Debug {
    /// Runs `update-template` once, in an instance of its own.
    fn call(&self, call: &HookRequest<'_>) -> HookResponse;
}

/// The arguments of one call and what it may use.
#[derive(Clone, Copy)]
pub struct HookRequest<'a> {
    /// the hook's other arguments, JSON text (design section 5)
    pub request: &'a str,
    /// the pod after the layers as a hook may see it, JSON text
    pub template: &'a str,
    /// what `config-get` looks into; shared, because what an instance holds must outlive every borrow
    pub task_config: &'a Arc<Value>,
    /// the module's own limits
    pub budget: Budget,
    /// where it runs
    pub execution: Execution<'a>,
}

/// Where a call runs, and what is left of its request.
#[derive(Clone, Copy)]
pub enum Execution<'a> {
    /// on the worker that serves other requests too: only what is known to be fast, and cut when it is not
    Inline,
    /// on a thread where it may take its budget, but not more than what this says is left of the request
    Pooled(&'a (dyn Fn() -> Duration + Sync)),
}

/// What came of a call.
#[derive(Debug)]
pub struct HookResponse {
    /// what the guest returned, or why it did not
    pub result: Result<HookOutput, HookError>,
    /// what the guest logged, as it wrote it: not yet redacted
    pub logs: Vec<LogLine>,
    /// wall clock of the call
    pub elapsed: Duration,
}

/// What a guest returned.
#[derive(Debug, PartialEq, Eq)]
pub enum HookOutput {
    /// nothing to change
    Unchanged,
    /// the whole template, changed; JSON text
    Template(String),
    /// a strategic fragment; JSON text
    Fragment(String),
}

/// One line that a guest logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// its level
    pub level: LogLevel,
    /// its text
    pub message: String,
}

/// The levels of the `host.log` import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// for whoever writes the module
    Debug,
    /// worth a line
    Info,
    /// something is off, the pod goes on
    Warn,
    /// the module is about to fail
    Error,
}

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// not for the inline pace: run the request again where it may take its time
    #[error("is too slow to run inline")]
    TooSlowInline,
    /// it ran into its deadline
    #[error("exceeded its time budget of {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// it wanted more memory than its budget
    #[error("exceeded its memory budget of {}", format_bytes(*.0))]
    Memory(u64),
    /// it recursed too deeply
    #[error("exhausted its stack")]
    Stack,
    /// it returned (or handed to the host at once) more bytes than fit; how many is not known, as the copy is refused
    #[error("returned more than the limit of {} KiB", .0 >> 10)]
    Output(usize),
    /// it trapped; the text is the trap's own and holds nothing of the guest's
    #[error("trapped: {0}")]
    Trap(String),
    /// it refused, with a text of its own (not yet redacted)
    #[error("refused: {0}")]
    Denied(String),
    /// all instances are taken, or no time is left
    #[error("found no room to run")]
    Unavailable,
}

/// What one call of a module may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// wall clock
    pub time: Duration,
    /// bytes of linear memory
    pub memory: u64,
}

impl Default for Budget {
    /// 200 ms leaves a 2 s webhook room for several modules; 64 MiB is a hundred times what a Rust module needs.
    fn default() -> Self {
        Self { time: Duration::from_millis(200), memory: 64 << 20 }
    }
}

/// Of memory, in the unit that it was hardly given in otherwise: less than a MiB is not none.
fn format_bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes.div_ceil(1024)) }
}
