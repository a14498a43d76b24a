//! The parts of a fragment that the keys of the flat form set.

use serde_json::Value;

/// The object of a fragment that a part belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Metadata,
    Spec,
    Primary,
}

/// A field of a fragment that one key of the flat form sets. Several keys may set parts of one field.
#[derive(Debug, Clone)]
pub(crate) struct FragmentPart {
    pub(crate) key: &'static str,
    pub(crate) level: Level,
    pub(crate) field: &'static str,
    pub(crate) value: Value,
}
