//! Placeholders, `${root.path}`, in the strings of layers and claims.
//!
//! Only the documented roots are placeholders; every other `${` is shell text and stays unchanged, and `$${` is a
//! literal `${`. A value is inserted without evaluation or quoting.

mod value;

use std::fmt;

use bumpalo::Bump;
use serde_json::Value;

use crate::json::Json;
use crate::k8s::schema::{did_you_mean, nearest};

/// The values of one pod that placeholders can have.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// the task's id, if a submitter created the pod
    pub task_id: Option<&'f str>,
    /// the task's user, if a submitter created the pod
    pub user: Option<&'f str>,
    /// the queue's id
    pub queue_id: Option<&'f str>,
    /// the queue's configured name, or else the one in the pod's label
    pub queue_name: Option<&'f str>,
    /// the pod's name; of a Job's pod the Job's name
    pub pod_name: Option<&'f str>,
    /// the pod's namespace
    pub namespace: &'f str,
    /// the matching environment with the highest priority
    pub environment: Option<&'f str>,
    /// ClearML's `<worker>:<task id>`
    pub worker_id: Option<&'f str>,
    /// the pod's `taskConfig` vaults, merged
    pub task_config: &'f Value,
    /// the user's attributes from the identity provider
    pub providers_info: &'f Value,
}

/// A placeholder without a value. Neither field fields a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceholderError {
    /// the placeholder without `${` and `}`
    pub text: String,
    /// the error
    pub message: String,
}

impl fmt::Display for PlaceholderError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the placeholder ${{{}}} {}", self.text, self.message)
    }
}

/// Returns true if a fragment has a placeholder or `$${`, so that [`fill`] would change it.
pub fn has_placeholder(value: &Value) -> bool {
    match value {
        Value::String(text) => text_has_placeholder(text),
        Value::Array(items) => items.iter().any(has_placeholder),
        Value::Object(members) => members.values().any(has_placeholder),
        _ => false,
    }
}

/// Returns true if a text has a placeholder or `$${`.
pub fn text_has_placeholder(text: &str) -> bool {
    parts(text).any(|part| !matches!(part, Part::Text(_)))
}

/// Checks that every placeholder in `text` can have a value.
///
/// # Errors
/// One sentence: an unknown root or field with the nearest spelling, a missing brace, an unknown operator, or a field
/// that only ClearML's API has.
pub fn check(text: &str) -> Result<(), String> {
    parts(text).try_for_each(|part| match part {
        Part::Invalid(error) => Err(error.to_string()),
        _ => Ok(()),
    })
}

/// Returns a snapshot's fragment with its placeholders filled.
///
/// # Errors
/// The first placeholder that has no value.
pub fn fill<'a>(value: &'a Value, facts: &Facts<'_>, arena: &'a Bump) -> Result<Json<'a>, PlaceholderError> {
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

fn fill_text<'a>(text: &'a str, facts: &Facts<'_>, arena: &'a Bump) -> Result<&'a str, PlaceholderError> {
    if !text.contains("${") {
        return Ok(text);
    }
    let mut filled = bumpalo::collections::String::with_capacity_in(text.len() + 32, arena);
    for part in parts(text) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Dollar => filled.push_str("${"),
            Part::Value(placeholder) => filled.push_str(&placeholder.value(facts)?),
            Part::Invalid(error) => return Err(error),
        }
    }
    Ok(filled.into_bump_str())
}

/// Follows a dotted path. An element in double quotes may contain dots.
pub fn look_up<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = tree;
    let mut rest = path;
    loop {
        let (element, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        value = value.as_object()?.get(element)?;
        if after.is_empty() {
            return Some(value);
        }
        rest = after.strip_prefix('.')?;
    }
}

// === the parts of a text ===

