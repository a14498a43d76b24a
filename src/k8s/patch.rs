//! Computes JSON patches (RFC 6902) by comparing two pods, and applies them.
//!
//! The comparison uses the schema: elements of a list with a merge key are matched by key, so that an element inserted
//! in front is one `add` and not a change of every element behind it.

mod key;

pub use key::{has_key, key_text};

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::json::{self, Json, Member};
use crate::k8s::schema::{ListType, Object, POD, Type};

/// One RFC 6902 operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// the kind of operation
    pub action: Action,
    /// the path of the changed value
    pub path: &'a [PathElement<'a>],
    /// the new value; `null` for a removal
    pub value: Json<'a>,
}

/// The three kinds of operation that podgraft uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// adds a new member, or inserts an element before the one at its index
    Add,
    /// replaces an existing value
    Replace,
    /// removes a value
    Remove,
}

/// One element of a path in a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PathElement<'a> {
    /// a member of an object
    Member(&'a str),
    /// an element of a list: its index, and its key if the list has one
    Element(usize, Option<&'a str>),
}

/// Returns the operations that turn the pod `before` into `after`.
pub fn diff<'a>(before: Json<'a>, after: Json<'a>, arena: &'a Bump) -> &'a [Operation<'a>] {
    let mut differ = Differ { arena, path: ArenaVec::new_in(arena), operations: ArenaVec::new_in(arena) };
    differ.value(before, after, Type::Object(&POD));
    differ.operations.into_bump_slice()
}

struct Differ<'a> {
    arena: &'a Bump,
    path: ArenaVec<'a, PathElement<'a>>,
    operations: ArenaVec<'a, Operation<'a>>,
}

impl<'a> Differ<'a> {
    fn emit(&mut self, action: Action, value: Json<'a>) {
        let path = self.arena.alloc_slice_copy(&self.path);
        self.operations.push(Operation { action, path, value });
    }

    fn within(&mut self, step: PathElement<'a>, act: impl FnOnce(&mut Self)) {
        self.path.push(step);
        act(self);
        self.path.pop();
    }

    fn value(&mut self, before: Json<'a>, after: Json<'a>, kind: Type) {
        if before.ptr_eq(&after) {
            return;
        }
        match (before, after) {
            (Json::Object(a), Json::Object(b)) => self.object(a, b, kind),
            (Json::Array(a), Json::Array(b)) => self.array(a, b, kind, ListType::Atomic),
            (a, b) if a == b => {}
            _ => self.emit(Action::Replace, after),
        }
    }

