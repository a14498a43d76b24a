//! The pod as a hook may see it, and the changes that a hook made to it.
//!
//! ClearML gives a hook the bare template, before the agent and the API server add their parts. The view restores it:
//! no token volume, no managedFields, no last-applied copy, no status. A marker replaces the agent's bootstrap and its
//! credentials, so that printing the template leaks nothing.

use std::collections::HashMap;

use bumpalo::Bump;

use crate::json::{Json, Member, fast_eq};
use crate::k8s::labels::{LAST_APPLIED, TOKEN_VOLUME};
use crate::k8s::patch::key_text;
use crate::k8s::schema::{ListType, POD, Type};
use crate::merge::implies;
use crate::model::task::Task;

/// The marker in place of a value that a module may neither read nor write.
pub const OPAQUE: &str = "podgraft.io:opaque";

/// Returns the view of `pod`.
pub fn view<'a>(pod: Json<'a>, task: &Task<'_, '_>, arena: &'a Bump) -> Json<'a> {
    let mut view = pod.without("status", arena);
    if let Some(metadata) = pod.get("metadata") {
        let mut bare = metadata.without("managedFields", arena);
        if let Some(annotations) = metadata.get("annotations") {
            bare = bare.with("annotations", annotations.without(LAST_APPLIED, arena), arena);
        }
        view = view.with("metadata", bare, arena);
    }
    let Some(spec) = pod.get("spec") else { return view };
    let mut bare = without_token(spec, "volumes", arena);
    for list in ["containers", "initContainers"] {
        if let Some(containers) = spec.get(list) {
            let views = containers.items().iter().map(|container| container_view(*container, task, arena));
            bare = bare.with(list, Json::array(views, arena), arena);
        }
    }
    view.with("spec", bare, arena)
}

fn container_view<'a>(container: Json<'a>, task: &Task<'_, '_>, arena: &'a Bump) -> Json<'a> {
    let mut view = without_token(container, "volumeMounts", arena);
    // of every container: a pod can name another container than the bootstrap's as its primary one
    if container.get("args").is_some() {
        view = view.with("args", Json::Array(arena.alloc([Json::Str(OPAQUE)])), arena);
    }
    let secret = |entry: &Json<'a>| {
        let name = entry.get("name").and_then(|name| name.as_str()).unwrap_or("");
        entry.get("value").is_some() && task.secret_env().contains(&name)
    };
    match container.get("env") {
        Some(env) if env.items().iter().any(secret) => {
            let masked = env
                .items()
                .iter()
                .map(|entry| if secret(entry) { entry.with("value", Json::Str(OPAQUE), arena) } else { *entry });
            view.with("env", Json::array(masked, arena), arena)
        }
        _ => view,
    }
}

fn without_token<'a>(object: Json<'a>, list: &'a str, arena: &'a Bump) -> Json<'a> {
    let is_token = |item: &Json<'a>| item.text("name").starts_with(TOKEN_VOLUME);
    match object.get(list) {
        Some(items) if items.items().iter().any(is_token) => {
            object.with(list, Json::array(items.items().iter().copied().filter(|item| !is_token(item)), arena), arena)
        }
        _ => object,
    }
}

/// Looks members up, fastest in an order close to their own.
struct Finder<'a> {
    members: &'a [Member<'a>],
    next: usize,
}

impl<'a> Finder<'a> {
    fn new(object: Json<'a>) -> Self {
        Self { members: object.members(), next: 0 }
    }

    fn find(&mut self, key: &str) -> Option<Json<'a>> {
        let at = |index: &usize| self.members.get(*index).is_some_and(|(name, _)| *name == key);
        let index = Some(self.next).filter(at).or_else(|| self.members.iter().rposition(|(name, _)| *name == key))?;
        self.next = index + 1;
        Some(self.members[index].1)
    }
}

/// Returns the fragment, removals included, that turns `before` into `after`.
pub fn changes<'a>(before: Json<'a>, after: Json<'a>, arena: &'a Bump) -> Json<'a> {
    object_changes(before, after, Type::Object(&POD), arena).unwrap_or(Json::Object(&[]))
}

fn object_changes<'a>(before: Json<'a>, after: Json<'a>, kind: Type, arena: &'a Bump) -> Option<Json<'a>> {
    let mut old = Finder::new(before);
    let mut new = Finder::new(after);
    let removed: Vec<Member<'a>> =
        before.members().iter().filter(|(key, _)| new.find(key).is_none()).map(|(key, _)| (*key, Json::Null)).collect();
    let kept = after.members().iter().filter_map(|(key, value)| {
        let change = match old.find(key) {
            Some(was) => value_changes(was, *value, key, kind, arena)?,
            None => *value,
        };
        Some((*key, change))
    });
    let members: Vec<Member<'a>> = removed.into_iter().chain(kept).collect();
    (!members.is_empty()).then(|| Json::object(members.into_iter(), arena))
}

