//! `${root.path}` in the strings of layers and claims.
//!
//! Only the documented roots are placeholders; every other `${` is somebody's shell text and stays as it is, and
//! `$${` is a literal `${`. Nothing is run and nothing is quoted: a value is put where the placeholder stood.

mod value;

use std::fmt;

use bumpalo::Bump;
use serde_json::Value;

use crate::json::Json;
use crate::k8s::schema::nearest;

/// What a placeholder can be filled with, of one pod.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// the task's id, where somebody vouches for it
    pub task_id: Option<&'f str>,
    /// the task's user, where somebody vouches for them
    pub user: Option<&'f str>,
    /// the queue's id
    pub queue_id: Option<&'f str>,
    /// the queue's name, as it is configured or else as the pod spells it
    pub queue_name: Option<&'f str>,
    /// the pod's name; of a Job's pod the Job's
    pub pod_name: Option<&'f str>,
    /// the pod's namespace
    pub namespace: &'f str,
    /// the environment with the highest priority of those that apply
    pub environment: Option<&'f str>,
    /// ClearML's `<worker>:<task id>`
    pub worker_id: Option<&'f str>,
    /// the pod's vaults, merged
    pub task_config: &'f Value,
    /// what the identity provider says of the user
    pub providers_info: &'f Value,
}

/// A placeholder without a value: itself, and why. The value of nothing is in either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfilled {
    /// as it is written, without `${` and `}`
    pub text: String,
    /// why
    pub why: String,
}

impl fmt::Display for Unfilled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the placeholder ${{{}}} {}", self.text, self.why)
    }
}

/// Whether a fragment has anything that [`fill`] would change: a layer without costs nothing at a request.
pub fn stands_in(value: &Value) -> bool {
    match value {
        Value::String(text) => is_in(text),
        Value::Array(items) => items.iter().any(stands_in),
        Value::Object(members) => members.values().any(stands_in),
        _ => false,
    }
}

/// The same of one text.
pub fn is_in(text: &str) -> bool {
    parts(text).any(|part| !matches!(part, Part::Text(_)))
}

/// Whether every placeholder in `text` is one that could be filled.
///
/// # Errors
/// One sentence: an unknown root or field with the nearest spelling, a missing brace, an unknown operator, or a field
/// that only ClearML's API has.
pub fn check(text: &str) -> Result<(), String> {
    parts(text).try_for_each(|part| match part {
        Part::Wrong(unfilled) => Err(unfilled.to_string()),
        _ => Ok(()),
    })
}

/// A snapshot's fragment as [`Json::lift`] gives it, with its placeholders filled.
///
/// # Errors
/// The first placeholder that has no value.
pub fn fill<'a>(value: &'a Value, facts: &Facts<'_>, arena: &'a Bump) -> Result<Json<'a>, Unfilled> {
    let filled = match value {
        Value::String(text) => Json::Str(fill_text(text, facts, arena)?),
        Value::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| fill(item, facts, arena)).collect();
            Json::array(items?.into_iter(), arena)
        }
        Value::Object(members) => {
            let members: Result<Vec<_>, _> =
                members.iter().map(|(key, member)| Ok((key.as_str(), fill(member, facts, arena)?))).collect();
            Json::object(members?.into_iter(), arena)
        }
        other => Json::borrowed(other, arena),
    };
    Ok(filled)
}

fn fill_text<'a>(text: &'a str, facts: &Facts<'_>, arena: &'a Bump) -> Result<&'a str, Unfilled> {
    if !text.contains("${") {
        return Ok(text);
    }
    let mut filled = bumpalo::collections::String::with_capacity_in(text.len() + 32, arena);
    for part in parts(text) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Dollar => filled.push_str("${"),
            Part::Value(placeholder) => filled.push_str(&placeholder.value(facts)?),
            Part::Wrong(unfilled) => return Err(unfilled),
        }
    }
    Ok(filled.into_bump_str())
}

/// Follows a dotted path; an element in double quotes may itself hold dots.
pub fn look_up<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = tree;
    let mut rest = path;
    loop {
        let (element, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        value = value.as_object()?.get(element)?;
        if behind.is_empty() {
            return Some(value);
        }
        rest = behind.strip_prefix('.')?;
    }
}

