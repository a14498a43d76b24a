//! Lays a fragment over a pod.
//!
//! The result shares everything that the fragment does not touch, and is the very same value when nothing
//! changed. What wins where both say something is the layer's [`Conflict`](crate::snapshot::Conflict) rule, judged against the pod as
//! it was *submitted*: so layers of one rule can follow each other, the later wins, and doing it twice
//! changes nothing.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::json::{Json, Member};
use crate::owners::Owners;
use crate::patch::{Step, key_text, readable};
use crate::schema::{Field, List, POD, Type};
use crate::snapshot::PRIMARY;
use crate::template::TOKEN_VOLUME;

/// Merges fragments into one pod.
pub struct Merger<'a, 'o> {
    arena: &'a Bump,
    original: Json<'a>,
    owners: &'o Owners<'a>,
    primary: Option<&'a str>,
    path: Vec<Step<'a>>,
    removed: Vec<String>,
}

/// How one fragment is laid.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "four answers that do not depend on each other")]
pub struct Rule {
    /// the fragment's value replaces the pod's own
    pub overrides: bool,
    /// … but env that is already on the pod stays
    pub keeps_env: bool,
    /// `null` and `$patch` may take something away
    pub may_remove: bool,
    /// a container entry called `primary` means the pod's primary container, whatever its name
    pub alias: bool,
}

/// Why a fragment cannot be laid.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// it has something for the primary container, and nobody can say which that is
    NoPrimary,
    /// it takes away what stands there
    Removal(String),
    /// a directive that does not exist
    Directive(String),
}

type Outcome<'a> = Result<Json<'a>, Trouble>;

impl<'a, 'o> Merger<'a, 'o> {
    /// A merger for the submitted pod `original`, whose primary container is called `primary`.
    pub fn new(original: Json<'a>, owners: &'o Owners<'a>, primary: Option<&'a str>, arena: &'a Bump) -> Self {
        Self { arena, original, owners, primary, path: Vec::new(), removed: Vec::new() }
    }

