//! Lays a fragment over a pod.
//!
//! The result shares everything that the fragment does not touch, and is the very same value when nothing
//! changed. What wins where both say something is the layer's [`Conflict`] rule, judged against the pod as it was
//! *submitted*: so layers of one rule can follow each other, the later wins, and doing it twice changes nothing.
//!
//! `keyed` and `unkeyed` are the lists, `place` says where a new element goes, `directive` carries out `$patch`, and
//! `unset` says which of the pod's values are nobody's choice.

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
mod place;
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
    /// what `Deny` layers gave where the pod said nothing: a second of them may not say otherwise
    deny_paths: Vec<Vec<PathElement<'a>>>,
    /// env that layers gave which say `Override` in so many words: one that keeps the task's env keeps that too
    override_env_paths: Vec<Vec<PathElement<'a>>>,
    stats: MergeStats,
}

/// What became of values that met others.
#[derive(Debug, Clone, Copy, Default)]
struct MergeStats {
    /// of the last fragment: one stayed, as it said the same
    agreed: bool,
    /// of any: one gave way, or stayed although it is written otherwise
    replaced: bool,
}

/// How one fragment is laid.
#[derive(Debug, Clone, Copy)]
pub struct MergeRule {
    /// what happens where the submitted pod has a value of its own
    pub conflict: Conflict,
    /// under `Override`, env that is already on the pod stays
    pub keeps_env: bool,
    /// `null` and `$patch` may take something away
    pub may_remove: bool,
    /// a container entry called `primary` means the pod's primary container, whatever its name
    pub alias: bool,
}

/// Why a fragment cannot be laid.
#[derive(Debug, PartialEq, Eq)]
pub enum MergeError {
    /// it has something for the primary container, and nobody can say which that is
    NoPrimary,
    /// it takes away what stands there
    Removal(String),
    /// its rule is `Deny`, and the pod (or another layer of that rule) has another value there
    Conflict(String),
    /// where, and what is wrong with the directive or the element there
    Directive(String),
}

type Outcome<'a> = Result<Json<'a>, MergeError>;

const NOTHING: Json<'static> = Json::Object(&[]);

/// What a fragment's value is laid over.
#[derive(Clone, Copy)]
struct Target<'a> {
    /// what stands there now: the pod's own, or what other fragments made of it
    current: Option<Json<'a>>,
    /// what stood there when the pod was submitted
    original: Option<Json<'a>>,
}

/// What the schema knows of a place.
#[derive(Clone, Copy)]
struct Slot {
    kind: Type,
    /// absent inside a map, and where the schema knows no such field
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

    /// What an element of the list is.
    fn element(self) -> Self {
        Self { kind: if let Type::List(element) = self.kind { *element } else { Type::Any }, ..self }
    }

    /// An empty map over nothing is nothing: `labels: {}` alone would be an operation. An empty selector is not: it
    /// selects everything, and none selects nothing.
    fn may_be_empty(self) -> bool {
        matches!(self.kind, Type::Object(object) if object.name == "LabelSelector")
    }
}

impl<'a, 'o> Merger<'a, 'o> {
    /// A merger for the submitted pod `original`, whose primary container is called `primary`.
    pub fn new(original: Json<'a>, owners: &'o ManagedFields<'a>, primary: Option<&'a str>, arena: &'a Bump) -> Self {
        Self {
            arena,
            original,
            managed_fields: owners,
            primary,
            path: Vec::new(),
            removed: Vec::new(),
            deny_paths: Vec::new(),
            override_env_paths: Vec::new(),
            stats: MergeStats::default(),
        }
    }

