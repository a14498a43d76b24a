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
mod tests;