    fn object(&mut self, before: &'a [Member<'a>], after: &'a [Member<'a>], kind: Type) {
        let object = if let Type::Object(object) = kind { Some(object) } else { None };
        // Merging keeps the order of members: with the cursor the comparison is linear if nothing was removed.
        let mut next = 0;
        for (key, _) in before {
            if after.get(next).is_some_and(|(name, _)| name == key) {
                next += 1;
            } else if Json::Object(after).get(key).is_none() {
                self.within(PathElement::Member(key), |differ| differ.emit(Action::Remove, Json::Null));
            }
        }
        for (index, (key, value)) in after.iter().enumerate() {
            let old = match before.get(index) {
                Some((name, old)) if name == key => Some(*old),
                _ => Json::Object(before).get(key),
            };
            self.within(PathElement::Member(key), |differ| match (old, object.and_then(|object| object.field(key))) {
                (None, _) => differ.emit(Action::Add, *value),
                (Some(Json::Array(a)), Some(field)) if matches!(value, Json::Array(_)) => {
                    if !Json::Array(a).ptr_eq(value) {
                        differ.array(a, value.items(), field.kind, field.list);
                    }
                }
                (Some(old), field) => differ.value(old, *value, below(kind, field.map(|field| field.kind))),
            });
        }
    }

    fn array(&mut self, before: &'a [Json<'a>], after: &'a [Json<'a>], kind: Type, list: ListType) {
        let element = if let Type::List(element) = kind { *element } else { Type::Any };
        // Elements of layers precede the pod's own, which end both lists and need no comparison.
        let whole = Json::Array(after);
        let shared = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a.ptr_eq(b)).count();
        let (before, after) = (&before[..before.len() - shared], &after[..after.len() - shared]);
        let first = before.iter().zip(after).take_while(|(a, b)| a.ptr_eq(b)).count();
        let (before, after) = (&before[first..], &after[first..]);
        let old = self.names(before, list);
        let new = self.names(after, list);
        let Some(matches) = match_names(&old, &new) else {
            if Json::Array(before) != Json::Array(after) {
                self.emit(Action::Replace, whole);
            }
            return;
        };
        let mut kept = vec![false; before.len()];
        matches.iter().flatten().for_each(|place| kept[*place] = true);
        // An atomic list is one value (a command's words): it is replaced as a whole.
        if list == ListType::Atomic && kept.contains(&false) {
            self.emit(Action::Replace, whole);
            return;
        }
        for index in (0..before.len()).rev() {
            if !kept[index] {
                let step = PathElement::Element(first + index, old[index].label());
                self.within(step, |differ| differ.emit(Action::Remove, Json::Null));
            }
        }
        for (index, (value, old)) in after.iter().zip(&matches).enumerate() {
            self.within(PathElement::Element(first + index, new[index].label()), |differ| match old {
                None => differ.emit(Action::Add, *value),
                Some(old) => differ.element(before[*old], *value, element, list),
            });
        }
    }

    /// Compares two elements. A union's parts belong together: if one of them or a field within one is removed, the
    /// element is replaced.
    fn element(&mut self, before: Json<'a>, after: Json<'a>, kind: Type, list: ListType) {
        if matches!(list, ListType::MapAtomicItem(_)) && lacks_a_part(before, after) {
            self.emit(Action::Replace, after);
        } else {
            self.value(before, after, kind);
        }
    }

    /// Returns the names that identify the elements of a list.
    fn names(&self, items: &'a [Json<'a>], list: ListType) -> ArenaVec<'a, Name<'a>> {
        let mut names: ArenaVec<'a, Name<'a>> = ArenaVec::with_capacity_in(items.len(), self.arena);
        names.extend(items.iter().map(|item| match key_text(item, list, self.arena) {
            Some(key) => Name { key: ElementKey::Key(key), nth: 0 },
            None => Name { key: ElementKey::Value(*item), nth: 0 },
        }));
        number_repeats(&mut names);
        names
    }
}

/// An element's name: its key, or in a list without keys the element itself. Of several elements with one name
/// (possible in env) the last one is effective in Kubernetes: it is number 0.
#[derive(Clone, Copy, PartialEq)]
struct Name<'a> {
    key: ElementKey<'a>,
    nth: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum ElementKey<'a> {
    Key(&'a str),
    Value(Json<'a>),
}

impl<'a> Name<'a> {
    fn label(&self) -> Option<&'a str> {
        match self.key {
            ElementKey::Key(key) => Some(key),
            ElementKey::Value(_) => None,
        }
    }
}

/// Number of elements from which hashing is cheaper than comparing pairwise: a pod with 2,000 env entries would need
/// two million comparisons.
const HASH_FROM: usize = 32;

/// Returns true if an object has a member, at any depth, that the other lacks.
fn lacks_a_part(before: Json<'_>, after: Json<'_>) -> bool {
    let is_gone = |now: Option<Json<'_>>, old: Json<'_>| now.is_none_or(|now| lacks_a_part(old, now));
    let objects = matches!((before, after), (Json::Object(_), Json::Object(_)));
    objects && !before.ptr_eq(&after) && before.members().iter().any(|(key, old)| is_gone(after.get(key), *old))
}

