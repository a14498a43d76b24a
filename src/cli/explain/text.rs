//! Formats the explanation of a pod as text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::report::{Identity, Location, Report, Step};
use crate::cli::table;

/// Formats an explanation, which is limited to `field` if that is given.
pub(super) fn format(explanation: &Report, field: Option<&str>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} ({}): {}", strong(&explanation.pod), explanation.manifest, headline(explanation));
    if let Some(task) = &explanation.task {
        text.push_str(&identity(task));
    }
    let (title, set) = match explanation.denial {
        None => ("Applied, in this order", "Set (+) and removed (-)"),
        Some(_) => ("Applied before the denial, in this order", "Set (+) and removed (-) before the denial"),
    };
    section(&mut text, title, &steps(&explanation.applied, 1));
    let remaining = steps(&explanation.remaining, explanation.applied.len() + 1);
    section(&mut text, "Not applied because of the denial (modules only if their condition is true)", &remaining);
    let of_field = field.map_or_else(String::new, |field| format!(", {field}"));
    let fields = explanation.fields.iter().map(|field| {
        let sign = if field.removed { "-" } else { "+" };
        let replaces = if field.replaced.is_empty() {
            String::new()
        } else {
            format!(" (replaces {})", field.replaced.join(", "))
        };
        [sign.to_owned(), field.source.clone(), at(field.at.as_ref()), format!("{}{replaces}", field.path)]
    });
    section(&mut text, &format!("{set}{of_field}"), &fields.collect::<Vec<_>>());
    let overridden = explanation.overridden.iter().map(|setting| {
        [setting.source.clone(), at(setting.at.as_ref()), format!("{}: {}", setting.path, setting.because)]
    });
    section(&mut text, &format!("Overridden{of_field}"), &overridden.collect::<Vec<_>>());
    let not_applied = explanation.not_applied.iter().map(|source| [source.source.clone(), source.because.clone()]);
    section(&mut text, "Not applied", &not_applied.collect::<Vec<_>>());
    if let Some(field) = field.filter(|_| explanation.fields.is_empty() && explanation.overridden.is_empty()) {
        let before = if explanation.denial.is_some() { " before the denial" } else { "" };
        let _ = writeln!(text, "\nNo layer or module that was applied{before} sets {field}.");
    }
    text
}

/// Returns the rows of layers and modules, numbered from `first`.
fn steps(steps: &[Step], first: usize) -> Vec<[String; 4]> {
    let row = |(number, step): (usize, &Step)| {
        [number.to_string(), step.source.clone(), at(step.at.as_ref()), step.conflict.clone().unwrap_or_default()]
    };
    (first..).zip(steps).map(row).collect()
}

fn headline(explanation: &Report) -> String {
    match (&explanation.denial, &explanation.because) {
        (Some(denial), _) => {
            let word = painted(AnsiColor::Red, "denied");
            format!("{word} ({}, {}): {}", denial.code, denial.reason, denial.message)
        }
        (None, Some(reason)) => format!("skipped: {reason}"),
        (None, None) if explanation.outcome == "patched" => painted(AnsiColor::Green, "patched"),
        (None, None) => explanation.outcome.to_owned(),
    }
}

fn identity(task: &Identity) -> String {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let queue = match (&task.queue, &task.configured_queue) {
        (None, _) => "none".to_owned(),
        (Some(named), Some(queue)) => format!("{named}, which is queues.{queue}"),
        (Some(named), None) => format!("{named}, which does not apply"),
    };
    table::text(&[
        ["system".to_owned(), task.system.clone()],
        ["queue".to_owned(), queue],
        ["task".to_owned(), or_unknown(&task.id)],
        ["user".to_owned(), or_unknown(&task.user)],
        ["primary container".to_owned(), or_unknown(&task.primary_container)],
        ["sent by".to_owned(), task.sender.clone()],
    ])
}

fn section<const N: usize>(text: &mut String, title: &str, rows: &[[String; N]]) {
    if !rows.is_empty() {
        let _ = write!(text, "\n{}\n{}", strong(title), table::text(rows));
    }
}

fn at(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |location| format!("{}:{}", location.file, location.line))
}

fn strong(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

fn painted(color: AnsiColor, text: &str) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}
