//! Fields that depend on others and would be refused, or mean something else, if they stayed as they were.

use bumpalo::Bump;

use crate::json::Json;
use crate::mutate::By;
use crate::owners::Owners;
use crate::patch::{Step, readable};
use crate::snapshot::PRIMARY;

/// The pod with its dependent fields in order, and the readable paths that were taken away for it.
pub fn normalize<'a>(
    original: Json<'a>,
    pod: Json<'a>,
    fragments: &[(By<'a>, Json<'a>)],
    primary: Option<&str>,
    owners: &Owners<'a>,
    arena: &'a Bump,
) -> (Json<'a>, Vec<String>) {
    let mut removed = Vec::new();
    let Some(spec) = pod.get("spec") else { return (pod, removed) };
    let mut result = spec;
    for list in ["containers", "initContainers"] {
        let (Some(before), Some(after)) = (original.at(&["spec", list]), spec.get(list)) else { continue };
        if before.same(&after) {
            continue;
        }
        let containers = after.items().iter().map(|container| {
            let name = container.get("name");
            let was = before.items().iter().find(|was| was.get("name") == name);
            match was {
                Some(was) if !was.same(container) => {
                    let asked = |resource: &str| asks_for_request(fragments, list, name, primary, resource);
                    let wrote = |resource: &str| {
                        let name = name.and_then(|name| name.as_str());
                        owners.wrote(&request_steps(list, name, resource))
                    };
                    let stale = stale_requests(*was, *container, asked, wrote);
                    removed.extend(stale.iter().map(|resource| request_path(list, name, resource)));
                    without_requests(*container, &stale, arena)
                }
                _ => *container,
            }
        });
        let containers: Vec<Json<'a>> = containers.collect();
        if containers.iter().zip(after.items()).any(|(now, then)| !now.same(then)) {
            result = result.with(list, Json::array(containers.into_iter(), arena), arena);
        }
    }
    (if result.same(&spec) { pod } else { pod.with("spec", result, arena) }, removed)
}

/// The resources whose request was the API server's copy of a limit that is another one now: a GPU's request
/// must equal its limit, and a lowered limit may not stay below the request. The API server copies again.
///
/// The same goes for a request that a plugin put there (a default of `LimitRanger`'s) beside a limit that is new.
fn stale_requests<'a>(
    was: Json<'a>,
    now: Json<'a>,
    asked: impl Fn(&str) -> bool,
    wrote: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    let limits = |container: Json<'a>| container.at(&["resources", "limits"]).unwrap_or(Json::Object(&[]));
    let request = |container: Json<'a>, resource: &str| container.at(&["resources", "requests", resource]);
    let changed = limits(now).members().iter().filter(|(resource, limit)| {
        let old = limits(was).get(resource);
        let (had, has) = (request(was, resource), request(now, resource));
        let copied = old.is_some() && had == old;
        old != Some(*limit) && has.is_some() && has == had && (copied || !wrote(resource))
    });
    changed.map(|(resource, _)| *resource).filter(|resource| !asked(resource)).collect()
}

/// Whether a layer wrote this request itself; then it stays whatever it equals.
fn asks_for_request(
    fragments: &[(By<'_>, Json<'_>)],
    list: &str,
    name: Option<Json<'_>>,
    primary: Option<&str>,
    resource: &str,
) -> bool {
    fragments.iter().any(|(_, fragment)| {
        let entries = fragment.at(&["spec", list]).unwrap_or(Json::Array(&[]));
        entries.items().iter().any(|entry| {
            let entry_name = entry.get("name").and_then(|name| name.as_str());
            let named = if entry_name == Some(PRIMARY) { primary } else { entry_name };
            named == name.and_then(|name| name.as_str()) && entry.at(&["resources", "requests", resource]).is_some()
        })
    })
}

fn without_requests<'a>(container: Json<'a>, stale: &[&'a str], arena: &'a Bump) -> Json<'a> {
    let Some(resources) = container.get("resources").filter(|_| !stale.is_empty()) else { return container };
    let requests = stale
        .iter()
        .fold(resources.get("requests").unwrap_or(Json::Null), |requests, name| requests.without(name, arena));
    container.with("resources", resources.with("requests", requests, arena), arena)
}

fn request_path(list: &str, name: Option<Json<'_>>, resource: &str) -> String {
    readable(&request_steps(list, name.and_then(|name| name.as_str()), resource))
}

fn request_steps<'s>(list: &'s str, container: Option<&'s str>, resource: &'s str) -> [Step<'s>; 6] {
    [
        Step::Member("spec"),
        Step::Member(list),
        Step::Element(0, container),
        Step::Member("resources"),
        Step::Member("requests"),
        Step::Member(resource),
    ]
}
