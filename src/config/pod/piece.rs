//! Pieces of the flat form: what each of its keys gives to the fragment.

use serde_json::Value;

/// The part of a fragment that a flat key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Metadata,
    Spec,
    Primary,
}

/// What one key of the flat form gives: a field of the fragment. Several keys may give parts of one field.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) key: &'static str,
    pub(crate) place: Level,
    pub(crate) field: &'static str,
    pub(crate) value: Value,
}
