//! Lists whose elements have no key: what is not yet there is added.

use bumpalo::collections::Vec as ArenaVec;

use super::directive::is_directed;
use super::{Conflict, MergeError, MergeRule, Merger, Outcome, Target};
use crate::json::Json;
use crate::k8s::patch::{PathElement, display_path};
use crate::k8s::schema::ListType;

impl<'a> Merger<'a, '_> {
    /// A set (tolerations) or a concatenation (`envFrom`, preferred affinity, capabilities).
    pub(super) fn list_set(
        &mut self,
        under: Target<'a>,
        fragment: &'a [Json<'a>],
        list: ListType,
        rule: MergeRule,
    ) -> Outcome<'a> {
        let base = under.current.unwrap_or(Json::Array(&[]));
        let mut result = self.unless_replaced(under, fragment, rule)?;
        let mut changed = result.len() != base.items().len();
        let mut front = 0;
        for item in fragment.iter().filter(|item| !is_directed(item)) {
            let item = self.plain(*item)?;
            if list == ListType::Set && matches!(item, Json::Object(_)) {
                changed |= self.merge_toleration(&mut result, under.original, item, rule)?;
            } else if !result.contains(&item) {
                let place = if list == ListType::Prepend { front } else { result.len() };
                result.insert(place, item);
                front += 1;
                changed = true;
            }
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    fn unless_replaced(
        &mut self,
        under: Target<'a>,
        fragment: &'a [Json<'a>],
        rule: MergeRule,
    ) -> Result<ArenaVec<'a, Json<'a>>, MergeError> {
        if fragment.iter().any(|item| is_directed(item) && item.members().len() > 1) {
            return Err(
                self.directive_error("the elements of this list have no key; only $patch: replace can be said of it")
            );
        }
        let is_own = |_: &mut Self, item: Json<'a>| under.original.is_some_and(|was| was.items().contains(&item));
        self.remaining(under, fragment, is_own, rule)
    }

    /// Adds a toleration. Two that differ in nothing but for how long are one; what a plugin added yields.
    fn merge_toleration(
        &mut self,
        result: &mut ArenaVec<'a, Json<'a>>,
        was: Option<Json<'a>>,
        item: Json<'a>,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        let before = result.len();
        result.retain(|present| !superseded_by(present, &item));
        let mut replaced = result.len() < before;
        let mut changed = replaced;
        if let Some(index) = result.iter().position(|present| tolerates_same(present, &item)) {
            let present = result[index];
            let own = !is_defaulted(&present) && was.is_some_and(|was| was.items().contains(&present));
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
            result.insert(original_index(result, was.map_or(&[][..], |was| was.items()), item), item);
            changed = true;
        }
        if replaced {
            // A list without keys has no replacing: the old one is taken away, and another added.
            self.removed.push(display_path(&self.path));
        }
        Ok(changed)
    }

    /// Under `Deny`, for how long is a value like others.
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

    /// Node selector terms are alternatives: appending one would let the pod escape the others, so what the layer
    /// requires is required in each of them.
    pub(super) fn and_terms(&mut self, under: Target<'a>, fragment: &'a [Json<'a>], rule: MergeRule) -> Outcome<'a> {
        let base = under.current.unwrap_or(Json::Array(&[]));
        let staying = self.unless_replaced(under, fragment, rule)?;
        let mut changed = staying.len() != base.items().len();
        let mut wanted = self.vec([]);
        for term in fragment.iter().filter(|term| !is_directed(term)) {
            wanted.push(self.plain(*term)?);
        }
        if staying.is_empty() {
            return Ok(Json::Array(wanted.into_bump_slice()));
        }
        // A term without an expression matches no node: an alternative that is none.
        wanted.retain(|term| !term.is_empty());
        let mut terms = self.vec([]);
        for own in staying {
            // Doing it twice must change nothing, and what matches no node must not match one.
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
        // One term may be several now, and another stands where it stood: no requirement is gone.
        self.removed.push(display_path(&self.path));
        Ok(Json::Array(terms.into_bump_slice()))
    }

    /// The term that demands what both demand.
    fn combine_terms(&self, own: Json<'a>, wanted: Json<'a>) -> Json<'a> {
        wanted.members().iter().fold(own, |term, (key, expressions)| {
            let present = term.get(key).unwrap_or(Json::Array(&[]));
            let missing = expressions.items().iter().copied().filter(|e| !present.items().contains(e));
            let all = Json::array(present.items().iter().copied().chain(missing), self.arena);
            if all.items().len() == present.items().len() { term } else { term.with(key, all, self.arena) }
        })
    }
}

/// Where a toleration goes: behind the others, and one of the pod's own that yielded back to where it stood.
fn original_index(result: &[Json<'_>], was: &[Json<'_>], item: Json<'_>) -> usize {
    let own = was.iter().position(|own| *own == item);
    let later = own.and_then(|own| result.iter().position(|other| was[own + 1..].contains(other)));
    later.unwrap_or(result.len())
}

/// Whether a node selector term has all expressions of another already.
pub fn implies(term: &Json<'_>, wanted: &Json<'_>) -> bool {
    wanted.members().iter().all(|(key, expressions)| {
        let present = term.get(key).unwrap_or(Json::Array(&[]));
        expressions.items().iter().all(|expression| present.items().contains(expression))
    })
}

/// What a toleration tolerates; the rest of it is for how long.
const TOLERATION: [&str; 4] = ["key", "operator", "value", "effect"];

/// Whether two tolerations differ in nothing but for how long. An operator that is not written is `Equal`.
fn tolerates_same(a: &Json<'_>, b: &Json<'_>) -> bool {
    let field = |item: &Json<'_>, name: &str| {
        let text = item.get(name).map(|value| value.as_str().unwrap_or("?").to_owned()).unwrap_or_default();
        if name == "operator" && text.is_empty() { "Equal".to_owned() } else { text }
    };
    TOLERATION.iter().all(|name| field(a, name) == field(b, name))
}

/// Of two that tolerate the same, whether for how long differs. (That one spells `Equal` and the other does not, says
/// nothing.)
fn seconds_differ(a: &Json<'_>, b: &Json<'_>) -> bool {
    a.get("tolerationSeconds") != b.get("tolerationSeconds")
}

/// What the `DefaultTolerationSeconds` plugin adds to every pod; it must not shorten what a layer asks for.
fn is_defaulted(toleration: &Json<'_>) -> bool {
    let text = |field: &str| toleration.get(field).and_then(|value| value.as_str());
    matches!(text("key"), Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
        && text("operator") == Some("Exists")
        && text("effect") == Some("NoExecute")
        && toleration.get("tolerationSeconds") == Some(Json::Uint(300))
}

/// Whether a plugin's default would not be there had the plugin seen a layer's toleration: that one tolerates the same
/// taint, or every taint. The first that matches counts, so that the plugin's would still evict after 300 s.
fn superseded_by(present: &Json<'_>, layers: &Json<'_>) -> bool {
    let text = |field: &str| layers.get(field).and_then(|value| value.as_str()).unwrap_or_default();
    let key = present.get("key").and_then(|key| key.as_str());
    is_defaulted(present)
        && (text("key").is_empty() || Some(text("key")) == key)
        && matches!(text("effect"), "" | "NoExecute")
        && !tolerates_same(present, layers)
}
