//! The name of a queue as the labels of its pods spell it.

use crate::k8s::validation::is_label_text;

/// A queue's name as its pods' label spells it: as the agent does, repaired where the API server would refuse that.
/// The same for a label that is repaired already, so that a pod which comes a second time finds its queue.
pub fn canonical_queue_name(name: &str) -> String {
    let label = agent_label(name);
    if is_label_text(&label) { label } else { repaired(&label) }
}

/// `_safe_k8s_label_value` of clearml-agent, bit by bit. Lossy, and the result need not be a valid label: letters
/// beyond ASCII survive inside, and the cut may leave a `-` at the end.
pub(super) fn agent_label(name: &str) -> String {
    let lower = name.to_lowercase();
    let ends = lower.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let mut canonical = String::with_capacity(ends.len());
    for c in ends.chars().map(|c| if is_word(c) { c } else { '-' }) {
        if c != '-' || !canonical.ends_with('-') {
            canonical.push(c);
        }
    }
    canonical.chars().take(63).collect()
}

/// What the agent wrote, as a label can hold it: what is no ASCII letter, digit, `_` or `.` is a dash.
pub(super) fn repaired(label: &str) -> String {
    let mut value = String::with_capacity(label.len());
    for c in label.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') => value.push(c),
            _ if value.ends_with('-') => {}
            _ => value.push('-'),
        }
    }
    let value = value.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    value[..value.len().min(63)].trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Python's `\w` without the underscore. Rust also counts circled letters and vowel signs as alphabetic; the signs are
/// left at that, as a label with such letters is refused by the API server anyway.
fn is_word(c: char) -> bool {
    let circled = matches!(c, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}');
    c.is_alphanumeric() && !circled
}
