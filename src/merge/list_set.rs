//! Merges lists whose elements have no key: missing elements are added.

use bumpalo::collections::Vec as ArenaVec;

use super::directive::is_directed;
use super::{Conflict, MergeError, MergeResult, MergeRule, Merger, Target};
use crate::json::Json;
use crate::k8s::patch::{PathElement, display_path};
use crate::k8s::schema::ListType;

impl<'a> Merger<'a, '_> {
    /// Merges a set (tolerations) or a list whose new elements are prepended (`envFrom`, preferred affinity,
    /// capabilities).
    pub(super) fn list_set(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Json<'a>],
        list: ListType,
        rule: MergeRule,
    ) -> MergeResult<'a> {
        let base = target.current.unwrap_or(Json::Array(&[]));
        let mut result = self.remaining_without_keys(target, fragment, rule)?;
        let mut changed = result.len() != base.items().len();
        let mut front = 0;
        for item in fragment.iter().filter(|item| !is_directed(item)) {
            let item = self.plain(*item)?;
            if list == ListType::Set && matches!(item, Json::Object(_)) {
                changed |= self.merge_toleration(&mut result, target.original, item, rule)?;
            } else if !result.contains(&item) {
                let index = if list == ListType::Prepend { front } else { result.len() };
                result.insert(index, item);
                front += 1;
                changed = true;
            }
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    fn remaining_without_keys(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Json<'a>],
        rule: MergeRule,
    ) -> Result<ArenaVec<'a, Json<'a>>, MergeError> {
        if fragment.iter().any(|item| is_directed(item) && item.members().len() > 1) {
            return Err(
                self.directive_error("the elements of this list have no merge key; only $patch: replace is supported")
            );
        }
        let is_own =
            |_: &mut Self, item: Json<'a>| target.original.is_some_and(|original| original.items().contains(&item));
        self.remaining(target, fragment, is_own, rule)
    }

    /// Merges a toleration. Two that differ in their seconds only are one; a plugin's default gives way.
    fn merge_toleration(
        &mut self,
        result: &mut ArenaVec<'a, Json<'a>>,
        original: Option<Json<'a>>,
        item: Json<'a>,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        let before = result.len();
        result.retain(|present| !superseded_by(present, &item));
        let mut replaced = result.len() < before;
        let mut changed = replaced;
        if let Some(index) = result.iter().position(|present| tolerates_same(present, &item)) {
            let present = result[index];
            let own = !is_defaulted(&present) && original.is_some_and(|original| original.items().contains(&present));
            if rule.conflict == Conflict::Deny {
                self.check_deny_toleration(present, own, item)?;
            }
            if seconds_differ(&present, &item) && !(own && rule.conflict == Conflict::Keep) {
                result[index] = item;
                (changed, replaced) = (true, true);
            }
        } else {
            if rule.conflict == Conflict::Deny {
                self.check_deny_toleration(item, false, item)?;
            }
            result.insert(original_index(result, original.map_or(&[][..], |original| original.items()), item), item);
            changed = true;
        }
        if replaced {
            // An element without a key cannot be replaced: the old one is removed, and another added.
            self.removed.push(display_path(&self.path));
        }
        Ok(changed)
    }

    /// Checks a toleration's seconds against the rule `Deny`.
    fn check_deny_toleration(&mut self, present: Json<'a>, own: bool, item: Json<'a>) -> Result<(), MergeError> {
        let parts = TOLERATION.map(|field| item.get(field).and_then(|value| value.as_str()).unwrap_or_default());
        self.path.push(PathElement::Element(0, Some(self.arena.alloc_str(&parts.join("/")))));
        let differs = seconds_differ(&present, &item);
        if differs && (own || self.is_under_deny_path()) {
            return Err(self.conflict());
        }
        if !own {
            self.deny_paths.push(self.path.clone());
        }
        self.path.pop();
        Ok(())
    }

    /// Merges node selector terms. They are alternatives: appending one would let the pod evade the others, so each of
    /// them gets the layer's requirements in addition.
    pub(super) fn and_terms(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Json<'a>],
        rule: MergeRule,
    ) -> MergeResult<'a> {
        let base = target.current.unwrap_or(Json::Array(&[]));
        let remaining = self.remaining_without_keys(target, fragment, rule)?;
        let mut changed = remaining.len() != base.items().len();
        let mut wanted = self.vec([]);
        for term in fragment.iter().filter(|term| !is_directed(term)) {
            wanted.push(self.plain(*term)?);
        }
        if remaining.is_empty() {
            return Ok(Json::Array(wanted.into_bump_slice()));
        }
        // A term without an expression matches no node: it is no alternative.
        wanted.retain(|term| !term.is_empty());
        let mut terms = self.vec([]);
        for own in remaining {
            // A second application must change nothing, and a term that matches no node must not match one.
            if own.is_empty() || wanted.is_empty() || wanted.iter().any(|wanted| implies(&own, wanted)) {
                terms.push(own);
                continue;
            }
            for wanted in &wanted {
                let term = self.combine_terms(own, *wanted);
                changed |= !term.ptr_eq(&own);
                terms.push(term);
            }
        }
        if !changed {
            return Ok(base);
        }
        // One term may be replaced by several: it counts as removed, but no requirement is gone.
        self.removed.push(display_path(&self.path));
        Ok(Json::Array(terms.into_bump_slice()))
    }

    /// Returns the term with the requirements of both.
    fn combine_terms(&self, own: Json<'a>, wanted: Json<'a>) -> Json<'a> {
        wanted.members().iter().fold(own, |term, (key, expressions)| {
            let present = term.get(key).unwrap_or(Json::Array(&[]));
            let missing = expressions.items().iter().copied().filter(|e| !present.items().contains(e));
            let all = Json::array(present.items().iter().copied().chain(missing), self.arena);
            if all.items().len() == present.items().len() { term } else { term.with(key, all, self.arena) }
        })
    }
}

