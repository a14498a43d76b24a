//! What the log says of a request. The names of the fields are for those who search for them, and stay.

use std::borrow::Cow;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::http::log_throttle::LogThrottle;
use crate::model::denial::Reason;
use crate::model::hook::LogLevel;
use crate::mutate::{Answer, ModuleRun, Outcome};

/// One line a request: who, what came of it, why; never what is in the pod. What an operator can mend is a warning, but
/// only once in a while: it may stop every pod of a queue.
pub(super) fn log(answer: &Answer, generation: u64, elapsed: Duration, seldom: &LogThrottle) {
    let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let Answer { uid, namespace, name, operations, .. } = answer;
    let (outcome, reason, queue) = (answer.outcome.as_str(), answer.reason, answer.queue.as_deref());
    match answer.message.as_deref().map(one_line) {
        // whoever reaches the port can send these
        Some(message) if answer.outcome == Outcome::Malformed => {
            if let Some(more) = seldom.allow("malformed") {
                warn!(status = answer.status, us, generation, more, "{outcome}: {message}");
            } else {
                debug!(status = answer.status, us, generation, "{outcome}: {message}");
            }
        }
        Some(message) if reason.is_some_and(|reason| is_internal(reason) && seldom.allow(reason).is_some()) => {
            warn!(uid, namespace, name, queue, outcome, reason, operations, us, generation, "{outcome}: {message}");
        }
        Some(message) => {
            info!(uid, namespace, name, queue, outcome, reason, operations, us, generation, "{outcome}: {message}");
        }
        None => info!(uid, namespace, name, queue, outcome, operations, us, generation, "{outcome}"),
    }
}

/// Whether a pod was refused for what is wrong with podgraft or its configuration, not with the pod.
fn is_internal(reason: &str) -> bool {
    [Reason::ConfigInvalid, Reason::ModuleUnavailable, Reason::Internal].iter().any(|ours| ours.name() == reason)
}

/// What a guest logged (redacted by then), and its failure.
pub(super) fn log_module(run: &ModuleRun, answer: &Answer, seldom: &LogThrottle) {
    let (module, uid) = (run.name.as_str(), answer.uid.as_str());
    for log in &run.logs {
        let text = one_line(&log.message);
        match log.level {
            LogLevel::Debug => debug!(target: "podgraft::guest", module, uid, "{text}"),
            LogLevel::Info => info!(target: "podgraft::guest", module, uid, "{text}"),
            LogLevel::Warn => warn!(target: "podgraft::guest", module, uid, "{text}"),
            LogLevel::Error => error!(target: "podgraft::guest", module, uid, "{text}"),
        }
    }
    if let Some(fault) = run.error.as_deref().map(one_line) {
        if let Some(more) = seldom.allow("module") {
            warn!(module, uid, more, "{fault}");
        } else {
            debug!(module, uid, "{fault}"); // the request's own line says it too, where the pod is refused
        }
    }
}

/// A guest's text, or one that quotes a pod, must not look like further lines of our log.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}
