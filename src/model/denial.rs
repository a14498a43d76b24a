//! The denial of a pod: a reason from a closed set, and one sentence.

use crate::model::review::truncate;

/// A denial: the reason for which a pod is denied, and a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// the reason, for status and metrics
    pub reason: Reason,
    /// one sentence, to be read in a terminal or a task's console
    pub message: String,
}

/// The reasons for which pods are denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// the pod names two different tasks
    IdentityContradiction,
    /// a unit that applies to the pod has no valid version
    ConfigInvalid,
    /// the pod's queue is not configured, and `unknownQueue` is `Deny`
    UnknownQueue,
    /// the pod asks for an environment that does not exist or does not match it
    UnknownEnvironment,
    /// a layer sets fields of the primary container, which cannot be determined
    NoPrimaryContainer,
    /// the submitted object does not have the shape of a pod
    InvalidPod,
    /// a placeholder of a layer has no value for this pod
    Placeholder,
    /// a layer whose rule is `Deny` sets another value than the pod has
    Conflict,
    /// a hook denied the pod, trapped, or returned an invalid result
    ModuleFailed,
    /// a hook exceeded its time, or could not be started
    ModuleUnavailable,
    /// a layer or module would have changed a protected field
    Protected,
    /// the result would not be a valid pod
    InvalidResult,
    /// a list or map is longer than podgraft accepts, or the patch would be
    TooLarge,
    /// podgraft has a bug
    Internal,
}

impl Reason {
    /// Returns the reason's name in `status.reason` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Reason::IdentityContradiction => "IdentityContradiction",
            Reason::ConfigInvalid => "ConfigInvalid",
            Reason::UnknownQueue => "UnknownQueue",
            Reason::UnknownEnvironment => "UnknownEnvironment",
            Reason::NoPrimaryContainer => "NoPrimaryContainer",
            Reason::InvalidPod => "InvalidPod",
            Reason::Placeholder => "Placeholder",
            Reason::Conflict => "Conflict",
            Reason::ModuleFailed => "ModuleFailed",
            Reason::ModuleUnavailable => "ModuleUnavailable",
            Reason::Protected => "Protected",
            Reason::InvalidResult => "InvalidResult",
            Reason::TooLarge => "TooLarge",
            Reason::Internal => "Internal",
        }
    }

    /// Returns the HTTP status: 422 for a permanent denial, 503 for one that a retry may resolve. Flyte retries 503
    /// only.
    pub fn code(self) -> u16 {
        match self {
            Reason::ConfigInvalid | Reason::ModuleUnavailable | Reason::Internal => 503,
            _ => 422,
        }
    }
}

impl Denial {
    /// Creates a denial; the message is truncated to 2048 bytes.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // It may quote a very long name, and goes into a status, a log and a terminal.
        message.truncate(truncate(&message, MAX_MESSAGE_BYTES).len());
        Self { reason, message }
    }
}

/// Maximum length of a denial's message, in bytes.
const MAX_MESSAGE_BYTES: usize = 2048;