/// Returns the index for a toleration: at the end, or the original position of one of the pod's own that was
/// superseded.
fn original_index(result: &[Json<'_>], original: &[Json<'_>], item: Json<'_>) -> usize {
    let own = original.iter().position(|own| *own == item);
    let later = own.and_then(|own| result.iter().position(|other| original[own + 1..].contains(other)));
    later.unwrap_or(result.len())
}

/// Returns true if a node selector term has all requirements of another.
pub fn implies(term: &Json<'_>, wanted: &Json<'_>) -> bool {
    wanted.members().iter().all(|(key, expressions)| {
        let present = term.get(key).unwrap_or(Json::Array(&[]));
        expressions.items().iter().all(|expression| present.items().contains(expression))
    })
}

/// The fields that identify the tolerated taint; `tolerationSeconds` is not one of them.
const TOLERATION: [&str; 4] = ["key", "operator", "value", "effect"];

/// Returns true if two tolerations differ in their seconds at most. A missing operator is `Equal`.
fn tolerates_same(a: &Json<'_>, b: &Json<'_>) -> bool {
    let field = |item: &Json<'_>, name: &str| {
        let text = item.get(name).map(|value| value.as_str().unwrap_or("?").to_owned()).unwrap_or_default();
        if name == "operator" && text.is_empty() { "Equal".to_owned() } else { text }
    };
    TOLERATION.iter().all(|name| field(a, name) == field(b, name))
}

/// Returns true if the seconds of two tolerations of one taint differ.
fn seconds_differ(a: &Json<'_>, b: &Json<'_>) -> bool {
    a.get("tolerationSeconds") != b.get("tolerationSeconds")
}

/// Returns true for a toleration that the `DefaultTolerationSeconds` plugin adds to every pod; it must not shorten a
/// layer's.
fn is_defaulted(toleration: &Json<'_>) -> bool {
    let text = |field: &str| toleration.get(field).and_then(|value| value.as_str());
    matches!(text("key"), Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
        && text("operator") == Some("Exists")
        && text("effect") == Some("NoExecute")
        && toleration.get("tolerationSeconds") == Some(Json::Uint(300))
}

/// Returns true if the plugin would not have added its default to a pod with the layer's toleration: that one tolerates
/// this taint, or every taint. The first match counts, so the default would still evict the pod after 300 s.
fn superseded_by(present: &Json<'_>, layers: &Json<'_>) -> bool {
    let text = |field: &str| layers.get(field).and_then(|value| value.as_str()).unwrap_or_default();
    let key = present.get("key").and_then(|key| key.as_str());
    is_defaulted(present)
        && (text("key").is_empty() || Some(text("key")) == key)
        && matches!(text("effect"), "" | "NoExecute")
        && !tolerates_same(present, layers)
}
