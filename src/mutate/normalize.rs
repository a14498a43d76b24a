//! Fields that depend on others and would be refused, or mean something else, if they stayed as they were.

mod account;
mod env;
mod requests;

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

/// The pod with its dependent fields in order, and the readable paths that were taken away for it. `laid` is what
/// layers and modules asked for: that stays.
pub fn normalize<'a>(
    original: Json<'a>,
    pod: Json<'a>,
    laid: &[(FragmentSource<'a>, Json<'a>)],
    task: &Task<'a, '_>,
    owners: &ManagedFields<'a>,
    arena: &'a Bump,
) -> (Json<'a>, Vec<String>) {
    let mut normalizer = Normalizer { original, pod, laid, task, owners, arena, removed: Vec::new() };
    normalizer.label();
    if pod.get("spec").is_some() {
        normalizer.priority();
        normalizer.runtime_class();
        normalizer.account();
        for list in ["containers", "initContainers"] {
            normalizer.each_container(list, |normalizer, container| normalizer.container(list, container));
        }
    }
    (normalizer.pod, normalizer.removed)
}

struct Normalizer<'n, 'a> {
    original: Json<'a>,
    pod: Json<'a>,
    laid: &'n [(FragmentSource<'a>, Json<'a>)],
    task: &'n Task<'a, 'n>,
    owners: &'n ManagedFields<'a>,
    arena: &'a Bump,
    removed: Vec<String>,
}

impl<'a> Normalizer<'_, 'a> {
    /// The queue's label where the agent wrote one that the API server refuses.
    fn label(&mut self) {
        let Some((key, repaired)) = self.task.repaired_label() else { return };
        let metadata = self.pod.get("metadata").unwrap_or(Json::Null);
        let labels = metadata.get("labels").unwrap_or(Json::Null);
        let labels = labels.with(key, Json::Str(self.arena.alloc_str(&repaired)), self.arena);
        self.pod = self.pod.with("metadata", metadata.with("labels", labels, self.arena), self.arena);
    }

    /// Both numbers are the class's, and the API server refuses a number beside another class. Where the class stays
    /// they stay too: a pod whose numbers were taken away is stored without any.
    fn priority(&mut self) {
        if self.changed("priorityClassName").is_some() {
            self.take("priority");
            self.take("preemptionPolicy");
        }
    }

    /// The overhead is the class's, unless a layer wrote one.
    fn runtime_class(&mut self) {
        let overhead = |pod: Json<'a>| pod.get_path(&["spec", "overhead"]);
        if self.changed("runtimeClassName").is_some() && overhead(self.pod) == overhead(self.original) {
            self.take("overhead");
        }
    }

    fn container(&mut self, list: &'static str, container: Json<'a>) -> Json<'a> {
        let container = self.env(list, container);
        let before = self.original.get_path(&["spec", list]).map_or(&[][..], |list| list.items());
        let was = before.iter().find(|was| was.get("name") == container.get("name"));
        match was {
            Some(was) if !was.ptr_eq(&container) => {
                let container = self.requests(list, *was, container);
                self.pull_policy(list, *was, container)
            }
            _ => container,
        }
    }

    /// A pull policy that is the default of an image which is another one now. Whether somebody wrote it cannot be
    /// told from managedFields, which hold defaults too: one that is not the old image's default was written.
    fn pull_policy(&mut self, list: &'static str, was: Json<'a>, now: Json<'a>) -> Json<'a> {
        let (policy, image) = (now.get("imagePullPolicy"), now.text("image"));
        let name = now.get("name").and_then(|name| name.as_str());
        let wrote = |entry: Json<'a>| entry.get("imagePullPolicy").is_some();
        let is_default_of = |image: &str| policy == Some(Json::Str(default_policy(image)));
        if was.text("image") == image
            || was.get("imagePullPolicy") != policy
            || !is_default_of(was.text("image"))
            || is_default_of(image)
            || self.laid.iter().any(|(_, it)| entry_of(*it, list, name, self.task.primary).any(wrote))
        {
            return now;
        }
        self.removed.push(format!("spec.{list}[{}].imagePullPolicy", name.unwrap_or_default()));
        now.without("imagePullPolicy", self.arena)
    }

    fn spec(&self) -> Json<'a> {
        self.pod.get("spec").unwrap_or(Json::Null)
    }

    /// The value of a field of `spec` that is another one than the submitted pod's.
    fn changed(&self, field: &str) -> Option<Json<'a>> {
        let now = self.spec().get(field)?;
        (self.original.get_path(&["spec", field]) != Some(now)).then_some(now)
    }

    fn set(&mut self, field: &'a str, value: Json<'a>) {
        self.pod = self.pod.with("spec", self.spec().with(field, value, self.arena), self.arena);
    }

    fn take(&mut self, field: &str) {
        if self.spec().get(field).is_some() {
            self.pod = self.pod.with("spec", self.spec().without(field, self.arena), self.arena);
            self.removed.push(format!("spec.{field}"));
        }
    }

    /// Keeps the elements of a list of `spec` for which `keep` holds.
    fn retain(&mut self, list: &'a str, keep: impl Fn(&Json<'a>) -> bool) {
        let Some(items) = self.spec().get(list) else { return };
        if items.items().iter().any(|item| !keep(item)) {
            let kept = items.items().iter().copied().filter(|item| keep(item));
            self.set(list, Json::array(kept, self.arena));
        }
    }

    /// Puts what `change` makes of each container in its place; where nothing changes, nothing is copied.
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

/// What fragments say of one container of the pod.
fn entry_of<'a>(
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

/// A fragment with its quantities as the API server writes them: modules return numbers too, and a number would
/// differ from the string that is on the pod.
pub fn quantities<'a>(value: Json<'a>, kind: Type, arena: &'a Bump) -> Json<'a> {
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
            replaced(items, |item| quantities(*item, *element, arena), arena).map_or(value, Json::Array)
        }
        (Type::Map(_) | Type::Object(_), Json::Object(members)) => {
            let kind_of = |key: &str| match kind {
                Type::Map(element) => *element,
                Type::Object(object) => object.field(key).map_or(Type::Any, |field| field.kind),
                _ => Type::Any,
            };
            let mut changed: Option<&mut [(&'a str, Json<'a>)]> = None;
            for (index, (key, member)) in members.iter().enumerate() {
                let after = quantities(*member, kind_of(key), arena);
                if !after.ptr_eq(member) {
                    changed.get_or_insert_with(|| arena.alloc_slice_copy(members))[index].1 = after;
                }
            }
            changed.map_or(value, |members| Json::Object(members))
        }
        _ => value,
    }
}

/// The elements with those replaced that `change` makes others; `None` where there is none.
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
