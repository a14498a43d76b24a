//! The nearest valid spelling of a word, as errors say it.

use crate::k8s::schema::nearest;

/// `; did you mean x?`, or nothing.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}