fn number_repeats(names: &mut [Name<'_>]) {
    if names.len() > HASH_FROM && names.iter().all(|name| matches!(name.key, ElementKey::Key(_))) {
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
        for name in names.iter_mut().rev() {
            let times = seen.entry(name.label().unwrap_or_default()).or_default();
            name.nth = *times;
            *times += 1;
        }
        return;
    }
    for index in (0..names.len()).rev() {
        let key = names[index].key;
        names[index].nth = names[index + 1..].iter().filter(|later| later.key == key).count();
    }
}

/// Returns for each new element the old index. Returns `None` if kept elements changed their order: then the list is
/// replaced, as moving elements one by one would be longer.
fn match_names(old: &[Name<'_>], new: &[Name<'_>]) -> Option<Vec<Option<usize>>> {
    let places: Option<HashMap<(&str, usize), usize>> = (old.len() > HASH_FROM)
        .then(|| old.iter().enumerate().map(|(place, name)| Some(((name.label()?, name.nth), place))).collect())
        .flatten();
    let find = |name: &Name<'_>| match (&places, name.label()) {
        (Some(places), Some(key)) => places.get(&(key, name.nth)).copied(),
        _ => old.iter().position(|old| old == name),
    };
    let mut next = 0;
    new.iter()
        .map(|name| {
            // Kept elements nearly always keep their order, so the next one is tried first.
            let place = if old.get(next) == Some(name) { Some(next) } else { find(name) };
            match place {
                Some(place) if place < next => None,
                Some(place) => {
                    next = place + 1;
                    Some(Some(place))
                }
                None => Some(None),
            }
        })
        .collect()
}

/// Returns the type of a member of `kind`.
fn below(kind: Type, field: Option<Type>) -> Type {
    match kind {
        Type::Map(element) => *element,
        _ => field.unwrap_or(Type::Any),
    }
}

/// Applies `operations` to `document` in the way of the API server.
///
/// # Errors
/// The operation whose path does not exist.
pub fn apply<'a>(document: Json<'a>, operations: &[Operation<'a>], arena: &'a Bump) -> Result<Json<'a>, String> {
    apply_below(document, operations, 0, arena)
        .map_err(|operation| format!("{:?} {} does not apply", operation.action, pointer(operation.path)))
}

/// Applies operations that all lead to or through `at`, which is `depth` levels deep. Consecutive ones into one member
/// or element are applied together, so that each object and list is copied once, not once per operation.
fn apply_below<'a, 'o>(
    at: Json<'a>,
    operations: &'o [Operation<'a>],
    depth: usize,
    arena: &'a Bump,
) -> Result<Json<'a>, &'o Operation<'a>> {
    let mut members = ArenaVec::new_in(arena);
    members.extend_from_slice_copy(at.members());
    let mut items = ArenaVec::new_in(arena);
    items.extend_from_slice_copy(at.items());
    let mut rest = operations;
    while let [first, ..] = rest {
        let Some(step) = first.path.get(depth) else { return Err(first) };
        let is_together =
            |operation: &&Operation<'a>| operation.path.len() > depth + 1 && operation.path.get(depth) == Some(step);
        let (together, later) = rest.split_at(rest.iter().take_while(is_together).count().max(1));
        rest = later;
        let below = |value: Json<'a>| match first.path.len() - depth {
            1 => Ok(first.value),
            _ => apply_below(value, together, depth + 1, arena),
        };
        let action = if first.path.len() == depth + 1 { first.action } else { Action::Replace };
        match (at, step) {
            (Json::Object(_), PathElement::Member(key)) => {
                match (members.iter().rposition(|(name, _)| name == key), action) {
                    (None, Action::Add) => members.push((key, first.value)),
                    (Some(_), Action::Remove) => members.retain(|(name, _)| name != key),
                    (Some(place), _) => members[place].1 = below(members[place].1)?,
                    (None, _) => return Err(first),
                }
            }
            (Json::Array(_), PathElement::Element(index, _)) => match action {
                Action::Add if *index <= items.len() => items.insert(*index, first.value),
                Action::Remove if *index < items.len() => drop(items.remove(*index)),
                Action::Replace if *index < items.len() => items[*index] = below(items[*index])?,
                _ => return Err(first),
            },
            _ => return Err(first),
        }
    }
    Ok(match at {
        Json::Object(_) => Json::Object(members.into_bump_slice()),
        Json::Array(_) => Json::Array(items.into_bump_slice()),
        other => other,
    })
}

