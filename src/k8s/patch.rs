//! RFC 6902 operations: made only by comparing two trees, and applied to themselves before they leave.
//!
//! The comparison knows the schema: elements of a keyed list are matched by their key, so that an element
//! inserted in front is one `add` and not a rewrite of everything behind it.

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
    /// what it does
    pub action: Action,
    /// to what
    pub path: &'a [PathElement<'a>],
    /// the new value; of a removal `null`
    pub value: Json<'a>,
}

/// The three kinds of operation that podgraft uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// a member that was not there, or an element put before the one that stands there
    Add,
    /// a new value for what is there
    Replace,
    /// taken away
    Remove,
}

/// One step down into a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PathElement<'a> {
    /// into an object
    Member(&'a str),
    /// into a list: the place, and what the element is called if the list is keyed
    Element(usize, Option<&'a str>),
}

/// The operations that turn the pod `before` into `after`.
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

    fn at(&mut self, step: PathElement<'a>, act: impl FnOnce(&mut Self)) {
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
        // Merging keeps the order of members, so that what was first is still before what was second: with the
        // cursor the walk is linear where nothing is gone.
        let mut next = 0;
        for (key, _) in before {
            if after.get(next).is_some_and(|(name, _)| name == key) {
                next += 1;
            } else if Json::Object(after).get(key).is_none() {
                self.at(PathElement::Member(key), |differ| differ.emit(Action::Remove, Json::Null));
            }
        }
        for (index, (key, value)) in after.iter().enumerate() {
            let was = match before.get(index) {
                Some((name, was)) if name == key => Some(*was),
                _ => Json::Object(before).get(key),
            };
            self.at(PathElement::Member(key), |differ| match (was, object.and_then(|object| object.field(key))) {
                (None, _) => differ.emit(Action::Add, *value),
                (Some(Json::Array(a)), Some(field)) if matches!(value, Json::Array(_)) => {
                    if !Json::Array(a).ptr_eq(value) {
                        differ.array(a, value.items(), field.kind, field.list);
                    }
                }
                (Some(was), field) => differ.value(was, *value, below(kind, field.map(|field| field.kind))),
            });
        }
    }

    fn array(&mut self, before: &'a [Json<'a>], after: &'a [Json<'a>], kind: Type, list: ListType) {
        let element = if let Type::List(element) = kind { *element } else { Type::Any };
        // What layers add stands before the pod's own, which then ends both lists and needs no comparing.
        let whole = Json::Array(after);
        let shared = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a.ptr_eq(b)).count();
        let (before, after) = (&before[..before.len() - shared], &after[..after.len() - shared]);
        let first = before.iter().zip(after).take_while(|(a, b)| a.ptr_eq(b)).count();
        let (before, after) = (&before[first..], &after[first..]);
        let was = self.names(before, list);
        let will = self.names(after, list);
        let Some(matches) = matched(&was, &will) else {
            if Json::Array(before) != Json::Array(after) {
                self.emit(Action::Replace, whole);
            }
            return;
        };
        let mut kept = vec![false; before.len()];
        matches.iter().flatten().for_each(|place| kept[*place] = true);
        // An atomic list is one value (a command's words): it changes, and nothing is removed from it.
        if list == ListType::Atomic && kept.contains(&false) {
            self.emit(Action::Replace, whole);
            return;
        }
        for index in (0..before.len()).rev() {
            if !kept[index] {
                let step = PathElement::Element(first + index, was[index].label());
                self.at(step, |differ| differ.emit(Action::Remove, Json::Null));
            }
        }
        for (index, (value, old)) in after.iter().zip(&matches).enumerate() {
            self.at(PathElement::Element(first + index, will[index].label()), |differ| match old {
                None => differ.emit(Action::Add, *value),
                Some(old) => differ.element(before[*old], *value, element, list),
            });
        }
    }

    /// A union's parts belong together: when one goes, or a field within one, the element is replaced.
    fn element(&mut self, before: Json<'a>, after: Json<'a>, kind: Type, list: ListType) {
        if matches!(list, ListType::MapAtomicItem(_)) && loses_a_part(before, after) {
            self.emit(Action::Replace, after);
        } else {
            self.value(before, after, kind);
        }
    }

    /// What tells the elements of a list apart.
    fn names(&self, items: &'a [Json<'a>], list: ListType) -> ArenaVec<'a, Name<'a>> {
        let mut names: ArenaVec<'a, Name<'a>> = ArenaVec::with_capacity_in(items.len(), self.arena);
        names.extend(items.iter().map(|item| match key_text(item, list, self.arena) {
            Some(key) => Name { what: ElementKey::Key(key), nth: 0 },
            None => Name { what: ElementKey::Value(*item), nth: 0 },
        }));
        number_repeats(&mut names);
        names
    }
}

/// An element's name: its key, or in a list without keys the element itself. The same name may stand several
/// times (env may), and the last is the one that counts in Kubernetes: it is number 0.
#[derive(Clone, Copy, PartialEq)]
struct Name<'a> {
    what: ElementKey<'a>,
    nth: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum ElementKey<'a> {
    Key(&'a str),
    Value(Json<'a>),
}

impl<'a> Name<'a> {
    fn label(&self) -> Option<&'a str> {
        match self.what {
            ElementKey::Key(key) => Some(key),
            ElementKey::Value(_) => None,
        }
    }
}