// === what a text is made of ===

enum Part<'t> {
    /// as it is
    Text(&'t str),
    /// `$${`
    Dollar,
    Value(Placeholder<'t>),
    Wrong(Unfilled),
}

struct Placeholder<'t> {
    text: &'t str,
    field: Field,
    /// what follows the root, for the trees
    path: &'t str,
    default: Option<&'t str>,
    operators: Vec<Operator>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    TaskId,
    User,
    QueueId,
    QueueName,
    PodName,
    Namespace,
    Environment,
    WorkerId,
    TaskConfig,
    ProvidersInfo,
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Strip,
    Capitalize,
    Lower,
    RemoveNewlines,
    Raw,
}

/// The names that are whole placeholders, ClearML's own.
const NAMES: &[(&str, Option<Field>)] = &[
    ("CLEARML_QUEUE_NAME", Some(Field::QueueName)),
    ("CLEARML_QUEUE_ID", Some(Field::QueueId)),
    ("CLEARML_WORKER_ID", Some(Field::WorkerId)),
    ("CLEARML_PROJECT_NAME", None),
    ("CLEARML_PROJECT_ID", None),
];

/// What a root holds.
enum Holds {
    /// these and nothing else
    Fields(&'static [(&'static str, Field)]),
    /// these; all others only ClearML's API has
    OfApi(&'static [(&'static str, Field)]),
    /// any path
    Tree(Field),
    /// nothing, in a layer
    Nothing,
}

const ROOTS: &[(&str, Holds)] = &[
    ("task", Holds::OfApi(&[("id", Field::TaskId), ("user", Field::User)])),
    ("queue", Holds::Fields(&[("id", Field::QueueId), ("name", Field::QueueName)])),
    ("pod", Holds::Fields(&[("name", Field::PodName), ("namespace", Field::Namespace)])),
    ("environment", Holds::Fields(&[("name", Field::Environment)])),
    ("task_config", Holds::Tree(Field::TaskConfig)),
    ("providers_info", Holds::Tree(Field::ProvidersInfo)),
    ("params", Holds::Nothing),
    ("CLEARML_TASK", Holds::OfApi(&[("id", Field::TaskId), ("user", Field::User)])),
    ("CLEARML_USER", Holds::OfApi(&[("id", Field::User)])),
    ("CLEARML_CONFIG", Holds::Tree(Field::TaskConfig)),
    ("CLEARML_USER_VAULTS", Holds::Tree(Field::TaskConfig)),
    ("CLEARML_PROVIDERS_INFO", Holds::Tree(Field::ProvidersInfo)),
];

const OPERATORS: &[(&str, Operator)] = &[
    ("strip", Operator::Strip),
    ("capitalize", Operator::Capitalize),
    ("lower", Operator::Lower),
    ("remove_newlines", Operator::RemoveNewlines),
    ("raw", Operator::Raw),
];

/// The parts of a text, in order.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else { return Some(Part::Text(std::mem::take(&mut rest))) };
        if rest[..at].ends_with('$') {
            if at > 1 {
                let (before, behind) = rest.split_at(at - 1);
                rest = behind;
                return Some(Part::Text(before));
            }
            rest = &rest[at + 2..];
            return Some(Part::Dollar);
        }
        if at > 0 {
            let (before, behind) = rest.split_at(at);
            rest = behind;
            return Some(Part::Text(before));
        }
        let (part, length) = placeholder(rest);
        rest = &rest[length..];
        Some(part)
    })
}

