//! The interface between the core and a compiled module: `wasm` implements it with wasmtime, tests may implement it
//! with a closure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A compiled template module.
pub trait Hook: Send + Sync + fmt::Debug {
    /// Calls `update-template` once, in an instance of its own.
    fn call(&self, call: &HookRequest<'_>) -> HookResponse;
}

/// The arguments and limits of one call.
#[derive(Clone, Copy)]
pub struct HookRequest<'a> {
    /// the hook's argument `request`, JSON text
    pub request: &'a str,
    /// the pod after the layers, without the values that are hidden from hooks; JSON text
    pub template: &'a str,
    /// the tree that `config-get` reads; shared, because data of an instance must outlive every borrow
    pub task_config: &'a Arc<Value>,
    /// the limits of the call
    pub budget: Budget,
    /// the thread that it runs on
    pub execution: Execution<'a>,
}

/// The kind of thread on which a call runs, and the time that its request has left.
#[derive(Clone, Copy)]
pub enum Execution<'a> {
    /// on the worker that serves other requests too: for calls known to be fast, which are stopped if they are not
    Inline,
    /// on a module thread, where the call may use its budget, up to the time that the function returns
    Pooled(&'a (dyn Fn() -> Duration + Sync)),
}

/// The result of a call.
#[derive(Debug)]
pub struct HookResponse {
    /// the hook's output, or the error
    pub result: Result<HookOutput, HookError>,
    /// the hook's log lines, not yet redacted
    pub logs: Vec<LogLine>,
    /// wall-clock time of the call
    pub elapsed: Duration,
}

/// The output of a hook.
#[derive(Debug, PartialEq, Eq)]
pub enum HookOutput {
    /// nothing to change
    Unchanged,
    /// the whole template, changed; JSON text
    Template(String),
    /// a strategic fragment; JSON text
    Fragment(String),
}

/// One line that a hook logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// the line's level
    pub level: LogLevel,
    /// the line's text
    pub message: String,
}

/// The levels of the `host.log` import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// for the module's developer
    Debug,
    /// informational
    Info,
    /// a possible error; the pod is still patched
    Warn,
    /// the module is about to fail
    Error,
}

/// An error of a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// too slow to run inline: the request must be run again on a module thread
    #[error("is too slow to run inline")]
    TooSlowInline,
    /// the call reached its deadline
    #[error("exceeded its time budget of {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// the call needed more memory than its budget, in bytes
    #[error("exceeded its memory budget of {}", format_bytes(*.0))]
    Memory(u64),
    /// the hook recursed too deeply
    #[error("exhausted its stack")]
    Stack,
    /// the hook returned, or passed to the host at once, more bytes than this limit; their number is unknown, as they
    /// are not copied
    #[error("returned more than the limit of {} KiB", .0 >> 10)]
    Output(usize),
    /// the hook trapped; the text is the trap's own and holds no data of the guest
    #[error("trapped: {0}")]
    Trap(String),
    /// the hook denied the pod, with a text of its own (not yet redacted)
    #[error("denied the pod: {0}")]
    Denied(String),
    /// no instance was free, or no time was left
    #[error("could not run: no instance was free or no time was left")]
    Unavailable,
}

/// The limits of one call of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// wall-clock time
    pub time: Duration,
    /// bytes of linear memory
    pub memory: u64,
}

impl Default for Budget {
    /// Returns 200 ms, which leaves a 2 s webhook time for several modules, and 64 MiB, a hundred times the need of a
    /// Rust module.
    fn default() -> Self {
        Self { time: Duration::from_millis(200), memory: 64 << 20 }
    }
}

/// Formats bytes in MiB, or in KiB if they are not whole MiB.
fn format_bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{} KiB", bytes.div_ceil(1024)) }
}