enum Part<'t> {
    /// literal text
    Text(&'t str),
    /// `$${`
    Dollar,
    Value(Placeholder<'t>),
    Invalid(PlaceholderError),
}

struct Placeholder<'t> {
    text: &'t str,
    field: Field,
    /// the path below the root, for trees
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

/// ClearML's placeholders without a path.
const NAMES: &[(&str, Option<Field>)] = &[
    ("CLEARML_QUEUE_NAME", Some(Field::QueueName)),
    ("CLEARML_QUEUE_ID", Some(Field::QueueId)),
    ("CLEARML_WORKER_ID", Some(Field::WorkerId)),
    ("CLEARML_PROJECT_NAME", None),
    ("CLEARML_PROJECT_ID", None),
];

/// The fields of a root.
enum Fields {
    /// these fields only
    Known(&'static [(&'static str, Field)]),
    /// these fields; all others exist in ClearML's API only
    KnownAndApi(&'static [(&'static str, Field)]),
    /// any path
    Tree(Field),
    /// no field, in a layer
    None,
}

const ROOTS: &[(&str, Fields)] = &[
    ("task", Fields::KnownAndApi(&[("id", Field::TaskId), ("user", Field::User)])),
    ("queue", Fields::Known(&[("id", Field::QueueId), ("name", Field::QueueName)])),
    ("pod", Fields::Known(&[("name", Field::PodName), ("namespace", Field::Namespace)])),
    ("environment", Fields::Known(&[("name", Field::Environment)])),
    ("task_config", Fields::Tree(Field::TaskConfig)),
    ("providers_info", Fields::Tree(Field::ProvidersInfo)),
    ("params", Fields::None),
    ("CLEARML_TASK", Fields::KnownAndApi(&[("id", Field::TaskId), ("user", Field::User)])),
    ("CLEARML_USER", Fields::KnownAndApi(&[("id", Field::User)])),
    ("CLEARML_CONFIG", Fields::Tree(Field::TaskConfig)),
    ("CLEARML_USER_VAULTS", Fields::Tree(Field::TaskConfig)),
    ("CLEARML_PROVIDERS_INFO", Fields::Tree(Field::ProvidersInfo)),
];

const OPERATORS: &[(&str, Operator)] = &[
    ("strip", Operator::Strip),
    ("capitalize", Operator::Capitalize),
    ("lower", Operator::Lower),
    ("remove_newlines", Operator::RemoveNewlines),
    ("raw", Operator::Raw),
];

/// Splits a text into its parts.
fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(at) = rest.find("${") else { return Some(Part::Text(std::mem::take(&mut rest))) };
        if rest[..at].ends_with('$') {
            if at > 1 {
                let (before, after) = rest.split_at(at - 1);
                rest = after;
                return Some(Part::Text(before));
            }
            rest = &rest[at + 2..];
            return Some(Part::Dollar);
        }
        if at > 0 {
            let (before, after) = rest.split_at(at);
            rest = after;
            return Some(Part::Text(before));
        }
        let (part, length) = placeholder(rest);
        rest = &rest[length..];
        Some(part)
    })
}

/// Parses the part that begins with the `${` at the start of `text`; returns also its length.
fn placeholder(text: &str) -> (Part<'_>, usize) {
    let inner = &text[2..];
    let literal = (Part::Text(&text[..2]), 2);
    let head_end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (head, after) = inner.split_at(head_end);
    let dotted = after.starts_with('.');
    let named = NAMES.iter().find(|(name, _)| *name == head).filter(|_| !dotted);
    let root = ROOTS.iter().find(|(name, _)| *name == head).filter(|_| dotted);
    if named.is_none() && root.is_none() && !(dotted && is_misspelled_root(head)) {
        return literal;
    }
    let Some(length) = closing_brace(inner) else {
        let text = inner.split_whitespace().next().unwrap_or(head);
        return (
            Part::Invalid(PlaceholderError { text: text.to_owned(), message: "has no closing brace".to_owned() }),
            2,
        );
    };
    let content = &inner[..length];
    let invalid = |message: String| Part::Invalid(PlaceholderError { text: content.to_owned(), message });
    let (path, default, operators) = match split(&content[head_end..]) {
        Ok(split) => split,
        Err(message) => return (invalid(message), length + 3),
    };
    let field = match (named, root) {
        (Some((_, field)), _) => field.ok_or_else(|| API_ONLY.to_owned()),
        (None, Some((_, fields))) => field_of(fields, path),
        (None, None) => Err(unknown(head, "root", ROOTS.iter().map(|(name, _)| *name))),
    };
    let part = match field {
        Ok(field) => Part::Value(Placeholder { text: content, field, path, default, operators }),
        Err(message) => invalid(message),
    };
    (part, length + 3)
}

