//! Merges a fragment into a pod.
//!
//! The result shares every value that the fragment does not change, and is the input itself when nothing changed. Where
//! both set a value, the layer's [`Conflict`] rule decides, judged against the pod as it was *submitted*: so layers of
//! one rule can follow each other, the later one is effective, and applying them twice changes nothing.
//!
//! `list_map` and `list_set` merge lists, `directive` executes `$patch`, and `defaulted` tells the pod's explicit
//! values from defaults.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::json::{Json, Member};
use crate::k8s::managed_fields::ManagedFields;
use crate::k8s::patch::{PathElement, display_path};
use crate::k8s::schema::{Field, ListType, POD, Type};
use crate::merge::layer::Conflict;

mod defaulted;
mod directive;
pub mod layer;
mod list_map;
mod list_set;
pub mod plan_cache;

pub use self::directive::is_directed;
pub use self::list_set::implies;

/// Merges fragments into one pod.
pub struct Merger<'a, 'o> {
    arena: &'a Bump,
    original: Json<'a>,
    managed_fields: &'o ManagedFields<'a>,
    primary: Option<&'a str>,
    path: Vec<PathElement<'a>>,
    removed: Vec<String>,
    /// paths that `Deny` layers set where the pod had no value: another such layer may not set a different one
    deny_paths: Vec<Vec<PathElement<'a>>>,
    /// env set by layers with an explicit `Override`: it stays, as the user's env does, under a rule with `keeps_env`
    override_env_paths: Vec<Vec<PathElement<'a>>>,
    stats: MergeStats,
}

/// The outcome of comparing the fragment's values with the pod's.
#[derive(Debug, Clone, Copy, Default)]
struct MergeStats {
    /// the last fragment had a value equal to the pod's
    agreed: bool,
    /// any fragment replaced a value, or had an equal one in another spelling
    replaced: bool,
}

/// The rule by which one fragment is merged.
#[derive(Debug, Clone, Copy)]
pub struct MergeRule {
    /// the rule for values that the submitted pod sets
    pub conflict: Conflict,
    /// under `Override`, env of the pod stays
    pub keeps_env: bool,
    /// `null` and `$patch` may remove values
    pub may_remove: bool,
    /// a container entry named `primary` stands for the pod's primary container, whatever its name
    pub alias: bool,
}

/// The reason for which a fragment cannot be merged.
#[derive(Debug, PartialEq, Eq)]
pub enum MergeError {
    /// the fragment sets fields of the primary container, which cannot be determined
    NoPrimary,
    /// the fragment would remove the value at this path without permission
    Removal(String),
    /// the rule is `Deny`, and the pod, or another layer of that rule, has another value at this path
    Conflict(String),
    /// the path and the error of an invalid directive or element
    Directive(String),
}

type MergeResult<'a> = Result<Json<'a>, MergeError>;

const EMPTY: Json<'static> = Json::Object(&[]);

/// The values into which a fragment's value is merged.
#[derive(Clone, Copy)]
struct Target<'a> {
    /// the current value: the pod's own, or the result of other fragments
    current: Option<Json<'a>>,
    /// the value in the submitted pod
    original: Option<Json<'a>>,
}

/// The schema of a value.
#[derive(Clone, Copy)]
struct Slot {
    kind: Type,
    /// absent inside a map, and for a field that the schema does not have
    field: Option<&'static Field>,
}

impl Slot {
    fn for_key(kind: Type, key: &str) -> Self {
        match kind {
            Type::Object(object) => {
                let field = object.field(key);
                Self { kind: field.map_or(Type::Any, |field| field.kind), field }
            }
            Type::Map(element) => Self { kind: *element, field: None },
            _ => Self { kind: Type::Any, field: None },
        }
    }

    /// Returns the schema of the list's elements.
    fn element(self) -> Self {
        Self { kind: if let Type::List(element) = self.kind { *element } else { Type::Any }, ..self }
    }

    /// Returns true if an empty value is meaningful. An empty map is not: `labels: {}` alone would be an operation. An
    /// empty selector is: it selects everything, while a missing one selects nothing.
    fn may_be_empty(self) -> bool {
        matches!(self.kind, Type::Object(object) if object.name == "LabelSelector")
    }
}

impl<'a, 'o> Merger<'a, 'o> {
    /// Creates a merger for the submitted pod `original`, whose primary container is named `primary`.
    pub fn new(
        original: Json<'a>,
        managed_fields: &'o ManagedFields<'a>,
        primary: Option<&'a str>,
        arena: &'a Bump,
    ) -> Self {
        Self {
            arena,
            original,
            managed_fields,
            primary,
            path: Vec::new(),
            removed: Vec::new(),
            deny_paths: Vec::new(),
            override_env_paths: Vec::new(),
            stats: MergeStats::default(),
        }
    }

