//! Labels, annotations and node selectors: the text that their keys and values may be.

use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::{NO_LABEL_VALUE, PATCH, WARNS, is_qualified_name};
use crate::k8s::validation::is_label_text;
use crate::k8s::warnings;

/// Which text the keys and values of a map may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    Labels,
    /// nodeSelector
    NodeLabels,
    /// any text as values
    Annotations,
}

/// Checks keys and values; that a value is no string is said elsewhere.
pub(crate) fn check_map(cursor: &Cursor<'_>, kind: MapKind) {
    for (key, value) in cursor.entries() {
        if key.text == PATCH {
            continue;
        }
        if !is_qualified_name(&key.text) {
            value.report.add(key.at, &value.path, "is not a key that Kubernetes takes (`name` or `prefix/name`)");
        }
        let said = match kind {
            MapKind::NodeLabels => warnings::deprecated_label(&key.text),
            MapKind::Annotations => warnings::deprecated_annotation(&key.text),
            MapKind::Labels => None,
        };
        if let Some(said) = said {
            value.report.add(key.at, &value.path, format!("is {said}: {WARNS}"));
        }
        let Some(text) = value.as_text().filter(|_| !value.has_placeholder()) else { continue };
        if kind != MapKind::Annotations && !is_label_text(text) {
            value.error(NO_LABEL_VALUE);
        }
    }
}
