//! Two pods as a coloured diff of YAML, each changed line with who made it.

use anstyle::{AnsiColor, Style};
use bumpalo::Bump;
use similar::{ChangeTag, TextDiff};

use crate::explain::yaml::{self, Line};
use crate::json::Json;
use crate::k8s::labels::LAST_APPLIED;
use crate::k8s::patch::is_within;
use crate::mutate::provenance::Change;

/// Longer lines (a task's arguments) do not push the notes off the screen.
const WIDEST: usize = 72;

/// One side of a comparison.
pub struct Side(Vec<Line>);

impl Side {
    /// The lines of a pod as people want to see it: without bookkeeping that nobody reads.
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

    /// All lines.
    pub fn whole<'a>(pod: Json<'a>, arena: &'a Bump) -> Self {
        Self(yaml::lines(pod, arena))
    }

    fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|line| line.text.as_str()).collect()
    }
}

/// The changed lines with three lines around them; `otherwise` stands behind those that nobody of podgraft touched.
pub fn text(before: &Side, after: &Side, touches: &[Change], otherwise: &str) -> String {
    let (old, new) = (before.texts(), after.texts());
    let diff = TextDiff::from_slices(&old, &new);
    let groups = diff.grouped_ops(3);
    let changes = || groups.iter().flatten().flat_map(|operation| diff.iter_changes(operation));
    let width = changes().map(|change| change.value().chars().count().min(WIDEST)).max().unwrap_or(0) + 2;
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
                    text.push_str(&painted(AnsiColor::Green, &signed('+', line, touches, otherwise, width)));
                }
                ChangeTag::Delete => {
                    text.push_str(&painted(AnsiColor::Red, &signed('-', line, touches, otherwise, width)));
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

/// The last who touched what the line shows, or, for a line above others, something in it.
fn signed(sign: char, line: &Line, touches: &[Change], otherwise: &str, width: usize) -> String {
    let covering = touches.iter().rev().find(|touch| is_within(&line.path, &touch.path));
    let touch = covering.or_else(|| touches.iter().rev().find(|touch| is_within(&touch.path, &line.path)));
    let note = touch.map_or_else(|| otherwise.to_owned(), |touch| format!("# {}", touch.source));
    format!("{sign} {:width$} {note}", line.text).trim_end().to_owned()
}
