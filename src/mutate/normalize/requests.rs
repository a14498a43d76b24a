//! Requests that were copies of limits.

use super::{Normalizer, entry_of};
use crate::json::Json;
use crate::k8s::patch::{PathElement, display_path};
use crate::k8s::validation::is_extended;

impl<'a> Normalizer<'_, 'a> {
    /// Takes away the requests that the API server copied from limits which are others now.
    pub(super) fn requests(&mut self, list: &'static str, was: Json<'a>, now: Json<'a>) -> Json<'a> {
        let name = now.get("name").and_then(|name| name.as_str());
        let stale = self.stale_requests(list, name, was, now);
        let Some(resources) = now.get("resources").filter(|_| !stale.is_empty()) else { return now };
        self.removed.extend(stale.iter().map(|resource| display_path(&steps(list, name, resource))));
        let requests = resources.get("requests").unwrap_or(Json::Null);
        let requests = stale.iter().fold(requests, |requests, resource| requests.without(resource, self.arena));
        now.with("resources", resources.with("requests", requests, self.arena), self.arena)
    }

    /// The resources whose request was the API server's copy of a limit that is another one now: a GPU's request
    /// must equal its limit, and a lowered limit may not stay below the request. The API server copies again.
    ///
    /// The same goes for a request that a plugin put there (a default of `LimitRanger`'s) beside a limit that is new.
    fn stale_requests(&self, list: &'static str, name: Option<&str>, was: Json<'a>, now: Json<'a>) -> Vec<&'a str> {
        let limits = |container: Json<'a>| container.get_path(&["resources", "limits"]).unwrap_or(Json::Object(&[]));
        let request = |container: Json<'a>, resource: &str| container.get_path(&["resources", "requests", resource]);
        let changed = limits(now).members().iter().filter(|(resource, limit)| {
            let old = limits(was).get(resource);
            let (had, has) = (request(was, resource), request(now, resource));
            let copied = old.is_some() && had == old;
            let wrote = || self.owners.set_by_submitter(&steps(list, name, resource));
            old != Some(*limit) && has.is_some() && has == had && (copied || !wrote())
        });
        // Of what cannot be overcommitted a request without its limit is none: it goes with the limit.
        let gone = limits(was).members().iter().filter(|(resource, old)| {
            let (had, has) = (request(was, resource), request(now, resource));
            is_extended(resource) && limits(now).get(resource).is_none() && has == Some(*old) && has == had
        });
        // What a layer wrote itself stays, whatever it equals.
        let asked = |resource: &str| {
            let asks = |entry: Json<'a>| entry.get_path(&["resources", "requests", resource]).is_some();
            self.laid.iter().any(|(_, fragment)| entry_of(*fragment, list, name, self.task.primary).any(asks))
        };
        changed.chain(gone).map(|(resource, _)| *resource).filter(|resource| !asked(resource)).collect()
    }
}

fn steps<'s>(list: &'s str, container: Option<&'s str>, resource: &'s str) -> [PathElement<'s>; 6] {
    [
        PathElement::Member("spec"),
        PathElement::Member(list),
        PathElement::Element(0, container),
        PathElement::Member("resources"),
        PathElement::Member("requests"),
        PathElement::Member(resource),
    ]
}