    /// Lays `fragment` over `current`, which is the submitted pod or what other fragments made of it. Fragments
    /// whose rule is `Deny` come last.
    ///
    /// # Errors
    /// The fragment is not one for this pod; see [`Trouble`].
    pub fn apply(&mut self, current: Json<'a>, fragment: Json<'a>, rule: MergeRule) -> Outcome<'a> {
        self.path.clear();
        self.stats.agreed = false;
        let under = Target { current: Some(current), original: Some(self.original) };
        self.object(under, fragment.members(), Type::Object(&POD), rule)
    }

    /// The readable paths that fragments took away, with permission.
    pub fn removed(&self) -> &[String] {
        &self.removed
    }

    /// Whether the last fragment has met a value that says the same, so that it stayed.
    pub fn has_agreed(&self) -> bool {
        self.stats.agreed
    }

    fn object(&mut self, under: Target<'a>, fragment: &'a [Member<'a>], kind: Type, rule: MergeRule) -> Outcome<'a> {
        let mut result = under.current.filter(|now| matches!(now, Json::Object(_))).unwrap_or(NOTHING);
        for (key, value) in fragment {
            if key.starts_with('$') {
                return Err(self.unknown_directive(key));
            }
            self.path.push(PathElement::Member(key));
            let below = Target { current: result.get(key), original: under.original.and_then(|was| was.get(key)) };
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
        under: Target<'a>,
        value: Json<'a>,
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        let by_key = match slot.kind {
            Type::Object(_) | Type::Map(_) => true,
            // No schema says what it is. Replacing it would take the pod's keys away, and nobody asked for that.
            Type::Any => matches!(under.current, Some(Json::Object(_))) || is_directed(&value),
            _ => false,
        };
        let merged = match (slot.kind, value) {
            (_, Json::Null) => {
                let goes = under.current.is_some() && self.may_delete(under, slot, rule)?;
                return Ok(under.current.filter(|_| !goes));
            }
            (_, Json::Object(members)) if by_key => match self.directive_of(value)? {
                Some(directive) => return self.directed(directive, under, members, slot, rule),
                None => self.object(under, members, slot.kind, rule)?,
            },
            (Type::List(_), Json::Array(items)) => self.list(under, value, items, slot, rule)?,
            _ => return self.leaf(under, value, slot, rule).map(Some),
        };
        Ok((under.current.is_some() || !merged.is_empty() || slot.may_be_empty()).then_some(merged))
    }

    fn list(
        &mut self,
        under: Target<'a>,
        value: Json<'a>,
        items: &'a [Json<'a>],
        slot: Slot,
        rule: MergeRule,
    ) -> Outcome<'a> {
        match slot.field {
            Some(field) if !field.list.keys().is_empty() => self.list_map(under, items, slot, field, rule),
            Some(Field { list: list @ (ListType::Set | ListType::Prepend), .. }) => {
                self.list_set(under, items, *list, rule)
            }
            Some(Field { list: ListType::NodeSelectorTerms, .. }) => self.and_terms(under, items, rule),
            _ => self.leaf(under, value, slot, rule),
        }
    }

    /// One value against another: the place where the conflict rule decides.
    fn leaf(&mut self, under: Target<'a>, value: Json<'a>, slot: Slot, rule: MergeRule) -> Outcome<'a> {
        let value = self.plain(value)?;
        if rule.conflict == Conflict::Deny {
            self.check_deny(under, value, slot)?;
        }
        let Some(now) = under.current else { return Ok(value) };
        // What the API server would make of it is the same: no operation.
        if defaulted::semantically_equal(now, value, slot.kind) {
            self.stats = MergeStats { agreed: true, replaced: self.stats.replaced || now != value };
            return Ok(now);
        }
        self.stats.replaced = true;
        let keeps = rule.conflict == Conflict::Keep && under.original.is_some_and(|was| self.is_explicit(was, slot));
        Ok(if keeps { now } else { value })
    }

    /// What `Deny` refuses: another value than the pod's own, and, where the pod has none, another than a layer of
    /// the same rule gave. (Or the pod, created again from what came out, would be refused by the first of the two.)
    fn check_deny(&mut self, under: Target<'a>, value: Json<'a>, slot: Slot) -> Result<(), MergeError> {
        let agrees =
            |other: Option<Json<'a>>| other.is_some_and(|other| defaulted::semantically_equal(other, value, slot.kind));
        if under.original.is_some_and(|was| self.is_explicit(was, slot)) {
            return if agrees(under.original) { Ok(()) } else { Err(self.conflict()) };
        }
        if under.current.is_some() && !agrees(under.current) && self.is_under_deny_path() {
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

    /// Whether what stands at the current path goes, as a fragment wants it to.
    fn may_delete(&mut self, under: Target<'a>, slot: Slot, rule: MergeRule) -> Result<bool, MergeError> {
        self.may_direct(rule)?;
        let keeps = rule.conflict == Conflict::Keep && under.original.is_some_and(|was| self.is_explicit(was, slot));
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
