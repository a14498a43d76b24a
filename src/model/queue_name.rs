//! Queue names as pod labels spell them.

use crate::k8s::validation::is_label_text;

/// Returns the label value for a queue's name: as the agent writes it, repaired if the API server would deny that. A
/// value that is already repaired stays unchanged, so that a pod created again finds its queue.
pub fn canonical_queue_name(name: &str) -> String {
    let label = agent_label(name);
    if is_label_text(&label) { label } else { repair_label(&label) }
}

/// Reproduces `_safe_k8s_label_value` of clearml-agent exactly. Lossy, and the result may be an invalid label: letters
/// beyond ASCII survive inside, and truncation may leave a `-` at the end.
fn agent_label(name: &str) -> String {
    let lower = name.to_lowercase();
    let trimmed = lower.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let mut canonical = String::with_capacity(trimmed.len());
    for c in trimmed.chars().map(|c| if is_word(c) { c } else { '-' }) {
        if c != '-' || !canonical.ends_with('-') {
            canonical.push(c);
        }
    }
    canonical.chars().take(63).collect()
}

/// Repairs the agent's label value: each character other than ASCII letters, digits, `_` and `.` becomes a dash.
pub(super) fn repair_label(label: &str) -> String {
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

/// Returns true for Python's `\w` without the underscore. Rust also counts circled letters and vowel signs as
/// alphabetic; the signs are accepted here, as the API server denies a label with such letters anyway.
fn is_word(c: char) -> bool {
    let circled = matches!(c, '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}');
    c.is_alphanumeric() && !circled
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The right side is the output of clearml-agent's own function.
    #[test]
    fn labels_are_those_that_the_agent_writes() {
        let long = "a".repeat(70);
        let truncated_at_a_dash = format!("k-{}_b", "a".repeat(60));
        let table = [
            ("1xGPU", "1xgpu"),
            ("GPU Queue For Team.A", "gpu-queue-for-team-a"),
            ("GPUs_with_shared_memory", "gpus-with-shared-memory"),
            ("gpu-fraction-1_000", "gpu-fraction-1-000"),
            ("team.a", "team-a"),
            ("Größe XL", "größe-xl"),
            ("学習キュー", ""),
            ("очередь gpu 1", "gpu-1"),
            ("GPU_1", "gpu-1"),
            ("  __a--_-.b__ ", "a-b"),
            ("ÖL", "l"),
            ("İx1", "i-x1"),
            ("gpu Ⓐ 1", "gpu-1"),
            ("x①y", "x①y"),
            ("e\u{308}x1e\u{308}", "e-x1e"),
            ("Ⅷa Ⅷ b", "a-ⅷ-b"),
            ("a²b", "a²b"),
            ("a\u{a0}b", "a-b"),
            (&truncated_at_a_dash, &truncated_at_a_dash[..63].replace('_', "-")),
            (&long, &long[..63]),
        ];
        for (name, label) in table {
            assert_eq!(agent_label(name), label, "{name}");
        }
    }

    #[test]
    fn canonical_names_are_valid_labels_and_stay_unchanged() {
        let truncated_at_a_dash = format!("k-{}_b", "a".repeat(60));
        let table = [
            ("1xGPU", "1xgpu"),
            ("Größe XL", "gr-e-xl"),
            ("größe-xl", "gr-e-xl"),
            ("gr-e-xl", "gr-e-xl"),
            ("a²b", "a-b"),
            (&truncated_at_a_dash, truncated_at_a_dash[..62].trim_end_matches('_')),
            ("学習キュー", ""),
        ];
        for (name, label) in table {
            assert_eq!(canonical_queue_name(name), label, "{name}");
            assert_eq!(canonical_queue_name(label), label, "a second time");
        }
    }
}