    /// Merges `fragment` into `current`, the submitted pod or the result of other fragments. Fragments whose rule is
    /// `Deny` come last.
    ///
    /// # Errors
    /// The fragment does not fit this pod; see [`MergeError`].
    pub fn apply(&mut self, current: Json<'a>, fragment: Json<'a>, rule: MergeRule) -> MergeResult<'a> {
        self.path.clear();
        self.stats.agreed = false;
        let target = Target { current: Some(current), original: Some(self.original) };
        self.object(target, fragment.members(), Type::Object(&POD), rule)
    }

    /// Returns the paths that fragments removed, with permission.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// Returns true if the last fragment had a value equal to the pod's.
    pub fn has_agreed(&self) -> bool {
        self.stats.agreed
    }

    fn object(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Member<'a>],
        kind: Type,
        rule: MergeRule,
    ) -> MergeResult<'a> {
        let mut result = target.current.filter(|current| matches!(current, Json::Object(_))).unwrap_or(EMPTY);
        for (key, value) in fragment {
            if key.starts_with('$') {
                return Err(self.unknown_directive(key));
            }
            self.path.push(PathElement::Member(key));
            let below =
                Target { current: result.get(key), original: target.original.and_then(|original| original.get(key)) };
            let after = self.member(below, *value, Slot::for_key(kind, key), rule)?;
            self.path.pop();
            result = match (below.current, after) {
                (Some(before), Some(after)) if before.ptr_eq(&after) => result,
                (_, Some(after)) => result.with(key, after, self.arena),
                (Some(_), None) => result.without(key, self.arena),
                (None, None) => result,
            };
        }
        Ok(result)
    }

    fn member(
        &mut self,
        target: Target<'a>,
        value: Json<'a>,
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        let by_key = match slot.kind {
            Type::Object(_) | Type::Map(_) => true,
            // The schema does not know the field. Replacing its value would remove the pod's keys, which no layer asked
            // for.
            Type::Any => matches!(target.current, Some(Json::Object(_))) || is_directed(&value),
            _ => false,
        };
        let merged = match (slot.kind, value) {
            (_, Json::Null) => {
                let is_removed = target.current.is_some() && self.may_delete(target, slot, rule)?;
                return Ok(target.current.filter(|_| !is_removed));
            }
            (_, Json::Object(members)) if by_key => match self.directive_of(value)? {
                Some(directive) => return self.execute(directive, target, members, slot, rule),
                None => self.object(target, members, slot.kind, rule)?,
            },
            (Type::List(_), Json::Array(items)) => self.list(target, value, items, slot, rule)?,
            _ => return self.leaf(target, value, slot, rule).map(Some),
        };
        Ok((target.current.is_some() || !merged.is_empty() || slot.may_be_empty()).then_some(merged))
    }

    fn list(
        &mut self,
        target: Target<'a>,
        value: Json<'a>,
        items: &'a [Json<'a>],
        slot: Slot,
        rule: MergeRule,
    ) -> MergeResult<'a> {
        match slot.field {
            Some(field) if !field.list.keys().is_empty() => self.list_map(target, items, slot, field, rule),
            Some(Field { list: list @ (ListType::Set | ListType::Prepend), .. }) => {
                self.list_set(target, items, *list, rule)
            }
            Some(Field { list: ListType::NodeSelectorTerms, .. }) => self.and_terms(target, items, rule),
            _ => self.leaf(target, value, slot, rule),
        }
    }

    /// Merges one value as a whole: here the conflict rule decides.
    fn leaf(&mut self, target: Target<'a>, value: Json<'a>, slot: Slot, rule: MergeRule) -> MergeResult<'a> {
        let value = self.plain(value)?;
        if rule.conflict == Conflict::Deny {
            self.check_deny(target, value, slot)?;
        }
        let Some(current) = target.current else { return Ok(value) };
        // Equal after the API server's defaulting: no operation.
        if defaulted::semantically_equal(current, value, slot.kind) {
            self.stats = MergeStats { agreed: true, replaced: self.stats.replaced || current != value };
            return Ok(current);
        }
        self.stats.replaced = true;
        let keeps =
            rule.conflict == Conflict::Keep && target.original.is_some_and(|original| self.is_explicit(original, slot));
        Ok(if keeps { current } else { value })
    }

    /// Denies a value other than the pod's own or, if the pod has none, other than one set by a layer of the same rule.
    /// (Otherwise the first of the two layers would deny the result when it is created again.)
    fn check_deny(&mut self, target: Target<'a>, value: Json<'a>, slot: Slot) -> Result<(), MergeError> {
        let agrees =
            |other: Option<Json<'a>>| other.is_some_and(|other| defaulted::semantically_equal(other, value, slot.kind));
        if target.original.is_some_and(|original| self.is_explicit(original, slot)) {
            return if agrees(target.original) { Ok(()) } else { Err(self.conflict()) };
        }
        if target.current.is_some() && !agrees(target.current) && self.is_under_deny_path() {
            return Err(self.conflict());
        }
        self.deny_paths.push(self.path.clone());
        Ok(())
    }

    fn is_under_deny_path(&self) -> bool {
        self.deny_paths.iter().any(|other| self.path.starts_with(other) || other.starts_with(&self.path))
    }

    fn conflict(&self) -> MergeError {
        MergeError::Conflict(display_path(&self.path))
    }

    /// Returns true if the fragment's removal of the value at the current path is executed; false if the pod keeps it.
    fn may_delete(&mut self, target: Target<'a>, slot: Slot, rule: MergeRule) -> Result<bool, MergeError> {
        self.may_direct(rule)?;
        let keeps =
            rule.conflict == Conflict::Keep && target.original.is_some_and(|original| self.is_explicit(original, slot));
        if !keeps {
            self.remove(rule)?;
        }
        Ok(!keeps)
    }

    fn remove(&mut self, rule: MergeRule) -> Result<(), MergeError> {
        let path = display_path(&self.path);
        if !rule.may_remove {
            return Err(MergeError::Removal(path));
        }
        self.removed.push(path);
        Ok(())
    }

    fn vec(&self, items: impl IntoIterator<Item = Json<'a>>) -> ArenaVec<'a, Json<'a>> {
        ArenaVec::from_iter_in(items, self.arena)
    }
}

#[cfg(test)]
mod tests;
