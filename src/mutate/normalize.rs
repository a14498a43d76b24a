//! Normalizes fields that depend on changed ones: unchanged they would be invalid or mean something else.

mod env;
mod requests;
mod service_account;

use bumpalo::Bump;
use serde_json::Number;

use crate::json::Json;
use crate::k8s::defaults::default_policy;
use crate::k8s::labels::PRIMARY;
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::quantity;
use crate::k8s::schema::Type;
use crate::model::task::Task;
use crate::mutate::provenance::FragmentSource;

/// Returns the pod with its dependent fields normalized, and the readable paths that this removed. `fragments` are
/// those of the layers and modules: a value that one of them sets stays.
pub fn normalize<'a>(
    original: Json<'a>,
    pod: Json<'a>,
    fragments: &[(FragmentSource<'a>, Json<'a>)],
    task: &Task<'a, '_>,
    managed_fields: &ManagedFields<'a>,
    arena: &'a Bump,
) -> (Json<'a>, Vec<String>) {
    let mut normalizer = Normalizer { original, pod, fragments, task, managed_fields, arena, removed: Vec::new() };
    normalizer.label();
    if pod.get("spec").is_some() {
        normalizer.priority();
        normalizer.runtime_class();
        normalizer.service_account();
        for list in ["containers", "initContainers"] {
            normalizer.each_container(list, |normalizer, container| normalizer.container(list, container));
        }
    }
    (normalizer.pod, normalizer.removed)
}

struct Normalizer<'n, 'a> {
    original: Json<'a>,
    pod: Json<'a>,
    fragments: &'n [(FragmentSource<'a>, Json<'a>)],
    task: &'n Task<'a, 'n>,
    managed_fields: &'n ManagedFields<'a>,
    arena: &'a Bump,
    removed: Vec<String>,
}

impl<'a> Normalizer<'_, 'a> {
    /// Repairs the queue's label if the agent wrote an invalid one.
    fn label(&mut self) {
        let Some((key, repaired)) = self.task.repaired_label() else { return };
        let metadata = self.pod.get("metadata").unwrap_or(Json::Null);
        let labels = metadata.get("labels").unwrap_or(Json::Null);
        let labels = labels.with(key, Json::Str(self.arena.alloc_str(&repaired)), self.arena);
        self.pod = self.pod.with("metadata", metadata.with("labels", labels, self.arena), self.arena);
    }

    /// Removes the priority and preemption policy of the old priority class: the API server denies them beside another
    /// class. If the class stays they stay too, because the API server does not fill them in again.
    fn priority(&mut self) {
        if self.changed("priorityClassName").is_some() {
            self.remove("priority");
            self.remove("preemptionPolicy");
        }
    }

    /// Removes the overhead of the old runtime class, unless a layer set one.
    fn runtime_class(&mut self) {
        let overhead = |pod: Json<'a>| pod.get_path(&["spec", "overhead"]);
        if self.changed("runtimeClassName").is_some() && overhead(self.pod) == overhead(self.original) {
            self.remove("overhead");
        }
    }

    fn container(&mut self, list: &'static str, container: Json<'a>) -> Json<'a> {
        let container = self.env(list, container);
        let originals = self.original.get_path(&["spec", list]).map_or(&[][..], |list| list.items());
        let original = originals.iter().find(|original| original.get("name") == container.get("name"));
        match original {
            Some(original) if !original.ptr_eq(&container) => {
                let container = self.requests(list, *original, container);
                self.pull_policy(list, *original, container)
            }
            _ => container,
        }
    }

    /// Removes a pull policy that is the default of the old image and not of the new one. Managed fields do not tell
    /// defaults from the submitter's values, so a policy that equals the old image's default counts as defaulted.
    fn pull_policy(&mut self, list: &'static str, before: Json<'a>, after: Json<'a>) -> Json<'a> {
        let (policy, image) = (after.get("imagePullPolicy"), after.text("image"));
        let name = after.get("name").and_then(|name| name.as_str());
        let sets_policy = |entry: Json<'a>| entry.get("imagePullPolicy").is_some();
        let is_default_of = |image: &str| policy == Some(Json::Str(default_policy(image)));
        if before.text("image") == image
            || before.get("imagePullPolicy") != policy
            || !is_default_of(before.text("image"))
            || is_default_of(image)
            || self.fragments.iter().any(|(_, it)| entries_for(*it, list, name, self.task.primary).any(sets_policy))
        {
            return after;
        }
        self.removed.push(format!("spec.{list}[{}].imagePullPolicy", name.unwrap_or_default()));
        after.without("imagePullPolicy", self.arena)
    }

    fn spec(&self) -> Json<'a> {
        self.pod.get("spec").unwrap_or(Json::Null)
    }

    /// Returns the value of a field of `spec` if it differs from the submitted pod's.
    fn changed(&self, field: &str) -> Option<Json<'a>> {
        let value = self.spec().get(field)?;
        (self.original.get_path(&["spec", field]) != Some(value)).then_some(value)
    }

    fn set(&mut self, field: &'a str, value: Json<'a>) {
        self.pod = self.pod.with("spec", self.spec().with(field, value, self.arena), self.arena);
    }

    fn remove(&mut self, field: &str) {
        if self.spec().get(field).is_some() {
            self.pod = self.pod.with("spec", self.spec().without(field, self.arena), self.arena);
            self.removed.push(format!("spec.{field}"));
        }
    }

    /// Keeps the elements of a list of `spec` for which `keep` returns true.
    fn retain(&mut self, list: &'a str, keep: impl Fn(&Json<'a>) -> bool) {
        let Some(items) = self.spec().get(list) else { return };
        if items.items().iter().any(|item| !keep(item)) {
            let kept = items.items().iter().copied().filter(|item| keep(item));
            self.set(list, Json::array(kept, self.arena));
        }
    }

    /// Replaces each container by the result of `change`. Without a change nothing is copied.
    fn each_container(&mut self, list: &'static str, mut change: impl FnMut(&mut Self, Json<'a>) -> Json<'a>) {
        let Some(containers) = self.spec().get(list) else { return };
        let mut changed: Option<Vec<Json<'a>>> = None;
        for (index, container) in containers.items().iter().enumerate() {
            let after = change(self, *container);
            if !after.ptr_eq(container) {
                changed.get_or_insert_with(|| containers.items().to_vec())[index] = after;
            }
        }
        if let Some(changed) = changed {
            self.set(list, Json::array(changed.into_iter(), self.arena));
        }
    }
}