/// Beyond this many elements, sorting is cheaper than comparing each with each: a pod with 2,000 env entries would
/// take two million comparisons.
const MANY: usize = 32;

/// Whether an object has something, at any depth, that another has not.
fn loses_a_part(before: Json<'_>, after: Json<'_>) -> bool {
    let is_gone = |now: Option<Json<'_>>, was: Json<'_>| now.is_none_or(|now| loses_a_part(was, now));
    let objects = matches!((before, after), (Json::Object(_), Json::Object(_)));
    objects && !before.ptr_eq(&after) && before.members().iter().any(|(key, was)| is_gone(after.get(key), *was))
}

fn number_repeats(names: &mut [Name<'_>]) {
    if names.len() > MANY && names.iter().all(|name| matches!(name.what, ElementKey::Key(_))) {
        let mut seen: HashMap<&str, usize> = HashMap::with_capacity(names.len());
        for name in names.iter_mut().rev() {
            let times = seen.entry(name.label().unwrap_or_default()).or_default();
            name.nth = *times;
            *times += 1;
        }
        return;
    }
    for index in (0..names.len()).rev() {
        let what = names[index].what;
        names[index].nth = names[index + 1..].iter().filter(|later| later.what == what).count();
    }
}

/// For each element after, the place it had before; `None` as a whole when what was kept changed its order
/// (then the list is replaced: moving elements one by one would say more than the whole list does).
fn matched(was: &[Name<'_>], will: &[Name<'_>]) -> Option<Vec<Option<usize>>> {
    let places: Option<HashMap<(&str, usize), usize>> = (was.len() > MANY)
        .then(|| was.iter().enumerate().map(|(place, name)| Some(((name.label()?, name.nth), place))).collect())
        .flatten();
    let find = |name: &Name<'_>| match (&places, name.label()) {
        (Some(places), Some(key)) => places.get(&(key, name.nth)).copied(),
        _ => was.iter().position(|old| old == name),
    };
    let mut next = 0;
    will.iter()
        .map(|name| {
            // Kept elements keep their order nearly always, so the next one is tried first.
            let place = if was.get(next) == Some(name) { Some(next) } else { find(name) };
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

/// The type below a member of `kind`.
fn below(kind: Type, field: Option<Type>) -> Type {
    match kind {
        Type::Map(element) => *element,
        _ => field.unwrap_or(Type::Any),
    }
}

/// Applies `operations` to `document` as the API server will.
///
/// # Errors
/// Names the operation whose path does not exist.
pub fn apply<'a>(document: Json<'a>, operations: &[Operation<'a>], arena: &'a Bump) -> Result<Json<'a>, String> {
    applied(document, operations, 0, arena)
        .map_err(|operation| format!("{:?} {} does not apply", operation.action, pointer(operation.path)))
}

/// Applies operations that all lead to or through `at`, which lies `depth` steps down. Those that follow each other
/// into the same member or element go there together: so each object and list is copied once, not once an operation.
fn applied<'a, 'o>(
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
        let goes_on =
            |operation: &&Operation<'a>| operation.path.len() > depth + 1 && operation.path.get(depth) == Some(step);
        let (together, later) = rest.split_at(rest.iter().take_while(goes_on).count().max(1));
        rest = later;
        let below = |value: Json<'a>| match first.path.len() - depth {
            1 => Ok(first.value),
            _ => applied(value, together, depth + 1, arena),
        };
        let act = if first.path.len() == depth + 1 { first.action } else { Action::Replace };
        match (at, step) {
            (Json::Object(_), PathElement::Member(key)) => {
                match (members.iter().rposition(|(name, _)| name == key), act) {
                    (None, Action::Add) => members.push((key, first.value)),
                    (Some(_), Action::Remove) => members.retain(|(name, _)| name != key),
                    (Some(place), _) => members[place].1 = below(members[place].1)?,
                    (None, _) => return Err(first),
                }
            }
            (Json::Array(_), PathElement::Element(index, _)) => match act {
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

/// The JSON pointer of a path: `/metadata/labels/kubernetes.io~1arch`, `/spec/volumes/0`.
pub fn pointer(path: &[PathElement<'_>]) -> String {
    let mut text = String::with_capacity(64);
    write_pointer(path, &mut text, |part, out| out.push_str(part));
    text
}

/// Appends a pointer whose parts `write` writes.
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

/// The path as people read it, with keys instead of places: `spec.containers[main].env[HOME].value`.
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

/// The path of a member below `path`, as [`readable`] writes it.
pub fn member_path(path: &str, key: &str) -> String {
    if key.contains(['.', '/']) { format!("{path}[{key}]") } else { format!("{path}.{key}") }
}

/// The operations as JSON text.
pub fn to_json(operations: &[Operation<'_>]) -> String {
    let mut text = String::with_capacity(operations.len() * 160 + 2);
    text.push('[');
    // What follows each other lies side by side nearly always: where the pointer to what holds it stands already.
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

/// By its text, for what is off the path of a request: only `serde_json`'s serialisers understand that.
impl Serialize for Operation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        self.write(&mut (&[], 0..0), &mut text);
        serde_json::from_str::<&RawValue>(&text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// The type that a path leads to; `None` where the schema has no such field.
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

/// Whether `path` is `outer` or something in it.
pub fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests;
