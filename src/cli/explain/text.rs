//! An explanation for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::report::{Identity, Location, Report, Step};
use crate::cli::table;

/// The whole text; `field` is what it is limited to.
pub(super) fn of(explanation: &Report, field: Option<&str>) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} ({}): {}", strong(&explanation.pod), explanation.manifest, headline(explanation));
    if let Some(task) = &explanation.task {
        text.push_str(&identity(task));
    }
    let (title, set) = match explanation.denial {
        None => ("Order in which it was laid", "Set (+) and removed (-)"),
        Some(_) => ("Order in which it was laid, until the refusal", "Set (+) and removed (-) until the refusal"),
    };
    section(&mut text, title, &steps(&explanation.applied, 1));
    let rest = steps(&explanation.not_reached, explanation.applied.len() + 1);
    section(&mut text, "Was still to be laid (modules where their condition holds)", &rest);
    let of_field = field.map_or_else(String::new, |field| format!(", {field}"));
    let fields = explanation.fields.iter().map(|field| {
        let sign = if field.removed { "-" } else { "+" };
        let over =
            if field.replaced.is_empty() { String::new() } else { format!(" (over {})", field.replaced.join(", ")) };
        [sign.to_owned(), field.source.clone(), at(field.at.as_ref()), format!("{}{over}", field.path)]
    });
    section(&mut text, &format!("{set}{of_field}"), &fields.collect::<Vec<_>>());
    let lost = explanation
        .overridden
        .iter()
        .map(|one| [one.source.clone(), at(one.at.as_ref()), format!("{}: {}", one.path, one.because)]);
    section(&mut text, &format!("Asked for, and not there{of_field}"), &lost.collect::<Vec<_>>());
    let passed = explanation.not_applied.iter().map(|one| [one.source.clone(), one.because.clone()]);
    section(&mut text, "Did not apply", &passed.collect::<Vec<_>>());
    if let Some(field) = field.filter(|_| explanation.fields.is_empty() && explanation.overridden.is_empty()) {
        let whose = if explanation.denial.is_some() { "was laid until the refusal" } else { "applies" };
        let _ = writeln!(text, "\nNo layer and no module that {whose} has anything for {field}.");
    }
    text
}

/// Numbered from `first`.
fn steps(steps: &[Step], first: usize) -> Vec<[String; 4]> {
    let row = |(number, step): (usize, &Step)| {
        [number.to_string(), step.source.clone(), at(step.at.as_ref()), step.conflict.clone().unwrap_or_default()]
    };
    (first..).zip(steps).map(row).collect()
}

fn headline(explanation: &Report) -> String {
    match (&explanation.denial, &explanation.because) {
        (Some(refusal), _) => {
            let word = painted(AnsiColor::Red, "rejected");
            format!("{word} ({}, {}): {}", refusal.code, refusal.reason, refusal.message)
        }
        (None, Some(why)) => format!("left alone: {why}"),
        (None, None) if explanation.outcome == "patched" => painted(AnsiColor::Green, "patched"),
        (None, None) => explanation.outcome.to_owned(),
    }
}

fn identity(task: &Identity) -> String {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    let queue = match (&task.queue, &task.configured_queue) {
        (None, _) => "none named".to_owned(),
        (Some(named), Some(queue)) => format!("{named}, which is queues.{queue}"),
        (Some(named), None) => format!("{named}, which gives nothing"),
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

fn at(place: Option<&Location>) -> String {
    place.map_or_else(String::new, |place| format!("{}:{}", place.file, place.line))
}

fn strong(text: &str) -> String {
    let style = Style::new().bold();
    format!("{style}{text}{style:#}")
}

fn painted(color: AnsiColor, text: &str) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}