/// Returns the JSON pointer of a path: `/metadata/labels/kubernetes.io~1arch`, `/spec/volumes/0`.
pub fn pointer(path: &[PathElement<'_>]) -> String {
    let mut text = String::with_capacity(64);
    write_pointer(path, &mut text, |part, out| out.push_str(part));
    text
}

/// Appends a JSON pointer; `write` writes its parts.
fn write_pointer(path: &[PathElement<'_>], out: &mut String, write: impl Fn(&str, &mut String)) {
    for step in path {
        out.push('/');
        match step {
            PathElement::Member(key) => {
                let mut rest = *key;
                while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'~' | b'/')) {
                    write(&rest[..at], out);
                    out.push_str(if rest.as_bytes()[at] == b'~' { "~0" } else { "~1" });
                    rest = &rest[at + 1..];
                }
                write(rest, out);
            }
            PathElement::Element(index, _) => json::write_count(*index as u64, out),
        }
    }
}

/// Returns the path for messages, with keys instead of indexes: `spec.containers[main].env[HOME].value`.
pub fn display_path(path: &[PathElement<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            PathElement::Member(key) if key.contains(['.', '/']) => {
                let _ = write!(text, "[{key}]");
            }
            PathElement::Member(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            PathElement::Element(_, Some(key)) => {
                let _ = write!(text, "[{key}]");
            }
            PathElement::Element(index, None) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    text
}

/// Returns the path of a member below `path`, in the form of [`display_path`].
pub fn member_path(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) { format!("{path}[{key}]") } else { format!("{path}.{key}") }
}

/// Returns the operations as JSON text.
pub fn to_json(operations: &[Operation<'_>]) -> String {
    let mut text = String::with_capacity(operations.len() * 160 + 2);
    text.push('[');
    // Consecutive operations mostly have one parent, whose pointer is then copied from the text.
    let mut parent: (&[PathElement<'_>], Range<usize>) = (&[], 0..0);
    for (index, operation) in operations.iter().enumerate() {
        json::push_comma(index, &mut text);
        operation.write(&mut parent, &mut text);
    }
    text.push(']');
    text
}

impl<'a> Operation<'a> {
    fn write(&self, parent: &mut (&'a [PathElement<'a>], Range<usize>), out: &mut String) {
        out.push_str(match self.action {
            Action::Add => r#"{"op":"add","path":""#,
            Action::Replace => r#"{"op":"replace","path":""#,
            Action::Remove => r#"{"op":"remove","path":""#,
        });
        let (above, last) = self.path.split_at(self.path.len().saturating_sub(1));
        if above == parent.0 {
            out.extend_from_within(parent.1.clone());
        } else {
            let begin = out.len();
            write_pointer(above, out, json::write_inner);
            *parent = (above, begin..out.len());
        }
        write_pointer(last, out, json::write_inner);
        out.push('"');
        if self.action != Action::Remove {
            out.push_str(",\"value\":");
            self.value.write(out);
        }
        out.push('}');
    }
}

/// Serialization by way of the text, for use outside a request: only `serde_json`'s serializers support it.
impl Serialize for Operation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        self.write(&mut (&[], 0..0), &mut text);
        serde_json::from_str::<&RawValue>(&text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// Returns the type at a path; `None` if the schema has no such field.
pub fn type_at(path: &[PathElement<'_>]) -> Option<Type> {
    path.iter().try_fold(Type::Object(&POD), |kind, step| match (kind, step) {
        (Type::Object(object), PathElement::Member(key)) => Object::field(object, key).map(|field| field.kind),
        (Type::Map(element), PathElement::Member(_)) | (Type::List(element), PathElement::Element(..)) => {
            Some(*element)
        }
        (Type::Any, _) => Some(Type::Any),
        _ => None,
    })
}

/// Returns true if `path` is `outer` or below it.
pub fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