/// Returns a fragment's entries for one container of the pod.
fn entries_for<'a>(
    fragment: Json<'a>,
    list: &'static str,
    name: Option<&str>,
    primary: Option<&str>,
) -> impl Iterator<Item = Json<'a>> {
    let entries = fragment.get_path(&["spec", list]).map_or(&[][..], |entries| entries.items());
    entries.iter().copied().filter(move |entry| {
        let own = entry.get("name").and_then(|name| name.as_str());
        own == name || (own == Some(PRIMARY) && primary == name)
    })
}

/// Returns a fragment with its quantities as the API server writes them: modules return numbers too, and a number
/// would differ from the string on the pod.
pub fn canonical_quantities<'a>(value: Json<'a>, kind: Type, arena: &'a Bump) -> Json<'a> {
    match (kind, value) {
        (Type::Quantity, Json::Int(_) | Json::Uint(_) | Json::Float(_)) => {
            let number = match value {
                Json::Int(number) => Some(Number::from(number)),
                Json::Uint(number) => Some(Number::from(number)),
                Json::Float(number) => Number::from_f64(number),
                _ => None,
            };
            number.and_then(|it| quantity::from_number(&it)).map_or(value, |text| Json::Str(arena.alloc_str(&text)))
        }
        (Type::List(element), Json::Array(items)) => {
            replaced(items, |item| canonical_quantities(*item, *element, arena), arena).map_or(value, Json::Array)
        }
        (Type::Map(_) | Type::Object(_), Json::Object(members)) => {
            let kind_of = |key: &str| match kind {
                Type::Map(element) => *element,
                Type::Object(object) => object.field(key).map_or(Type::Any, |field| field.kind),
                _ => Type::Any,
            };
            let mut changed: Option<&mut [(&'a str, Json<'a>)]> = None;
            for (index, (key, member)) in members.iter().enumerate() {
                let after = canonical_quantities(*member, kind_of(key), arena);
                if !after.ptr_eq(member) {
                    changed.get_or_insert_with(|| arena.alloc_slice_copy(members))[index].1 = after;
                }
            }
            changed.map_or(value, |members| Json::Object(members))
        }
        _ => value,
    }
}

/// Returns the elements with the results of `change`, or `None` if none differs.
fn replaced<'a>(
    items: &'a [Json<'a>],
    change: impl Fn(&Json<'a>) -> Json<'a>,
    arena: &'a Bump,
) -> Option<&'a [Json<'a>]> {
    let mut changed: Option<&'a mut [Json<'a>]> = None;
    for (index, item) in items.iter().enumerate() {
        let after = change(item);
        if !after.ptr_eq(item) {
            changed.get_or_insert_with(|| arena.alloc_slice_copy(items))[index] = after;
        }
    }
    changed.map(|items| &*items)
}

#[cfg(test)]
mod tests;