/// What begins with the `${` at the start of `text`, and how long it is.
fn placeholder(text: &str) -> (Part<'_>, usize) {
    let inner = &text[2..];
    let literal = (Part::Text(&text[..2]), 2);
    let head_end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (head, behind) = inner.split_at(head_end);
    let dotted = behind.starts_with('.');
    let named = NAMES.iter().find(|(name, _)| *name == head).filter(|_| !dotted);
    let root = ROOTS.iter().find(|(name, _)| *name == head).filter(|_| dotted);
    if named.is_none() && root.is_none() && !(dotted && misspelt(head)) {
        return literal;
    }
    let Some(length) = closing_brace(inner) else {
        let text = inner.split_whitespace().next().unwrap_or(head);
        return (Part::Wrong(Unfilled { text: text.to_owned(), why: "has no closing brace".to_owned() }), 2);
    };
    let content = &inner[..length];
    let wrong = |why: String| Part::Wrong(Unfilled { text: content.to_owned(), why });
    let (path, default, operators) = match split(&content[head_end..]) {
        Ok(split) => split,
        Err(why) => return (wrong(why), length + 3),
    };
    let field = match (named, root) {
        (Some((_, field)), _) => field.ok_or_else(|| OF_API.to_owned()),
        (None, Some((_, holds))) => field_of(holds, path),
        (None, None) => Err(unknown(head, "root", ROOTS.iter().map(|(name, _)| *name))),
    };
    let part = match field {
        Ok(field) => Part::Value(Placeholder { text: content, field, path, default, operators }),
        Err(why) => wrong(why),
    };
    (part, length + 3)
}

const OF_API: &str = "is known to ClearML's API only, which podgraft does not ask";

/// A dotted name that is nearly a root: shell has no dots in names, so it was hardly meant for it.
fn misspelt(head: &str) -> bool {
    head.starts_with("CLEARML_") || nearest(head, ROOTS.iter().map(|(name, _)| *name)).is_some()
}

fn unknown<'n>(name: &str, what: &str, names: impl Iterator<Item = &'n str>) -> String {
    let hint = nearest(name, names).map_or_else(String::new, |near| format!("; did you mean {near}?"));
    format!("has no {what} that podgraft knows: {name}{hint}")
}

/// Where the brace is that ends a placeholder; in double quotes one may stand.
fn closing_brace(inner: &str) -> Option<usize> {
    let mut quoted = false;
    inner.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == '}' && !quoted).then_some(at)
    })
}

type Split<'t> = (&'t str, Option<&'t str>, Vec<Operator>);

/// `.path:default|operator` behind a root's name.
fn split(rest: &str) -> Result<Split<'_>, String> {
    let mut quoted = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        !quoted && matches!(c, ':' | '|')
    });
    let (path, behind) = rest.split_at(end.unwrap_or(rest.len()));
    let path = path.strip_prefix('.').unwrap_or(path);
    let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-');
    // Every second piece stands in quotes, and may be anything.
    let bare = path.split('"').step_by(2).flat_map(|piece| piece.split('.'));
    if bare.into_iter().any(|element| element.contains(odd)) || path.ends_with('.') || path.contains("..") {
        return Err("has a path that is none (names with dots between them)".to_owned());
    }
    let (default, operators) = match behind.strip_prefix(':') {
        Some(behind) => {
            let (default, operators) = behind.split_at(behind.find('|').unwrap_or(behind.len()));
            (Some(default), operators)
        }
        None => (None, behind),
    };
    let operators = operators.split('|').skip(1).map(|name| {
        let found = OPERATORS.iter().find(|(known, _)| *known == name.trim());
        found
            .map(|(_, operator)| *operator)
            .ok_or_else(|| unknown(name.trim(), "operator", OPERATORS.iter().map(|(known, _)| *known)))
    });
    Ok((path, default, operators.collect::<Result<_, _>>()?))
}

fn field_of(holds: &Holds, path: &str) -> Result<Field, String> {
    let find = |fields: &[(&str, Field)]| fields.iter().find(|(name, _)| *name == path).map(|(_, field)| *field);
    match holds {
        Holds::Tree(field) => Ok(*field),
        Holds::Fields(fields) => {
            find(fields).ok_or_else(|| unknown(path, "field", fields.iter().map(|(name, _)| *name)))
        }
        Holds::OfApi(fields) => find(fields).ok_or_else(|| {
            let names = || fields.iter().map(|(name, _)| *name);
            nearest(path, names()).map_or_else(|| OF_API.to_owned(), |_| unknown(path, "field", names()))
        }),
        Holds::Nothing => Err("is a module's: a layer has no params".to_owned()),
    }
}

#[cfg(test)]
mod tests;
