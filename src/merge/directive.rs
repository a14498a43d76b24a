//! Executes `$patch` directives, which remove values from a pod.
//!
//! `$patch: delete` in a list element removes the element with its key; in a map or object it removes the whole.
//! `$patch: replace` in an element of its own replaces the list; in a map or object it replaces the whole. The other
//! directives of strategic merge patches (`$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) are
//! written by `kubectl apply` for itself; they are errors that name the directive.

use bumpalo::collections::Vec as ArenaVec;

use super::{Conflict, EMPTY, MergeError, MergeResult, MergeRule, Merger, Slot, Target};
use crate::json::{Json, Member};
use crate::k8s::labels::TOKEN_VOLUME;
use crate::k8s::patch::{PathElement, display_path};

/// The key of a directive.
const PATCH: &str = "$patch";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    Delete,
    Replace,
}

/// Returns true if `value` is an object with a directive.
pub fn is_directed(value: &Json<'_>) -> bool {
    value.get(PATCH).is_some()
}

impl<'a> Merger<'a, '_> {
    /// Returns the directive of `value`, if any.
    pub(super) fn directive_of(&self, value: Json<'a>) -> Result<Option<Directive>, MergeError> {
        match value.get(PATCH) {
            None => Ok(None),
            Some(Json::Str("delete")) => Ok(Some(Directive::Delete)),
            Some(Json::Str("replace")) => Ok(Some(Directive::Replace)),
            Some(_) => Err(self.directive_error("$patch must be delete or replace")),
        }
    }

    /// Executes the directive of a map or object.
    pub(super) fn execute(
        &mut self,
        directive: Directive,
        target: Target<'a>,
        members: &'a [Member<'a>],
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        self.may_direct(rule)?;
        let rest = Json::object(members.iter().copied().filter(|(key, _)| *key != PATCH), self.arena);
        if rule.conflict == Conflict::Keep {
            return self.execute_keeping(directive, target, rest, slot, rule);
        }
        let rest = if directive == Directive::Replace { self.plain(rest)? } else { EMPTY };
        let removes =
            |current: Json<'a>| current.members().iter().any(|(key, value)| rest.get(key).as_ref() != Some(value));
        if target.current.is_some_and(removes) {
            self.remove(rule)?;
        }
        Ok(Some(rest).filter(|rest| !rest.is_empty()))
    }

    /// Executes a directive under `Keep`: explicit members stay, each judged by itself.
    fn execute_keeping(
        &mut self,
        directive: Directive,
        target: Target<'a>,
        rest: Json<'a>,
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        let rest = if directive == Directive::Replace { rest } else { EMPTY };
        let mut kept = ArenaVec::new_in(self.arena);
        for (key, value) in target.current.unwrap_or(EMPTY).members() {
            self.path.push(PathElement::Member(key));
            let original = target.original.and_then(|original| original.get(key));
            if rest.get(key).is_some()
                || original.is_some_and(|original| self.is_explicit(original, Slot::for_key(slot.kind, key)))
            {
                kept.push((*key, *value));
            }
            self.path.pop();
        }
        if kept.len() < target.current.map_or(0, |current| current.members().len()) {
            self.remove(rule)?;
        }
        let current = Some(Json::Object(kept.into_bump_slice()));
        let merged = self.object(Target { current, ..target }, rest.members(), slot.kind, rule)?;
        Ok(Some(merged).filter(|merged| !merged.is_empty() || target.original.is_some()))
    }

    /// Returns the elements of a list that remain before the fragment's elements are applied: all, unless it contains
    /// `$patch: replace`. `is_own` tells the elements that the submitter set.
    pub(super) fn remaining(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Json<'a>],
        is_own: impl Fn(&mut Self, Json<'a>) -> bool,
        rule: MergeRule,
    ) -> Result<ArenaVec<'a, Json<'a>>, MergeError> {
        let base = target.current.map_or(&[][..], |current| current.items());
        let mut remaining = self.vec(base.iter().copied());
        let mut replaces = false;
        for item in fragment.iter().filter(|item| is_directed(item)) {
            if self.directive_of(*item)? == Some(Directive::Replace) {
                if item.members().len() > 1 {
                    return Err(self.directive_error("$patch: replace must be the only key of its element"));
                }
                replaces = true;
            }
        }
        if replaces {
            self.may_direct(rule)?;
            let keeps = rule.conflict == Conflict::Keep;
            remaining.retain(|item| is_token(item) || (keeps && is_own(self, *item)));
            if remaining.len() < base.len() {
                self.remove(rule)?;
            }
        }
        Ok(remaining)
    }

    /// Returns `value` without nulls and directives, for a place where nothing exists that they could remove; the value
    /// itself if it has none.
    pub(super) fn plain(&self, value: Json<'a>) -> MergeResult<'a> {
        if is_plain(value) { Ok(value) } else { Ok(self.stripped(value)?.unwrap_or(EMPTY)) }
    }

    fn stripped(&self, value: Json<'a>) -> Result<Option<Json<'a>>, MergeError> {
        match value {
            Json::Object(_) if self.directive_of(value)? == Some(Directive::Delete) => Ok(None),
            Json::Object(members) => {
                let mut kept = ArenaVec::new_in(self.arena);
                for (key, member) in members.iter().filter(|(key, member)| *key != PATCH && *member != Json::Null) {
                    if key.starts_with('$') {
                        return Err(self.unknown_directive(key));
                    }
                    kept.extend(self.stripped(*member)?.map(|member| (*key, member)));
                }
                Ok(Some(Json::Object(kept.into_bump_slice())))
            }
            Json::Array(items) => {
                let mut kept = ArenaVec::new_in(self.arena);
                for item in items.iter().filter(|item| !is_directed(item) || item.members().len() > 1) {
                    kept.extend(self.stripped(*item)?);
                }
                Ok(Some(Json::Array(kept.into_bump_slice())))
            }
            _ => Ok(Some(value)),
        }
    }

    /// Checks that the rule permits directives: layers whose rule is `Deny` cannot remove anything.
    pub(super) fn may_direct(&self, rule: MergeRule) -> Result<(), MergeError> {
        if rule.conflict == Conflict::Deny {
            Err(self.directive_error("a layer whose conflict is Deny cannot remove anything"))
        } else {
            Ok(())
        }
    }

    pub(super) fn unknown_directive(&self, key: &str) -> MergeError {
        self.directive_error(&format!("{key} is not supported; $patch: delete and $patch: replace are"))
    }

    pub(super) fn directive_error(&self, what: &str) -> MergeError {
        MergeError::Directive(format!("{}: {what}", display_path(&self.path)))
    }
}

fn is_plain(value: Json<'_>) -> bool {
    match value {
        Json::Object(members) => {
            members.iter().all(|(key, member)| !key.starts_with('$') && *member != Json::Null && is_plain(*member))
        }
        Json::Array(items) => items.iter().all(|item| is_plain(*item)),
        _ => true,
    }
}

/// Returns true for the token volume and its mounts: they are hidden from modules, so a replaced list keeps them.
fn is_token(item: &Json<'_>) -> bool {
    item.get("name").and_then(|name| name.as_str()).is_some_and(|name| name.starts_with(TOKEN_VOLUME))
}