    /// Lays `fragment` over `current`, which is the submitted pod or what other fragments made of it.
    pub fn lay(&mut self, current: Json<'a>, fragment: Json<'a>, rule: Rule) -> Outcome<'a> {
        self.path.clear();
        self.object(current, Some(self.original), fragment.members(), Type::Object(&POD), rule)
    }

    /// The readable paths that fragments took away, with permission.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    fn object(
        &mut self,
        current: Json<'a>,
        original: Option<Json<'a>>,
        fragment: &'a [Member<'a>],
        kind: Type,
        rule: Rule,
    ) -> Outcome<'a> {
        let mut result = current;
        for (key, value) in fragment {
            let field = if let Type::Object(object) = kind { object.field(key) } else { None };
            let element = if let Type::Map(element) = kind { *element } else { Type::Any };
            self.path.push(Step::Member(key));
            let before = result.get(key);
            let was = original.and_then(|original| original.get(key));
            let after = self.member(before, was, *value, field, element, rule)?;
            self.path.pop();
            result = match (before, after) {
                (Some(before), Some(after)) if before.same(&after) => result,
                (_, Some(after)) => result.with(key, after, self.arena),
                (Some(_), None) => result.without(key, self.arena),
                (None, None) => result,
            };
        }
        Ok(result)
    }

    fn member(
        &mut self,
        before: Option<Json<'a>>,
        was: Option<Json<'a>>,
        value: Json<'a>,
        field: Option<&'static Field>,
        element: Type,
        rule: Rule,
    ) -> Result<Option<Json<'a>>, Trouble> {
        let kind = field.map_or(element, |field| field.kind);
        match (kind, value) {
            (_, Json::Null) => match before {
                Some(_) => self.remove(rule).map(|()| None),
                None => Ok(None),
            },
            (Type::Object(_) | Type::Map(_), Json::Object(members)) => {
                let base = before.filter(|before| matches!(before, Json::Object(_))).unwrap_or(Json::Object(&[]));
                let merged = self.object(base, was, members, kind, rule)?;
                // An empty map over nothing is nothing: `labels: {}` alone would be an operation.
                Ok((before.is_some() || !merged.is_empty()).then_some(merged))
            }
            (Type::List(_), Json::Array(items)) => {
                let base = before.unwrap_or(Json::Array(&[]));
                let merged = match field {
                    Some(field) if !field.list.keys().is_empty() => self.keyed(base, was, items, field, rule)?,
                    Some(Field { list: list @ (List::Set | List::Concat), .. }) => {
                        self.unkeyed(base, was, items, *list, rule)?
                    }
                    Some(Field { list: List::AndTerms, .. }) => self.and_terms(base, items),
                    _ => self.leaf(before, was, value, field, rule),
                };
                Ok((before.is_some() || !merged.is_empty()).then_some(merged))
            }
            _ => Ok(Some(self.leaf(before, was, value, field, rule))),
        }
    }

    /// One value against another: the place where the conflict rule decides. `field` is absent inside a map.
    fn leaf(
        &self,
        before: Option<Json<'a>>,
        was: Option<Json<'a>>,
        value: Json<'a>,
        field: Option<&'static Field>,
        rule: Rule,
    ) -> Json<'a> {
        match before {
            Some(before) if before == value => before,
            Some(before) if !rule.overrides && was.is_some_and(|was| self.is_set(was, field)) => before,
            _ => value,
        }
    }

    /// Whether the submitted value `was` at the current path is somebody's choice: neither empty nor a zero quantity,
    /// and written by who submitted the pod rather than by an admission plugin. Inside a map, `""` and `"0"` are
    /// values like others (`node-role.kubernetes.io/gpu: ""`), but for quantities.
    fn is_set(&self, was: Json<'a>, field: Option<&'static Field>) -> bool {
        let empty = was.is_empty() && (field.is_some() || was.as_str().is_none());
        let zero = self.path.contains(&Step::Member("resources")) && is_zero(was);
        !empty && !zero && !self.is_default(was) && self.owners.wrote(&self.path)
    }

    /// Whether `was` is what the API server fills in by itself where nothing is written.
    fn is_default(&self, was: Json<'a>) -> bool {
        let Some(Step::Member(name)) = self.path.last() else { return false };
        DEFAULTS.iter().any(|(field, default)| field == name && was.as_str() == Some(default))
            || (*name == "terminationGracePeriodSeconds" && was == Json::Uint(30))
            || (*name == "enableServiceLinks" && was == Json::Bool(true))
    }

    fn keyed(
        &mut self,
        base: Json<'a>,
        was: Option<Json<'a>>,
        fragment: &'a [Json<'a>],
        field: &'static Field,
        rule: Rule,
    ) -> Outcome<'a> {
        let Field { name, list, .. } = *field;
        let mut result: ArenaVec<'a, Json<'a>> = ArenaVec::from_iter_in(base.items().iter().copied(), self.arena);
        let mut changed = false;
        for item in fragment {
            let item = *item;
            let Some(key) = self.key(item, list, name, rule)? else {
                changed |= self.directive(item, &mut result, rule)?;
                continue;
            };
            self.path.push(Step::Element(0, Some(key)));
            let at = (0..result.len()).rev().find(|index| self.has_key(result[*index], key, list));
            match (at, item.get("$patch").and_then(|directive| directive.as_str())) {
                (Some(_), Some("delete")) => {
                    self.remove(rule)?;
                    let arena = self.arena;
                    result.retain(|other| key_text(other, list, arena) != Some(key));
                    changed = true;
                }
                (None, Some("delete")) => {}
                (_, Some(other)) => {
                    return Err(Trouble::Directive(format!("{}: $patch: {other}", readable(&self.path))));
                }
                (Some(index), None) => {
                    let own =
                        was.and_then(|was| was.items().iter().rev().copied().find(|own| self.has_key(*own, key, list)));
                    let merged = self.element(result[index], own, item, field, rule)?;
                    if !merged.same(&result[index]) {
                        result[index] = merged;
                        changed = true;
                        self.drop_earlier(&mut result, index, key, list);
                    }
                }
                (None, None) => {
                    let place = self.place(&result, was, item, list, name);
                    result.insert(place, item);
                    changed = true;
                }
            }
            self.path.pop();
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    /// A fragment's entry `primary` lies over the pod's primary container, whatever that is called.
    fn key(&self, item: Json<'a>, list: List, name: &str, rule: Rule) -> Result<Option<&'a str>, Trouble> {
        match key_text(&item, list, self.arena) {
            Some(PRIMARY) if rule.alias && name == "containers" => self.primary.map(Some).ok_or(Trouble::NoPrimary),
            key => Ok(key),
        }
    }

    fn has_key(&self, item: Json<'a>, key: &str, list: List) -> bool {
        key_text(&item, list, self.arena) == Some(key)
    }

    fn element(
        &mut self,
        current: Json<'a>,
        own: Option<Json<'a>>,
        item: Json<'a>,
        field: &'static Field,
        rule: Rule,
    ) -> Outcome<'a> {
        if matches!(field.list, List::KeyedWhole(_)) {
            // On a ClearML pod env is what the task's owner gave with `-e`, which beats the template there.
            let rule = if field.name == "env" && rule.keeps_env && own.is_some() {
                Rule { overrides: false, ..rule }
            } else {
                rule
            };
            return Ok(self.leaf(Some(current), own, item, Some(field), rule));
        }
        let keys = field.list.keys();
        let element = if let Type::List(element) = field.kind { *element } else { Type::Any };
        let rest =
            ArenaVec::from_iter_in(item.members().iter().copied().filter(|(key, _)| !keys.contains(key)), self.arena);
        self.object(current, own, rest.into_bump_slice(), element, rule)
    }

    /// A name that stood twice has one value from now on: the last, which is the one that counted.
    fn drop_earlier(&mut self, result: &mut ArenaVec<'a, Json<'a>>, kept: usize, key: &'a str, list: List) {
        let mut index = 0;
        let before = result.len();
        let arena = self.arena;
        result.retain(|other| {
            index += 1;
            index - 1 == kept || key_text(other, list, arena) != Some(key)
        });
        if result.len() < before {
            self.removed.push(readable(&self.path));
        }
    }

    /// Where a new element goes. What layers add stands before the pod's own, so that `$(VAR)` references
    /// and `volumes[0]` mean what their authors meant; containers come after the pod's own; native sidecars
    /// start before all other init containers.
    fn place(&self, result: &[Json<'a>], was: Option<Json<'a>>, item: Json<'a>, list: List, name: &str) -> usize {
        let own = was.map_or(&[][..], |was| was.items());
        // As long as nothing was taken away, the pod's first element is still there and the first of its own.
        let first = if self.removed.is_empty() { &own[..own.len().min(1)] } else { own };
        let is_own = |other: &Json<'a>| {
            first.iter().any(|own| key_text(own, list, self.arena) == key_text(other, list, self.arena))
        };
        let added = result.iter().position(is_own).unwrap_or(result.len());
        match name {
            "containers" => result.len(),
            "initContainers" if is_native_sidecar(&item) => {
                result[..added].iter().position(|other| !is_native_sidecar(other)).unwrap_or(added)
            }
            _ => added,
        }
    }

    /// An element without a key can only be a directive for its list.
    fn directive(&mut self, item: Json<'a>, result: &mut ArenaVec<'a, Json<'a>>, rule: Rule) -> Result<bool, Trouble> {
        match item.get("$patch").and_then(|directive| directive.as_str()) {
            Some("replace") => {
                self.remove(rule)?;
                let before = result.len();
                // The token volume and its mounts are hidden from modules: nobody meant them.
                result.retain(is_token);
                Ok(result.len() < before)
            }
            _ => Err(Trouble::Directive(format!("{}: an element without its key", readable(&self.path)))),
        }
    }

    fn unkeyed(
        &mut self,
        base: Json<'a>,
        was: Option<Json<'a>>,
        fragment: &'a [Json<'a>],
        list: List,
        rule: Rule,
    ) -> Outcome<'a> {
        let mut result: ArenaVec<'a, Json<'a>> = ArenaVec::from_iter_in(base.items().iter().copied(), self.arena);
        let mut changed = false;
        let mut front = 0;
        for item in fragment {
            if item.get("$patch").is_some() {
                changed |= self.directive(*item, &mut result, rule)?;
                continue;
            }
            if result.contains(item) {
                continue;
            }
            match result.iter().position(|other| tolerates_same(other, item)) {
                Some(index) if toleration_stays(result[index], was, rule) => {}
                Some(index) => {
                    result[index] = *item;
                    changed = true;
                }
                None => {
                    let place = if list == List::Concat { front } else { result.len() };
                    result.insert(place, *item);
                    front += 1;
                    changed = true;
                }
            }
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    /// Node selector terms are alternatives: appending one would let the pod escape the others, so what the
    /// layer requires is required in each of them.
    fn and_terms(&self, base: Json<'a>, fragment: &'a [Json<'a>]) -> Json<'a> {
        if base.items().is_empty() {
            return Json::Array(fragment);
        }
        let mut changed = false;
        let mut terms = ArenaVec::new_in(self.arena);
        for own in base.items() {
            // Doing it twice must change nothing.
            if fragment.iter().any(|required| demands(own, required)) {
                terms.push(*own);
                continue;
            }
            for required in fragment {
                let term = required.members().iter().fold(*own, |term, (key, expressions)| {
                    let present = term.get(key).unwrap_or(Json::Array(&[]));
                    let missing = expressions.items().iter().copied().filter(|e| !present.items().contains(e));
                    let all = Json::array(present.items().iter().copied().chain(missing), self.arena);
                    if all.items().len() == present.items().len() { term } else { term.with(key, all, self.arena) }
                });
                changed |= !term.same(own);
                terms.push(term);
            }
        }
        if changed { Json::Array(terms.into_bump_slice()) } else { base }
    }

    fn remove(&mut self, rule: Rule) -> Result<(), Trouble> {
        let path = readable(&self.path);
        if !rule.may_remove {
            return Err(Trouble::Removal(path));
        }
        self.removed.push(path);
        Ok(())
    }
}

/// Strings that the API server writes where a manifest says nothing; the two that are no strings stand in
/// `is_default`.
const DEFAULTS: &[(&str, &str)] = &[
    ("dnsPolicy", "ClusterFirst"),
    ("restartPolicy", "Always"),
    ("schedulerName", "default-scheduler"),
    ("terminationMessagePath", "/dev/termination-log"),
    ("terminationMessagePolicy", "File"),
];

/// Whether a node selector term has all expressions of another already.
fn demands(term: &Json<'_>, required: &Json<'_>) -> bool {
    required.members().iter().all(|(key, expressions)| {
        let present = term.get(key).unwrap_or(Json::Array(&[]));
        expressions.items().iter().all(|expression| present.items().contains(expression))
    })
}

fn is_zero(value: Json<'_>) -> bool {
    match value {
        Json::Str(text) => {
            text.starts_with('0') && text.trim_start_matches(['0', '.']).bytes().all(|b| b.is_ascii_alphabetic())
        }
        Json::Uint(0) | Json::Int(0) => true,
        _ => false,
    }
}

fn is_token(item: &Json<'_>) -> bool {
    item.get("name").and_then(|name| name.as_str()).is_some_and(|name| name.starts_with(TOKEN_VOLUME))
}

fn is_native_sidecar(container: &Json<'_>) -> bool {
    container.get("restartPolicy").and_then(|policy| policy.as_str()) == Some("Always")
}

/// What the `DefaultTolerationSeconds` plugin adds to every pod; it must not shorten what a layer asks for.
fn is_defaulted_toleration(toleration: &Json<'_>) -> bool {
    let key = toleration.get("key").and_then(|key| key.as_str());
    matches!(key, Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
        && toleration.get("tolerationSeconds") == Some(Json::Uint(300))
        && toleration.get("operator").and_then(|operator| operator.as_str()) == Some("Exists")
}

/// Whether a toleration that differs from a layer's in nothing but its seconds stays: the pod's own does under `Keep`,
/// but not the 300 s that a plugin put on it, and not what another layer put there.
fn toleration_stays(present: Json<'_>, was: Option<Json<'_>>, rule: Rule) -> bool {
    let own = was.is_some_and(|was| was.items().contains(&present));
    own && !rule.overrides && !is_defaulted_toleration(&present)
}

/// Whether two tolerations differ in nothing but for how long.
fn tolerates_same(a: &Json<'_>, b: &Json<'_>) -> bool {
    let is_toleration = |item: &Json<'_>| item.get("operator").is_some() || item.get("effect").is_some();
    let same = ["key", "operator", "value", "effect"].iter().all(|field| a.get(field) == b.get(field));
    same && is_toleration(a) && is_toleration(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const KEEP: Rule = Rule { overrides: false, keeps_env: false, may_remove: false, alias: true };
    const OVERRIDE: Rule = Rule { overrides: true, keeps_env: false, may_remove: false, alias: true };

    /// Lays fragments over a pod whose primary container is `main`.
    fn lay(pod: &Value, fragments: &[(Rule, Value)]) -> Result<Value, Trouble> {
        let arena = Bump::new();
        let original = Json::lift(pod, &arena);
        let owners = Owners::of(original, &arena);
        let mut merger = Merger::new(original, &owners, Some("main"), &arena);
        let mut result = original;
        for (rule, fragment) in fragments {
            result = merger.lay(result, Json::lift(fragment, &arena), *rule)?;
        }
        Ok(result.to_value())
    }

    fn main_with(extra: &Value) -> Value {
        let mut container = json!({"name": "main"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"spec": {"containers": [container]}})
    }

    fn primary(extra: &Value) -> Value {
        let mut fragment = main_with(extra);
        fragment["spec"]["containers"][0]["name"] = json!("primary");
        fragment
    }

    fn names(list: &Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn keep_leaves_the_pods_own_value_and_override_replaces_it() {
        let pod = json!({"metadata": {"labels": {"team": "a"}}});
        let fragment = json!({"metadata": {"labels": {"team": "b", "tier": "x"}}});
        assert_eq!(
            lay(&pod, &[(KEEP, fragment.clone())]).unwrap()["metadata"]["labels"],
            json!({"team": "a", "tier": "x"})
        );
        assert_eq!(
            lay(&pod, &[(OVERRIDE, fragment)]).unwrap()["metadata"]["labels"],
            json!({"team": "b", "tier": "x"})
        );
    }

    #[test]
    fn inside_a_class_the_later_layer_wins() {
        let layer = |value: &str| json!({"metadata": {"labels": {"team": value}}});
        let pod = json!({"metadata": {}});
        let both = [(KEEP, layer("first")), (KEEP, layer("second"))];
        assert_eq!(lay(&pod, &both).unwrap()["metadata"]["labels"]["team"], "second");
    }

    #[test]
    fn what_a_plugin_put_there_yields_to_keep_and_what_was_written_does_not() {
        let mut pod = main_with(&json!({"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}));
        let owned = json!({"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {"f:resources": {"f:limits": {"f:memory": {}}}}}}});
        pod["metadata"] = json!({"managedFields": [{"fieldsV1": owned}]});
        let result =
            lay(&pod, &[(KEEP, primary(&json!({"resources": {"limits": {"cpu": "4", "memory": "8Gi"}}})))]).unwrap();
        assert_eq!(result["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "4", "memory": "1Gi"}));
    }

    #[test]
    fn empty_zero_and_default_values_are_unset() {
        let pod = json!({"spec": {"restartPolicy": "Always", "securityContext": {}, "containers": [{"name": "main", "resources": {"requests": {"cpu": "0"}}}]}});
        let mut fragment = primary(&json!({"resources": {"requests": {"cpu": "2"}}}));
        fragment["spec"]["restartPolicy"] = json!("Never");
        let result = lay(&pod, &[(KEEP, fragment)]).unwrap();
        assert_eq!(result["spec"]["restartPolicy"], "Never");
        assert_eq!(result["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    }

    #[test]
    fn env_volumes_and_mounts_of_layers_stand_before_the_pods_own() {
        let pod = json!({"spec": {"volumes": [{"name": "own"}, {"name": "kube-api-access-x"}], "containers": [{"name": "main", "env": [{"name": "OWN", "value": "1"}]}]}});
        let layer = |name: &str| {
            let mut fragment = primary(&json!({"env": [{"name": name, "value": "x"}]}));
            fragment["spec"]["volumes"] = json!([{"name": name.to_lowercase(), "emptyDir": {}}]);
            (OVERRIDE, fragment)
        };
        let result = lay(&pod, &[layer("A"), layer("B")]).unwrap();
        assert_eq!(names(&result["spec"]["volumes"]), ["a", "b", "own", "kube-api-access-x"]);
        assert_eq!(names(&result["spec"]["containers"][0]["env"]), ["A", "B", "OWN"]);
    }

    #[test]
    fn a_volume_source_and_an_env_value_are_replaced_whole() {
        let pod = json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}], "containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}});
        let mut fragment =
            primary(&json!({"env": [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}));
        fragment["spec"]["volumes"] = json!([{"name": "data", "nfs": {"server": "s", "path": "/p"}}]);
        let result = lay(&pod, &[(OVERRIDE, fragment.clone())]).unwrap();
        assert_eq!(result["spec"]["volumes"], fragment["spec"]["volumes"]);
        assert_eq!(result["spec"]["containers"][0]["env"], fragment["spec"]["containers"][0]["env"]);
    }

    #[test]
    fn mounts_are_told_apart_by_path_and_merge_by_field() {
        let pod = main_with(
            &json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "readOnly": true}, {"name": "d", "mountPath": "/b"}]}),
        );
        let fragment = primary(&json!({"volumeMounts": [{"name": "d", "mountPath": "/a", "subPath": "x"}]}));
        let mounts = &lay(&pod, &[(OVERRIDE, fragment)]).unwrap()["spec"]["containers"][0]["volumeMounts"];
        assert_eq!(
            *mounts,
            json!([{"name": "d", "mountPath": "/a", "readOnly": true, "subPath": "x"}, {"name": "d", "mountPath": "/b"}])
        );
    }

    #[test]
    fn env_that_the_tasks_owner_gave_stays_unless_override_was_written_out() {
        let pod = main_with(&json!({"env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}));
        let fragment =
            primary(&json!({"env": [{"name": "NCCL_DEBUG", "value": "WARN"}, {"name": "NEW", "value": "1"}]}));
        let value =
            |rule: Rule| lay(&pod, &[(rule, fragment.clone())]).unwrap()["spec"]["containers"][0]["env"].clone();
        assert_eq!(value(Rule { keeps_env: true, ..OVERRIDE })[1], json!({"name": "NCCL_DEBUG", "value": "INFO"}));
        assert_eq!(value(OVERRIDE)[1], json!({"name": "NCCL_DEBUG", "value": "WARN"}));
    }

    #[test]
    fn an_overridden_env_name_that_stood_twice_stands_once() {
        let pod = main_with(
            &json!({"env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "y"}, {"name": "X", "value": "2"}]}),
        );
        let result = lay(&pod, &[(OVERRIDE, primary(&json!({"env": [{"name": "X", "value": "3"}]})))]).unwrap();
        assert_eq!(
            result["spec"]["containers"][0]["env"],
            json!([{"name": "Y", "value": "y"}, {"name": "X", "value": "3"}])
        );
    }

    #[test]
    fn a_plugins_300_second_toleration_yields_to_a_layers() {
        let default = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let longer = json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600});
        let gpu = json!({"key": "gpu", "operator": "Exists"});
        let pod = json!({"spec": {"tolerations": [default]}});
        let fragment = json!({"spec": {"tolerations": [longer, gpu]}});
        let result = lay(&pod, &[(KEEP, fragment.clone()), (KEEP, fragment)]).unwrap();
        assert_eq!(result["spec"]["tolerations"], json!([longer, gpu]));
    }

    #[test]
    fn empty_and_zero_values_in_a_map_are_somebodys_choice() {
        let pod = json!({"metadata": {"labels": {"e": "", "z": "0"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": ""}}});
        let fragment = json!({"metadata": {"labels": {"e": "x", "z": "1"}}, "spec": {"nodeSelector": {"node-role.kubernetes.io/gpu": "yes"}}});
        assert_eq!(lay(&pod, &[(KEEP, fragment)]).unwrap(), pod);
    }

    #[test]
    fn tolerations_that_differ_in_seconds_alone_are_one() {
        let lasting = |seconds: u32| json!({"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let layer = |seconds: u32| json!({"spec": {"tolerations": [lasting(seconds)]}});
        let pod = json!({"spec": {"tolerations": [lasting(300)]}});
        let stack = [(KEEP, layer(300)), (OVERRIDE, layer(600))];
        let once = lay(&pod, &stack).unwrap();
        assert_eq!(once, layer(600));
        assert_eq!(lay(&once, &stack).unwrap(), once);
        assert_eq!(lay(&layer(60), &[(KEEP, layer(600))]).unwrap(), layer(60), "the pod's own");
    }

    #[test]
    fn layers_init_containers_come_first_and_native_sidecars_before_them() {
        let pod = json!({"spec": {"initContainers": [{"name": "own"}]}});
        let layer = |list: Value| (OVERRIDE, json!({"spec": {"initContainers": list}}));
        let layers = [
            layer(json!([{"name": "prepare"}])),
            layer(json!([{"name": "sidecar", "restartPolicy": "Always"}, {"name": "late"}])),
        ];
        assert_eq!(
            names(&lay(&pod, &layers).unwrap()["spec"]["initContainers"]),
            ["sidecar", "prepare", "late", "own"]
        );
    }

    #[test]
    fn required_node_affinity_is_anded_into_every_term() {
        let affinity = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
        let expression = |key: &str| json!({"key": key, "operator": "Exists"});
        let pod = affinity(json!([{"matchExpressions": [expression("a")]}, {"matchExpressions": [expression("b")]}]));
        let fragment = affinity(json!([{"matchExpressions": [expression("gpu")]}]));
        let expected = affinity(
            json!([{"matchExpressions": [expression("a"), expression("gpu")]}, {"matchExpressions": [expression("b"), expression("gpu")]}]),
        );
        assert_eq!(lay(&pod, &[(OVERRIDE, fragment.clone()), (OVERRIDE, fragment)]).unwrap(), expected);
    }

    #[test]
    fn removals_need_permission() {
        let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumes": [{"name": "v"}]}});
        let fragment =
            json!({"metadata": {"labels": {"a": null}}, "spec": {"volumes": [{"name": "v", "$patch": "delete"}]}});
        assert_eq!(lay(&pod, &[(OVERRIDE, fragment.clone())]), Err(Trouble::Removal("metadata.labels.a".to_owned())));
        let allowed = Rule { may_remove: true, ..OVERRIDE };
        assert_eq!(
            lay(&pod, &[(allowed, fragment)]).unwrap(),
            json!({"metadata": {"labels": {}}, "spec": {"volumes": []}})
        );
    }

    #[test]
    fn without_a_primary_container_its_fields_are_refused() {
        let arena = Bump::new();
        let pod = main_with(&json!({}));
        let original = Json::lift(&pod, &arena);
        let owners = Owners::of(original, &arena);
        let fragment = primary(&json!({"env": []}));
        let result = Merger::new(original, &owners, None, &arena).lay(original, Json::lift(&fragment, &arena), KEEP);
        assert_eq!(result.err(), Some(Trouble::NoPrimary));
    }

    #[test]
    fn an_empty_fragment_gives_the_very_same_pod() {
        let arena = Bump::new();
        let pod = main_with(&json!({"env": [{"name": "X", "value": "1"}]}));
        let original = Json::lift(&pod, &arena);
        let owners = Owners::of(original, &arena);
        let fragment = json!({"metadata": {"labels": {}}, "spec": {"volumes": [], "containers": [{"name": "primary", "env": [{"name": "X", "value": "1"}]}]}});
        let result =
            Merger::new(original, &owners, Some("main"), &arena).lay(original, Json::lift(&fragment, &arena), OVERRIDE);
        assert!(result.unwrap().same(&original));
    }

    /// Fragments of the supported keys with names that meet the pod's and each other's.
    fn fragments() -> impl Strategy<Value = Value> {
        let pair = || prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
        let env = prop::collection::btree_map("[A-C]", "[x-z]", 0..3).prop_map(|map| {
            map.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()
        });
        let volumes = prop::collection::btree_map("[a-c]", any::<bool>(), 0..3).prop_map(|map| {
            map.into_iter()
                .map(|(name, dir)| {
                    if dir {
                        json!({"name": name, "emptyDir": {}})
                    } else {
                        json!({"name": name, "nfs": {"path": "/"}})
                    }
                })
                .collect::<Vec<_>>()
        });
        let mounts = prop::collection::btree_map("/[a-b]", "[a-c]", 0..3).prop_map(|map| {
            map.into_iter().map(|(path, name)| json!({"name": name, "mountPath": path})).collect::<Vec<_>>()
        });
        (pair(), pair(), env, volumes, mounts, prop::collection::vec("[a-b]", 0..2), pair()).prop_map(|(labels, selector, env, volumes, mounts, tolerations, limits)| {
            let tolerations: Vec<Value> = tolerations.into_iter().map(|key| json!({"key": key})).collect();
            json!({"metadata": {"labels": labels}, "spec": {"nodeSelector": selector, "volumes": volumes, "tolerations": tolerations,
                "containers": [{"name": "primary", "env": env, "volumeMounts": mounts, "resources": {"limits": limits}}]}})
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        /// Layers that keep first, then those that override: the order that `layers.rs` gives them.
        #[test]
        fn laying_a_stack_twice_changes_nothing(pod in fragments(), keep in prop::collection::vec(fragments(), 0..3), over in prop::collection::vec(fragments(), 0..3)) {
            let mut pod = pod;
            pod["spec"]["containers"][0]["name"] = json!("main");
            pod["spec"]["future"] = json!({"field": [1]});
            let stack: Vec<(Rule, Value)> = keep.into_iter().map(|f| (KEEP, f)).chain(over.into_iter().map(|f| (OVERRIDE, f))).collect();
            let once = lay(&pod, &stack).unwrap();
            prop_assert_eq!(&once["spec"]["future"], &pod["spec"]["future"], "unknown fields survive");
            let twice = lay(&once, &stack).unwrap();
            prop_assert_eq!(once, twice);
        }
    }
}
