//! The places where podgraft merges differently from Kubernetes on purpose, each as the change that makes the two
//! comparable: the input that the oracle gets instead, and the part of a result that does not count.

use podgraft::k8s::schema::{Field, ListType, POD, Type};
use serde_json::{Map, Value};

use crate::generate::key;

/// One documented difference.
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    /// changes what the oracle is given
    pub(crate) before: fn(&mut Value, &mut Value),
    /// changes what the oracle gave back
    pub(crate) after: fn(&mut Value),
    /// changes both results: what does not count
    pub(crate) both: fn(&mut Value),
}

const NOTHING: Choice = Choice { name: "", before: |_, _| {}, after: |_| {}, both: |_| {} };

/// In the order in which they are applied, one more at a time. What looks at keys comes before what changes them.
pub(crate) const CHOICES: &[Choice] = &[
    // Where there is nothing to patch, Kubernetes drops a directive that does not exist.
    Choice { name: "unknown directives are errors", before: make_unknown_an_error, ..NOTHING },
    // Layers' elements stand before the pod's own (containers after), and the pod's keep their order; Kubernetes lets
    // the patch's order win.
    Choice { name: "position", both: sort_keyed, ..NOTHING },
    // `labels: {}` over nothing is no change; what `$patch: delete` empties is gone.
    Choice { name: "empty is absent", both: drop_empty, ..NOTHING },
    // Kubernetes appends an element of a list as it is, nulls and directives included, and drops a map that is
    // replaced where none was.
    Choice { name: "nothing to take away", before: plain_over_nothing, ..NOTHING },
    // Of an env name that stands twice the last counts; Kubernetes patches the first.
    Choice { name: "env twice", before: last_of_env, both: fold_env, ..NOTHING },
    // Kubernetes merges `value` with `valueFrom`, and an emptyDir with a claim.
    Choice { name: "union parts", before: drop_union_parts, ..NOTHING },
    // What is taken out of a union is gone, as `null` says it. Kubernetes leaves an empty one, and an `emptyDir: {}`
    // where a patch took the emptyDir away is a volume that was not asked for.
    Choice { name: "a union part that is taken away", before: null_union_parts, ..NOTHING },
    // A value that the API server fills in anyway is no difference.
    Choice { name: "defaults", both: drop_defaults, ..NOTHING },
    // resources.claims is a map by name in the API's schema, and atomic in its patches.
    Choice { name: "claims by name", before: merge_claims, ..NOTHING },
    Choice { name: "concatenated", before: concatenate, both: drop_repeats, ..NOTHING },
    Choice { name: "tolerations are a set", before: add_tolerations, ..NOTHING },
    Choice { name: "required node affinity is ANDed", before: and_terms, ..NOTHING },
    // Kubernetes' keys are containerPort and topologyKey alone.
    Choice { name: "ports by protocol, constraints by action", before: join_keys, after: split_keys, ..NOTHING },
];

/// Every list of `value` that lies in an object of the schema, with its field; lists within first.
fn lists(value: &mut Value, kind: Type, visit: &mut dyn FnMut(&'static Field, &mut Vec<Value>)) {
    let (Type::Object(object), Value::Object(members)) = (kind, value) else { return };
    for (name, member) in members {
        let Some(field) = object.field(name) else { continue };
        match (field.kind, member) {
            (Type::List(element), Value::Array(items)) => {
                for item in items.iter_mut() {
                    lists(item, *element, visit);
                }
                visit(field, items);
            }
            (kind, member) => lists(member, kind, visit),
        }
    }
}

/// A change of a list of the pod together with the patch's list for it.
type Meeting<'m> = dyn FnMut(&'static Field, &mut Vec<Value>, &mut Vec<Value>) + 'm;