fn value_changes<'a>(before: Json<'a>, after: Json<'a>, key: &str, kind: Type, arena: &'a Bump) -> Option<Json<'a>> {
    let (kind, list) = match kind {
        Type::Object(object) => {
            object.field(key).map_or((Type::Any, ListType::Atomic), |field| (field.kind, field.list))
        }
        Type::Map(element) => (*element, ListType::Atomic),
        _ => (Type::Any, ListType::Atomic),
    };
    match (before, after) {
        // by its members, each of which is compared once
        (Json::Object(_), Json::Object(_)) => object_changes(before, after, kind, arena),
        (a, b) if a == b => None,
        (Json::Array(a), Json::Array(b)) => match (list, kind) {
            (ListType::Map(_) | ListType::MapAtomicItem(_), Type::List(element)) => {
                keyed_changes(a, b, list, *element, arena)
            }
            (ListType::Set | ListType::Prepend, _) if a.iter().all(|item| b.contains(item)) => {
                Some(Json::array(b.iter().copied().filter(|item| !a.contains(item)), arena))
                    .filter(|new| !new.is_empty())
            }
            (ListType::Set | ListType::Prepend, _) => {
                Some(Json::array([directive("replace", arena)].into_iter().chain(b.iter().copied()), arena))
            }
            (ListType::NodeSelectorTerms, _) if !applies_as_written(a, b) => {
                Some(Json::array([directive("replace", arena)].into_iter().chain(b.iter().copied()), arena))
            }
            _ => Some(after),
        },
        _ => Some(after),
    }
}

/// Returns true if applying the node selector terms `after` to `before` gives `after`. Applied terms are required in
/// addition to the existing ones, so only terms that imply these come out as written. Others must be replaced as a
/// whole.
fn applies_as_written(before: &[Json<'_>], after: &[Json<'_>]) -> bool {
    match (before, after) {
        ([], _) => true,
        ([was], [now]) => !was.is_empty() && implies(now, was),
        _ => false,
    }
}

fn keyed_changes<'a>(
    before: &'a [Json<'a>],
    after: &'a [Json<'a>],
    list: ListType,
    element: Type,
    arena: &'a Bump,
) -> Option<Json<'a>> {
    // of a key that occurs twice, before or after, the last element counts
    let by_key = |items: &'a [Json<'a>]| -> HashMap<Option<&'a str>, Json<'a>> {
        items.iter().map(|item| (key_text(item, list, arena), *item)).collect()
    };
    let (old, new) = (by_key(before), by_key(after));
    let is_last = |item: &&Json<'a>| {
        let key = key_text(item, list, arena);
        key.is_none() || new.get(&key).is_some_and(|last| last.ptr_eq(item))
    };
    let changed =
        after.iter().filter(is_last).filter_map(|item| match old.get(&key_text(item, list, arena)).copied() {
            None => Some(*item),
            Some(was) if was == *item => None,
            // An element of nothing but its key had its other members removed, and needs the nulls below.
            Some(_) if matches!(list, ListType::MapAtomicItem(keys) if item.members().len() > keys.len()) => {
                Some(*item)
            }
            Some(was) => {
                let change = object_changes(was, *item, element, arena)?;
                Some(Json::object(keys_of(item, list).chain(change.members().iter().copied()), arena))
            }
        });
    let removed = before.iter().filter(|item| !new.contains_key(&key_text(item, list, arena))).map(|item| {
        Json::object(keys_of(item, list).chain(directive("delete", arena).members().iter().copied()), arena)
    });
    let elements: Vec<Json<'a>> = changed.chain(removed).collect();
    (!elements.is_empty()).then(|| Json::array(elements.into_iter(), arena))
}

fn keys_of<'a>(item: &Json<'a>, list: ListType) -> impl Iterator<Item = Member<'a>> {
    let item = *item;
    list.keys().iter().filter_map(move |key| Some((*key, item.get(key)?)))
}

fn directive<'a>(what: &'static str, arena: &'a Bump) -> Json<'a> {
    Json::Object(arena.alloc([("$patch", Json::Str(what))]))
}

/// Returns true if a fragment holds the marker.
pub fn holds_opaque(value: Json<'_>) -> bool {
    match value {
        Json::Str(text) => text.contains(OPAQUE),
        Json::Array(items) => items.iter().any(|item| holds_opaque(*item)),
        Json::Object(members) => members.iter().any(|(_, member)| holds_opaque(*member)),
        _ => false,
    }
}

/// Names of one object that are compared with each other; more are sorted.
const MAX_COMPARED_NAMES: usize = 32;

/// Returns a member's name that occurs twice in one object: valid JSON, but readers disagree on its meaning.
pub fn repeated_name(value: Json<'_>) -> Option<&str> {
    match value {
        Json::Array(items) => items.iter().find_map(|item| repeated_name(*item)),
        Json::Object(members) => {
            let repeated = if members.len() <= MAX_COMPARED_NAMES {
                let is_repeated = |index: &usize| {
                    let name = members[*index].0;
                    members[..*index].iter().any(|(other, _)| fast_eq(other, name))
                };
                (1..members.len()).find(is_repeated).map(|index| members[index].0)
            } else {
                let mut names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
                names.sort_unstable();
                names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
            };
            repeated.or_else(|| members.iter().find_map(|(_, member)| repeated_name(*member)))
        }
        _ => None,
    }
}
