//! Removes resource requests that were copies of a changed limit.

use super::{Normalizer, entries_for};
use crate::json::Json;
use crate::k8s::patch::{PathElement, display_path};
use crate::k8s::validation::is_extended;

impl<'a> Normalizer<'_, 'a> {
    /// Removes the requests that the API server copied from limits which have changed.
    pub(super) fn requests(&mut self, list: &'static str, before: Json<'a>, after: Json<'a>) -> Json<'a> {
        let name = after.get("name").and_then(|name| name.as_str());
        let stale = self.stale_requests(list, name, before, after);
        let Some(resources) = after.get("resources").filter(|_| !stale.is_empty()) else { return after };
        self.removed.extend(stale.iter().map(|resource| display_path(&request_path(list, name, resource))));
        let requests = resources.get("requests").unwrap_or(Json::Null);
        let requests = stale.iter().fold(requests, |requests, resource| requests.without(resource, self.arena));
        after.with("resources", resources.with("requests", requests, self.arena), self.arena)
    }

    /// Returns the resources whose request is the API server's copy of a limit that has changed, or was set by a
    /// plugin (a default of `LimitRanger`'s) and stands beside a changed limit. A GPU's request must equal its limit,
    /// and no limit may be below its request. The API server copies the new limit.
    fn stale_requests(
        &self,
        list: &'static str,
        name: Option<&str>,
        before: Json<'a>,
        after: Json<'a>,
    ) -> Vec<&'a str> {
        let limits = |container: Json<'a>| container.get_path(&["resources", "limits"]).unwrap_or(Json::Object(&[]));
        let request = |container: Json<'a>, resource: &str| container.get_path(&["resources", "requests", resource]);
        let changed = limits(after).members().iter().filter(|(resource, limit)| {
            let old_limit = limits(before).get(resource);
            let (old, new) = (request(before, resource), request(after, resource));
            let copied = old_limit.is_some() && old == old_limit;
            let submitted = || self.managed_fields.set_by_submitter(&request_path(list, name, resource));
            old_limit != Some(*limit) && new.is_some() && new == old && (copied || !submitted())
        });
        // A resource that cannot be overcommitted has no request without a limit: it is removed with the limit.
        let removed = limits(before).members().iter().filter(|(resource, old_limit)| {
            let (old, new) = (request(before, resource), request(after, resource));
            is_extended(resource) && limits(after).get(resource).is_none() && new == Some(*old_limit) && new == old
        });
        // A request that a layer or module set stays, whatever it equals.
        let from_fragment = |resource: &str| {
            let sets_request = |entry: Json<'a>| entry.get_path(&["resources", "requests", resource]).is_some();
            self.fragments
                .iter()
                .any(|(_, fragment)| entries_for(*fragment, list, name, self.task.primary).any(sets_request))
        };
        changed.chain(removed).map(|(resource, _)| *resource).filter(|resource| !from_fragment(resource)).collect()
    }
}

fn request_path<'s>(list: &'s str, container: Option<&'s str>, resource: &'s str) -> [PathElement<'s>; 6] {
    [
        PathElement::Member("spec"),
        PathElement::Member(list),
        PathElement::Element(0, container),
        PathElement::Member("resources"),
        PathElement::Member("requests"),
        PathElement::Member(resource),
    ]
}