/// Every list that a patch has for one of the pod's.
fn meetings(pod: &mut Value, patch: &mut Value, kind: Type, visit: &mut Meeting<'_>) {
    let (Type::Object(object), Value::Object(own), Value::Object(members)) = (kind, pod, patch) else { return };
    if members.contains_key("$patch") {
        return;
    }
    for (name, member) in members {
        let (Some(field), Some(was)) = (object.field(name), own.get_mut(name)) else { continue };
        match (field.kind, was, member) {
            (Type::List(element), Value::Array(was), Value::Array(items)) => {
                if !replaces(items) && !field.list.keys().is_empty() {
                    let deleted: Vec<String> = deleted(items, field.list);
                    for item in items.iter_mut().filter(|item| item.get("$patch").is_none()) {
                        let name = key(item, field.list);
                        let stays = |own: &&mut Value| key(own, field.list) == name && !deleted.contains(&name);
                        if let Some(own) = was.iter_mut().rfind(stays) {
                            meetings(own, item, *element, visit);
                        }
                    }
                }
                visit(field, was, items);
            }
            (kind, was, member) => meetings(was, member, kind, visit),
        }
    }
}

fn deleted(items: &[Value], list: ListType) -> Vec<String> {
    items.iter().filter(|item| item["$patch"] == "delete").map(|item| key(item, list)).collect()
}

fn replaces(items: &[Value]) -> bool {
    items.iter().any(|item| item["$patch"] == "replace")
}

fn make_unknown_an_error(_: &mut Value, patch: &mut Value) {
    fn is_known(value: &Value) -> bool {
        match value {
            // The content of a deleted element does not matter.
            Value::Object(members) if members.get("$patch").is_some_and(|directive| directive == "delete") => true,
            Value::Object(members) => members.iter().all(|(name, value)| match (name.as_str(), value.as_str()) {
                ("$patch", directive) => matches!(directive, Some("delete" | "replace")),
                _ => is_known(value),
            }),
            Value::Array(items) => items.iter().all(is_known),
            _ => true,
        }
    }
    if !is_known(patch) {
        patch["$patch"] = Value::from("merge");
    }
}

fn sort_keyed(pod: &mut Value) {
    lists(pod, Type::Object(&POD), &mut |field, items| {
        if !field.list.keys().is_empty() {
            items.sort_by_key(|item| key(item, field.list));
        } else if field.name == "finalizers" {
            items.sort_by_key(Value::to_string);
        }
    });
}

fn drop_empty(pod: &mut Value) {
    fn is_empty(value: &Value) -> bool {
        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    }
    fn drop(value: &mut Value, kind: Type) {
        match (kind, value) {
            (Type::Object(object), Value::Object(members)) => {
                for (name, member) in members.iter_mut() {
                    let Some(field) = object.field(name) else { continue };
                    // A volume's `emptyDir: {}` says something.
                    if !matches!(field.list, ListType::MapAtomicItem(_)) {
                        drop(member, field.kind);
                    }
                }
                members.retain(|name, member| !is_empty(member) || object.field(name).is_none());
            }
            // Only what is merged by field: an element that is applied whole stays as it was written.
            (Type::List(element), Value::Array(items)) => items.iter_mut().for_each(|item| drop(item, *element)),
            _ => {}
        }
    }
    drop(pod, Type::Object(&POD));
}

/// Strips nulls and directives of whatever lies over nothing.
fn plain_over_nothing(pod: &mut Value, patch: &mut Value) {
    fn member(was: Option<&Value>, value: &mut Value, kind: Type, list: ListType) -> bool {
        match (kind, was, value) {
            (_, _, Value::Null) => was.is_some(),
            (Type::Object(_) | Type::Map(_), Some(Value::Object(_)), value) if value["$patch"].is_null() => {
                object(was, value, kind);
                true
            }
            (Type::Object(_) | Type::Map(_), Some(Value::Object(_)), value) => {
                let directive = value["$patch"].clone();
                plain(value);
                value["$patch"] = directive;
                true
            }
            (Type::List(element), Some(Value::Array(own)), Value::Array(items)) if !list.keys().is_empty() => {
                let gone = deleted(items, list);
                let all = replaces(items);
                for item in items.iter_mut().filter(|item| item.get("$patch").is_none()) {
                    let name = key(item, list);
                    let was = own.iter().rfind(|own| key(own, list) == name && !gone.contains(&name) && !all);
                    match was {
                        Some(_) if matches!(list, ListType::Map(_)) => object(was, item, *element),
                        // Its nulls say what is to go.
                        Some(_) => item.as_object_mut().into_iter().flatten().for_each(|(_, part)| _ = plain(part)),
                        _ => drop(plain(item)),
                    }
                }
                true
            }
            (_, _, value) => plain(value),
        }
    }
    fn object(was: Option<&Value>, value: &mut Value, kind: Type) {
        let Value::Object(members) = value else { return };
        members.retain(|name, value| {
            let was = was.and_then(|was| was.get(name));
            match kind {
                Type::Object(object) => {
                    let field = object.field(name);
                    let (kind, list) = field.map_or((Type::Any, ListType::Atomic), |field| (field.kind, field.list));
                    member(was, value, kind, list)
                }
                Type::Map(element) => member(was, value, *element, ListType::Atomic),
                _ => true,
            }
        });
    }
    object(Some(pod), patch, Type::Object(&POD));
}

