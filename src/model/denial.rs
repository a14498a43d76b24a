//! Why a pod is refused: a closed set of reasons, and one sentence.

use crate::model::review::truncate;

/// Why a pod is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// from a closed set
    pub reason: Reason,
    /// one sentence for whoever reads it in a terminal or a task's console
    pub message: String,
}

/// The closed set of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// the pod says two different things of its task
    IdentityContradiction,
    /// what applies to the pod has no sound configuration
    ConfigInvalid,
    /// its queue is not configured, and `unknownQueue` is `Deny`
    UnknownQueue,
    /// the environment that it names does not exist or is not for it
    UnknownEnvironment,
    /// a layer needs the primary container, and nobody can say which that is
    NoPrimaryContainer,
    /// what was submitted is not made as a pod
    InvalidPod,
    /// a placeholder of a layer has no value for this pod
    Placeholder,
    /// a layer whose rule is `Deny` wants another value than the pod has
    Conflict,
    /// a module refused, trapped, or returned what cannot be used
    ModuleFailed,
    /// a module ran out of its time, or of room to run
    ModuleUnavailable,
    /// something would have been changed that is not a layer's or module's to change
    Protected,
    /// the result would not be a valid pod
    InvalidResult,
    /// a list or map is longer than podgraft takes, or the patch would be
    TooLarge,
    /// podgraft itself went wrong
    Internal,
}

impl Reason {
    /// As it stands in `status.reason` and in metrics.
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

    /// 422 for what will not change by itself, 503 for what may: Flyte retries the one and not the other.
    pub fn code(self) -> u16 {
        match self {
            Reason::ConfigInvalid | Reason::ModuleUnavailable | Reason::Internal => 503,
            _ => 422,
        }
    }
}

impl Denial {
    /// A rejection.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        let mut message = message.into();
        // It may quote a name that somebody made very long, and goes into a status, a log and a terminal.
        message.truncate(truncate(&message, MAX_MESSAGE_BYTES).len());
        Self { reason, message }
    }
}

/// Bytes of a rejection's sentence.
const MAX_MESSAGE_BYTES: usize = 2048;
