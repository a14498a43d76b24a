//! Validates the keys and values of labels, annotations and node selectors.

use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::{CAUSES_WARNING, NOT_A_LABEL_VALUE, PATCH, is_qualified_name};
use crate::k8s::validation::is_label_text;
use crate::k8s::warnings;

/// The kind of a map, which decides on its valid keys and values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    Labels,
    /// nodeSelector
    NodeLabels,
    /// values are any string
    Annotations,
}

/// Checks keys and values. A value of the wrong type is not an error here.
pub(crate) fn check_map(cursor: &Cursor<'_>, kind: MapKind) {
    for (key, value) in cursor.entries() {
        if key.text == PATCH {
            continue;
        }
        if !is_qualified_name(&key.text) {
            value.diagnostics.error(key.at, &value.path, "is not a valid key (`name` or `prefix/name`)");
        }
        let warning = match kind {
            MapKind::NodeLabels => warnings::deprecated_label(&key.text),
            MapKind::Annotations => warnings::deprecated_annotation(&key.text),
            MapKind::Labels => None,
        };
        if let Some(warning) = warning {
            value.diagnostics.error(key.at, &value.path, format!("is {warning}: {CAUSES_WARNING}"));
        }
        let Some(text) = value.as_text().filter(|_| !value.has_placeholder()) else { continue };
        if kind != MapKind::Annotations && !is_label_text(text) {
            value.error(NOT_A_LABEL_VALUE);
        }
    }
}