/// The value without nulls and directives; false when nothing is left of it.
fn plain(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            if members.get("$patch").is_some_and(|directive| directive == "delete") {
                return false;
            }
            // What is neither is an error, and stays one.
            members.retain(|name, value| (name != "$patch" || value == "merge") && !value.is_null() && plain(value));
            true
        }
        Value::Array(items) => {
            items.retain_mut(|item| item.get("$patch").is_none() && plain(item));
            true
        }
        _ => true,
    }
}

fn drop_defaults(pod: &mut Value) {
    fn drop(value: &mut Value, kind: Type) {
        match (kind, value) {
            (Type::Object(object), Value::Object(members)) => {
                members.retain(|name, member| {
                    let Some(field) = object.field(name) else { return true };
                    drop(member, field.kind);
                    let arena = bumpalo::Bump::new();
                    let lifted = podgraft::json::Json::borrowed(member, &arena);
                    let empty = lifted.is_empty() && !matches!(field.kind, Type::Object(_));
                    !empty && !field.default.is_some_and(|default| default.is(lifted))
                });
            }
            (Type::List(element), Value::Array(items)) => items.iter_mut().for_each(|item| drop(item, *element)),
            _ => {}
        }
    }
    drop(pod, Type::Object(&POD));
}

fn keep_last(items: &mut Vec<Value>, list: ListType, which: impl Fn(&str) -> bool) {
    let names: Vec<String> = items.iter().map(|item| key(item, list)).collect();
    let mut index = 0;
    items.retain(|_| {
        index += 1;
        let name = &names[index - 1];
        !which(name) || !names[index..].contains(name)
    });
}

fn last_of_env(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, own, items| {
        if field.name == "env" {
            let applied: Vec<String> = items.iter().map(|item| key(item, field.list)).collect();
            keep_last(own, field.list, |name| applied.iter().any(|applied| applied == name));
        }
    });
}

fn fold_env(pod: &mut Value) {
    lists(pod, Type::Object(&POD), &mut |field, items| {
        if field.name == "env" {
            keep_last(items, field.list, |_| true);
        }
    });
}

fn drop_union_parts(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, own, items| {
        let ListType::MapAtomicItem(keys) = field.list else { return };
        let has_part = |item: &&Value| {
            item.get("$patch").is_none()
                && item.as_object().is_some_and(|item| {
                    let gives = |part: &Value| !part.is_null() && part.get("$patch").is_none_or(|it| it != "delete");
                    item.iter().any(|(name, part)| !keys.contains(&name.as_str()) && gives(part))
                })
        };
        let applied: Vec<String> = items.iter().filter(has_part).map(|item| key(item, field.list)).collect();
        for own in own.iter_mut().filter(|own| applied.contains(&key(own, field.list))) {
            let own = own.as_object_mut().expect("an element is an object");
            own.retain(|name, _| keys.contains(&name.as_str()));
        }
    });
}

fn null_union_parts(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, _, items| {
        if !matches!(field.list, ListType::MapAtomicItem(_)) {
            return;
        }
        for item in items.iter_mut().filter(|item| item.get("$patch").is_none()) {
            let parts = item.as_object_mut().into_iter().flatten().map(|(_, part)| part);
            for part in parts.filter(|part| part.get("$patch").is_some_and(|directive| directive == "delete")) {
                *part = Value::Null;
            }
        }
    });
}

fn merge_claims(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, own, items| {
        if field.name != "claims" {
            return;
        }
        let mut all = own.clone();
        for item in items.drain(..) {
            match all.iter_mut().find(|own| own["name"] == item["name"]) {
                Some(own) => {
                    for (name, part) in item.as_object().into_iter().flatten() {
                        own[name] = part.clone();
                    }
                    plain(own);
                }
                None => all.push(item),
            }
        }
        *items = all;
    });
}

