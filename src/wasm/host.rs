//! The host of a guest: memory within its budget, a log, and the task's configuration.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;
use wasmtime::ResourceLimiter;
use wasmtime::component::HasSelf;

use self::podgraft::template::host;
use crate::model::hook::Budget;
use crate::model::hook::{HookRequest, LogLevel, LogLine};
use crate::model::placeholder::look_up;

wasmtime::component::bindgen!({ path: "policies/wit", world: "template-module" });

pub(super) use exports::podgraft::template::hook::Outcome as Guest;

/// Maximum elements of a table. Tables hold function pointers: a Rust module has 100, an interpreter 5,000.
const MAX_TABLE: usize = 20_000;

/// Maximum log lines of one call; further lines are dropped.
const MAX_LOG_LINES: usize = 100;

/// Maximum bytes of one call's log.
const MAX_LOG_BYTES: usize = 16 << 10;

/// Maximum bytes of one line: the redaction must know where a line may have been truncated.
const MAX_LINE_BYTES: usize = crate::mutate::redact::MAX_TEXT_BYTES;

/// The host's state of one instance.
#[derive(Debug)]
pub(super) struct State {
    task_config: Arc<Value>,
    /// bytes of linear memory that are left, in all of the instance's memories
    memory_left: u64,
    logs: Vec<LogLine>,
    log_bytes: usize,
    log_dropped: usize,
}

impl State {
    pub(super) fn new(call: &HookRequest<'_>) -> Self {
        Self {
            task_config: Arc::clone(call.task_config),
            memory_left: call.budget.memory,
            logs: Vec::new(),
            log_bytes: 0,
            log_dropped: 0,
        }
    }

    /// Returns the bytes of linear memory of the instance, whose budget was `budget`.
    pub(super) fn memory_used(&self, budget: Budget) -> u64 {
        budget.memory - self.memory_left
    }

    /// Returns the log lines, and as the last one the number of dropped lines.
    pub(super) fn into_logs(mut self) -> Vec<LogLine> {
        if self.log_dropped > 0 {
            let message = format!("{} more lines were dropped", self.log_dropped);
            self.logs.push(LogLine { level: LogLevel::Warn, message });
        }
        self.logs
    }
}

/// Adds the host's imports to the linker.
pub(super) fn add_to_linker(linker: &mut wasmtime::component::Linker<State>) -> wasmtime::Result<()> {
    host::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

impl host::Host for State {
    fn log(&mut self, level: host::Level, mut message: String) {
        message.truncate(message.floor_char_boundary(MAX_LINE_BYTES));
        if self.logs.len() == MAX_LOG_LINES || self.log_bytes + message.len() > MAX_LOG_BYTES {
            self.log_dropped += 1;
            return;
        }
        self.log_bytes += message.len();
        message.shrink_to_fit();
        let level = match level {
            host::Level::Debug => LogLevel::Debug,
            host::Level::Info => LogLevel::Info,
            host::Level::Warn => LogLevel::Warn,
            host::Level::Error => LogLevel::Error,
        };
        self.logs.push(LogLine { level, message });
    }

    fn config_get(&mut self, path: String) -> Option<String> {
        look_up(&self.task_config, &path).map(Value::to_string)
    }
}

/// The limit that a guest exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitExceeded {
    Memory,
    Table,
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LimitExceeded::Memory => "memory limit",
            LimitExceeded::Table => "table limit",
        })
    }
}

impl std::error::Error for LimitExceeded {}

/// Growing beyond the budget is a trap, not the `-1` that the specification would allow: a guest can only abort on it,
/// and that trap could not be distinguished from others.
impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let more = u64::try_from(desired.saturating_sub(current))?;
        self.memory_left = self.memory_left.checked_sub(more).ok_or(LimitExceeded::Memory)?;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE {
            return Err(LimitExceeded::Table.into());
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    /// Returns ten: a component has three or four core instances, and may link others.
    fn instances(&self) -> usize {
        10
    }

    fn tables(&self) -> usize {
        10
    }

    fn memories(&self) -> usize {
        4
    }
}
