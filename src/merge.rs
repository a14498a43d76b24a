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
pub struct Rule {
    /// the fragment's value replaces the pod's own
    pub overrides: bool,
    /// … but env that is already on the pod stays
    pub keeps_env: bool,
    /// `null` and `$patch` may take something away
    pub may_remove: bool,
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
            (Type::List(element), Json::Array(items)) => {
                let list = field.map_or(List::Atomic, |field| field.list);
                let base = before.unwrap_or(Json::Array(&[]));
                let merged = match list {
                    List::Atomic => self.leaf(before, was, value, rule),
                    List::Keyed(_) | List::KeyedWhole(_) => {
                        self.keyed(base, was, items, *element, field, list, rule)?
                    }
                    List::Set | List::Concat => self.unkeyed(base, items, list, rule)?,
                    List::AndTerms => self.and_terms(base, items),
                };
                Ok((before.is_some() || !merged.is_empty()).then_some(merged))
            }
            _ => Ok(Some(self.leaf(before, was, value, rule))),
        }
    }

    /// One value against another: the place where the conflict rule decides.
    fn leaf(&self, before: Option<Json<'a>>, was: Option<Json<'a>>, value: Json<'a>, rule: Rule) -> Json<'a> {
        match before {
            Some(before) if before == value => before,
            Some(before) if !rule.overrides && self.is_set(was) => before,
            _ => value,
        }
    }

    /// Whether the submitted value `was` at the current path is somebody's choice: neither empty nor a zero
    /// quantity, and written by who submitted the pod rather than by an admission plugin.
    fn is_set(&self, was: Option<Json<'a>>) -> bool {
        was.is_some_and(|was| {
            !was.is_empty() && !is_zero(was) && !self.is_default(was) && self.owners.wrote(&self.path)
        })
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
        element: Type,
        field: Option<&'static Field>,
        list: List,
        rule: Rule,
    ) -> Outcome<'a> {
        let name = field.map_or("", |field| field.name);
        let mut result: ArenaVec<'a, Json<'a>> = ArenaVec::from_iter_in(base.items().iter().copied(), self.arena);
        let mut changed = false;
        for item in fragment {
            let item = *item;
            let Some(key) = self.key(item, list, name)? else {
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
                    let merged = self.element(result[index], own, item, element, list, name, rule)?;
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
    fn key(&self, item: Json<'a>, list: List, name: &str) -> Result<Option<&'a str>, Trouble> {
        match key_text(&item, list, self.arena) {
            Some(PRIMARY) if name == "containers" => self.primary.map(Some).ok_or(Trouble::NoPrimary),
            key => Ok(key),
        }
    }

    fn has_key(&self, item: Json<'a>, key: &str, list: List) -> bool {
        key_text(&item, list, self.arena) == Some(key)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of keyed(), which would be too long to read with it inside"
    )]
    fn element(
        &mut self,
        current: Json<'a>,
        own: Option<Json<'a>>,
        item: Json<'a>,
        element: Type,
        list: List,
        name: &str,
        rule: Rule,
    ) -> Outcome<'a> {
        if matches!(list, List::KeyedWhole(_)) {
            // On a ClearML pod env is what the task's owner gave with `-e`, which beats the template there.
            let rule =
                if name == "env" && rule.keeps_env && own.is_some() { Rule { overrides: false, ..rule } } else { rule };
            return Ok(self.leaf(Some(current), own, item, rule));
        }
        let keys = list.keys();
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
        let is_own = |other: &Json<'a>| {
            own.iter().any(|own| key_text(own, list, self.arena) == key_text(other, list, self.arena))
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
                let changed = !result.is_empty();
                result.clear();
                Ok(changed)
            }
            _ => Err(Trouble::Directive(format!("{}: an element without its key", readable(&self.path)))),
        }
    }

    fn unkeyed(&mut self, base: Json<'a>, fragment: &'a [Json<'a>], list: List, rule: Rule) -> Outcome<'a> {
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
            changed = true;
            if let Some(index) =
                result.iter().position(|other| is_defaulted_toleration(other) && tolerates_same(other, item))
            {
                result[index] = *item;
            } else if list == List::Concat {
                result.insert(front, *item);
                front += 1;
            } else {
                result.push(*item);
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

fn is_native_sidecar(container: &Json<'_>) -> bool {
    container.get("restartPolicy").and_then(|policy| policy.as_str()) == Some("Always")
}

/// What the DefaultTolerationSeconds plugin adds to every pod; it must not shorten what a layer asks for.
fn is_defaulted_toleration(toleration: &Json<'_>) -> bool {
    let key = toleration.get("key").and_then(|key| key.as_str());
    matches!(key, Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
        && toleration.get("tolerationSeconds") == Some(Json::Uint(300))
        && toleration.get("operator").and_then(|operator| operator.as_str()) == Some("Exists")
}

fn tolerates_same(a: &Json<'_>, b: &Json<'_>) -> bool {
    a.get("key") == b.get("key") && a.get("effect") == b.get("effect")
}
