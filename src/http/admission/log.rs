//! The log lines of a request. The names of their fields are an interface: log queries rely on them.

use std::borrow::Cow;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::http::log_throttle::LogThrottle;
use crate::model::denial::Reason;
use crate::model::hook::LogLevel;
use crate::mutate::{Answer, ModuleRun, Outcome};

/// Logs one line a request: pod, outcome and reason; never the pod's content. A denial that an operator can repair is a
/// warning, but throttled, as it may deny every pod of a queue.
pub(super) fn log(answer: &Answer, generation: u64, elapsed: Duration, throttle: &LogThrottle) {
    let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let Answer { uid, namespace, name, operations, status, .. } = answer;
    let (outcome, reason, queue) = (answer.outcome.as_str(), answer.reason, answer.queue.as_deref());
    // the message of a denial, or a notice about a pod that is admitted
    let detail = answer.message.as_deref().map(one_line);
    let detail = detail.as_deref();
    if answer.outcome == Outcome::Malformed {
        // every client that reaches the port can send malformed requests
        if let Some(suppressed) = throttle.allow("malformed") {
            warn!(outcome, detail, status, us, generation, suppressed, "request answered");
        } else {
            debug!(outcome, detail, status, us, generation, "request answered");
        }
    } else if reason.is_some_and(|reason| is_internal(reason) && throttle.allow(reason).is_some()) {
        warn!(uid, namespace, name, queue, outcome, reason, detail, operations, us, generation, "request answered");
    } else {
        info!(uid, namespace, name, queue, outcome, reason, detail, operations, us, generation, "request answered");
    }
}

/// Returns true for denials because of podgraft or its configuration, not of the pod.
fn is_internal(reason: &str) -> bool {
    [Reason::ConfigInvalid, Reason::ModuleUnavailable, Reason::Internal].iter().any(|known| known.name() == reason)
}

/// Logs a module's own lines, which are redacted by now, and its error.
pub(super) fn log_module(run: &ModuleRun, answer: &Answer, throttle: &LogThrottle) {
    let (module, uid) = (run.name.as_str(), answer.uid.as_str());
    for log in &run.logs {
        let text = one_line(&log.message);
        match log.level {
            LogLevel::Debug => debug!(target: "podgraft::module", module, uid, "{text}"),
            LogLevel::Info => info!(target: "podgraft::module", module, uid, "{text}"),
            LogLevel::Warn => warn!(target: "podgraft::module", module, uid, "{text}"),
            LogLevel::Error => error!(target: "podgraft::module", module, uid, "{text}"),
        }
    }
    if let Some(error) = run.error.as_deref().map(one_line) {
        if let Some(suppressed) = throttle.allow("module") {
            warn!(module, uid, %error, suppressed, "module failed");
        } else {
            debug!(module, uid, %error, "module failed"); // if the pod is denied, the request's own line has the error too
        }
    }
}

/// Escapes control characters, so that a guest's or a pod's text cannot look like further log lines.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}