const API_ONLY: &str = "exists in ClearML's API only, which podgraft does not query";

/// Returns true for a dotted name that is similar to a root: shell variables have no dots, so it is a typing error.
fn is_misspelled_root(head: &str) -> bool {
    head.starts_with("CLEARML_") || nearest(head, ROOTS.iter().map(|(name, _)| *name)).is_some()
}

fn unknown<'n>(name: &str, what: &str, names: impl Iterator<Item = &'n str>) -> String {
    format!("has an unknown {what}: {name}{}", did_you_mean(name, names))
}

/// Finds the brace that ends a placeholder; braces in double quotes do not.
fn closing_brace(inner: &str) -> Option<usize> {
    let mut quoted = false;
    inner.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (c == '}' && !quoted).then_some(at)
    })
}

type Split<'t> = (&'t str, Option<&'t str>, Vec<Operator>);

/// Splits `.path:default|operator` after a root's name.
fn split(rest: &str) -> Result<Split<'_>, String> {
    let mut quoted = false;
    let end = rest.find(|c: char| {
        quoted ^= c == '"';
        !quoted && matches!(c, ':' | '|')
    });
    let (path, after) = rest.split_at(end.unwrap_or(rest.len()));
    let path = path.strip_prefix('.').unwrap_or(path);
    let is_invalid = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-');
    // Every second piece is quoted, and may contain anything.
    let bare = path.split('"').step_by(2).flat_map(|piece| piece.split('.'));
    if bare.into_iter().any(|element| element.contains(is_invalid)) || path.ends_with('.') || path.contains("..") {
        return Err("has an invalid path (names with dots between them are expected)".to_owned());
    }
    let (default, operators) = match after.strip_prefix(':') {
        Some(after) => {
            let (default, operators) = after.split_at(after.find('|').unwrap_or(after.len()));
            (Some(default), operators)
        }
        None => (None, after),
    };
    let operators = operators.split('|').skip(1).map(|name| {
        let operator = OPERATORS.iter().find(|(known, _)| *known == name.trim());
        operator
            .map(|(_, operator)| *operator)
            .ok_or_else(|| unknown(name.trim(), "operator", OPERATORS.iter().map(|(known, _)| *known)))
    });
    Ok((path, default, operators.collect::<Result<_, _>>()?))
}

fn field_of(fields: &Fields, path: &str) -> Result<Field, String> {
    let find = |fields: &[(&str, Field)]| fields.iter().find(|(name, _)| *name == path).map(|(_, field)| *field);
    match fields {
        Fields::Tree(field) => Ok(*field),
        Fields::Known(fields) => {
            find(fields).ok_or_else(|| unknown(path, "field", fields.iter().map(|(name, _)| *name)))
        }
        Fields::KnownAndApi(fields) => find(fields).ok_or_else(|| {
            let names = || fields.iter().map(|(name, _)| *name);
            nearest(path, names()).map_or_else(|| API_ONLY.to_owned(), |_| unknown(path, "field", names()))
        }),
        Fields::None => Err("is for modules only: a layer has no params".to_owned()),
    }
}

#[cfg(test)]
mod tests;
