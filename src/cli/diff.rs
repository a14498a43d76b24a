//! Compares two pods as a coloured YAML diff; each changed line names its layer or module.

use anstyle::{AnsiColor, Style};
use bumpalo::Bump;
use similar::{ChangeTag, TextDiff};

use crate::explain::yaml::{self, Line};
use crate::json::Json;
use crate::k8s::labels::LAST_APPLIED;
use crate::k8s::patch::is_within;
use crate::mutate::provenance::Change;

/// The widest line that moves the notes to the right, in characters: a task's arguments would push them off the screen.
const WIDEST: usize = 72;

/// The YAML lines of one of the two compared pods.
pub struct Side(Vec<Line>);

impl Side {
    /// Returns the lines of a pod without `status`, `managedFields` and the last applied configuration.
    pub fn new<'a>(pod: Json<'a>, arena: &'a Bump) -> Self {
        let mut shown = pod.without("status", arena);
        if let Some(metadata) = pod.get("metadata") {
            let mut bare = metadata.without("managedFields", arena);
            if let Some(annotations) = metadata.get("annotations") {
                bare = bare.with("annotations", annotations.without(LAST_APPLIED, arena), arena);
            }
            shown = shown.with("metadata", bare, arena);
        }
        Self::whole(shown, arena)
    }

    /// Returns all lines of a pod.
    pub fn whole<'a>(pod: Json<'a>, arena: &'a Bump) -> Self {
        Self(yaml::lines(pod, arena))
    }

    fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|line| line.text.as_str()).collect()
    }
}

/// Formats the changed lines with three lines of context. `fallback` is the note of lines that no change covers.
pub fn text(before: &Side, after: &Side, changes: &[Change], fallback: &str) -> String {
    let (old, new) = (before.texts(), after.texts());
    let diff = TextDiff::from_slices(&old, &new);
    let groups = diff.grouped_ops(3);
    let diff_lines = || groups.iter().flatten().flat_map(|operation| diff.iter_changes(operation));
    let width = diff_lines().map(|change| change.value().chars().count().min(WIDEST)).max().unwrap_or(0) + 2;
    let mut text = String::new();
    for (index, group) in groups.iter().enumerate() {
        if index > 0 {
            text.push_str(&painted(AnsiColor::BrightBlack, "  ..."));
        }
        for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
            let line = match (change.old_index(), change.new_index()) {
                (_, Some(index)) => &after.0[index],
                (Some(index), None) => &before.0[index],
                (None, None) => continue,
            };
            match change.tag() {
                ChangeTag::Equal => text.extend(["  ", &line.text, "\n"]),
                ChangeTag::Insert => {
                    text.push_str(&painted(AnsiColor::Green, &signed('+', line, changes, fallback, width)));
                }
                ChangeTag::Delete => {
                    text.push_str(&painted(AnsiColor::Red, &signed('-', line, changes, fallback, width)));
                }
            }
        }
    }
    text
}

fn painted(color: AnsiColor, line: &str) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{line}{style:#}\n")
}

/// Returns a line with its sign and note: the last change that covers the line, otherwise the last change inside it.
fn signed(sign: char, line: &Line, changes: &[Change], fallback: &str, width: usize) -> String {
    let covering = changes.iter().rev().find(|change| is_within(&line.path, &change.path));
    let change = covering.or_else(|| changes.iter().rev().find(|change| is_within(&change.path, &line.path)));
    let note = change.map_or_else(|| fallback.to_owned(), |change| format!("# {}", change.source));
    format!("{sign} {:width$} {note}", line.text).trim_end().to_owned()
}