fn concatenate(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, own, items| {
        if field.list == ListType::Prepend {
            items.retain(|item| !own.contains(item));
            items.extend(own.iter().cloned());
        }
    });
}

/// Removes repeated items of the lists that are concatenated.
fn drop_repeats(pod: &mut Value) {
    lists(pod, Type::Object(&POD), &mut |field, items| {
        if field.list == ListType::Prepend {
            let mut seen: Vec<Value> = Vec::new();
            items.retain(|item| {
                let new = !seen.contains(item);
                seen.push(item.clone());
                new
            });
        }
    });
}

/// The generated tolerations never are what a plugin adds; that case has a test of its own beside the merge.
fn add_tolerations(pod: &mut Value, patch: &mut Value) {
    let same = |a: &Value, b: &Value| {
        ["key", "value", "effect"].iter().all(|field| a[*field] == b[*field])
            && a["operator"].as_str().unwrap_or("Equal") == b["operator"].as_str().unwrap_or("Equal")
    };
    let add = |all: &mut Vec<Value>, item: Value| match all.iter_mut().find(|own| same(own, &item)) {
        Some(own) => *own = item,
        None => all.push(item),
    };
    let applied = patch["spec"]["tolerations"].as_array().cloned();
    if let (Some(applied), Some(own)) =
        (applied, pod["spec"].get("tolerations").and_then(Value::as_array).or(Some(&vec![])))
    {
        let mut all = own.clone();
        for item in applied {
            add(&mut all, item);
        }
        patch["spec"]["tolerations"] = Value::Array(all);
    }
}

fn and_terms(pod: &mut Value, patch: &mut Value) {
    meetings(pod, patch, Type::Object(&POD), &mut |field, own, items| {
        if field.list != ListType::NodeSelectorTerms || own.is_empty() {
            return;
        }
        let list = |term: &Value, name: &str| term[name].as_array().cloned().unwrap_or_default();
        let parts = ["matchExpressions", "matchFields"];
        let is_empty = |term: &Value| parts.iter().all(|part| term.get(*part).is_none());
        let wanted: Vec<Value> = items.drain(..).filter(|term| !is_empty(term)).collect();
        let demands = |own: &Value, wanted: &Value| {
            parts.iter().all(|part| list(wanted, part).iter().all(|expression| list(own, part).contains(expression)))
        };
        for own in own.iter() {
            if is_empty(own) || wanted.is_empty() || wanted.iter().any(|wanted| demands(own, wanted)) {
                items.push(own.clone());
                continue;
            }
            for wanted in &wanted {
                let mut both = own.clone();
                for part in parts {
                    let mut all = list(own, part);
                    let more: Vec<Value> = list(wanted, part).into_iter().filter(|e| !all.contains(e)).collect();
                    if !more.is_empty() {
                        all.extend(more);
                        both[part] = Value::Array(all);
                    }
                }
                items.push(both);
            }
        }
    });
}

/// Puts both keys of an element into the one that Kubernetes looks at.
fn join_keys(pod: &mut Value, patch: &mut Value) {
    for document in [pod, patch] {
        lists(document, Type::Object(&POD), &mut |field, items| {
            for item in items.iter_mut().filter(|_| field.list.keys().len() > 1) {
                if item.get("containerPort").is_some() {
                    let udp = u64::from(item["protocol"] == "UDP");
                    item["containerPort"] = Value::from(item["containerPort"].as_u64().unwrap_or_default() * 2 + udp);
                } else if item.get("topologyKey").is_some() {
                    item["topologyKey"] = Value::from(key(item, field.list));
                }
            }
        });
    }
}

fn split_keys(pod: &mut Value) {
    lists(pod, Type::Object(&POD), &mut |field, items| {
        for item in items.iter_mut().filter(|_| field.list.keys().len() > 1) {
            if let Some(port) = item["containerPort"].as_u64() {
                item["containerPort"] = Value::from(port / 2);
            } else if let Some((first, _)) = item["topologyKey"].as_str().and_then(|text| text.split_once('|')) {
                item["topologyKey"] = Value::from(first.to_owned());
            }
        }
    });
}
