//! `$patch`: what a fragment takes away, in Kubernetes' own words.
//!
//! `$patch: delete` in an element takes away the element with its key, in a map or object the whole of it. `$patch:
//! replace` in an element of its own replaces the list, in a map or object the whole of it. The other directives of
//! strategic merge patches (`$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) are what `kubectl
//! apply` writes for itself; they are refused by name.

use super::{Conflict, MergeError, MergeRule, Merger, NOTHING, Outcome, Slot, Target};
use crate::json::{Json, Member};
use crate::k8s::labels::TOKEN_VOLUME;
use crate::k8s::patch::{PathElement, display_path};
use bumpalo::collections::Vec as ArenaVec;

/// The directive's key.
const PATCH: &str = "$patch";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Directive {
    Delete,
    Replace,
}

/// Whether `value` is an object with a directive.
pub fn is_directed(value: &Json<'_>) -> bool {
    value.get(PATCH).is_some()
}

impl<'a> Merger<'a, '_> {
    /// The directive that `value` holds, if any.
    pub(super) fn directive_of(&self, value: Json<'a>) -> Result<Option<Directive>, MergeError> {
        match value.get(PATCH) {
            None => Ok(None),
            Some(Json::Str("delete")) => Ok(Some(Directive::Delete)),
            Some(Json::Str("replace")) => Ok(Some(Directive::Replace)),
            Some(_) => Err(self.directive_error("$patch is neither delete nor replace")),
        }
    }

    /// Carries out what a map or object says of itself.
    pub(super) fn directed(
        &mut self,
        directive: Directive,
        under: Target<'a>,
        members: &'a [Member<'a>],
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        self.may_direct(rule)?;
        let rest = Json::object(members.iter().copied().filter(|(key, _)| *key != PATCH), self.arena);
        if rule.conflict == Conflict::Keep {
            return self.directed_to_keep(directive, under, rest, slot, rule);
        }
        let rest = if directive == Directive::Replace { self.plain(rest)? } else { NOTHING };
        let loses = |now: Json<'a>| now.members().iter().any(|(key, value)| rest.get(key).as_ref() != Some(value));
        if under.current.is_some_and(loses) {
            self.remove(rule)?;
        }
        Ok(Some(rest).filter(|rest| !rest.is_empty()))
    }

    /// Under `Keep`, the members that somebody wrote stay: each is judged by itself, as without the directive.
    fn directed_to_keep(
        &mut self,
        directive: Directive,
        under: Target<'a>,
        rest: Json<'a>,
        slot: Slot,
        rule: MergeRule,
    ) -> Result<Option<Json<'a>>, MergeError> {
        let rest = if directive == Directive::Replace { rest } else { NOTHING };
        let mut stays = ArenaVec::new_in(self.arena);
        for (key, value) in under.current.unwrap_or(NOTHING).members() {
            self.path.push(PathElement::Member(key));
            let was = under.original.and_then(|was| was.get(key));
            if rest.get(key).is_some() || was.is_some_and(|was| self.is_explicit(was, Slot::for_key(slot.kind, key))) {
                stays.push((*key, *value));
            }
            self.path.pop();
        }
        if stays.len() < under.current.map_or(0, |now| now.members().len()) {
            self.remove(rule)?;
        }
        let now = Some(Json::Object(stays.into_bump_slice()));
        let merged = self.object(Target { current: now, ..under }, rest.members(), slot.kind, rule)?;
        Ok(Some(merged).filter(|merged| !merged.is_empty() || under.original.is_some()))
    }

    /// What of a list stays before the fragment's elements are laid: all of it, unless it says `$patch: replace`.
    /// `is_own` are elements that somebody wrote.
    pub(super) fn remaining(
        &mut self,
        under: Target<'a>,
        fragment: &'a [Json<'a>],
        is_own: impl Fn(&mut Self, Json<'a>) -> bool,
        rule: MergeRule,
    ) -> Result<ArenaVec<'a, Json<'a>>, MergeError> {
        let base = under.current.map_or(&[][..], |now| now.items());
        let mut all = self.vec(base.iter().copied());
        let mut replaces = false;
        for item in fragment.iter().filter(|item| is_directed(item)) {
            if self.directive_of(*item)? == Some(Directive::Replace) {
                if item.members().len() > 1 {
                    return Err(self.directive_error("$patch: replace stands in an element of its own"));
                }
                replaces = true;
            }
        }
        if replaces {
            self.may_direct(rule)?;
            let keeps = rule.conflict == Conflict::Keep;
            all.retain(|item| is_token(item) || (keeps && is_own(self, *item)));
            if all.len() < base.len() {
                self.remove(rule)?;
            }
        }
        Ok(all)
    }

    /// `value` as it stands over nothing: there is nothing to take away, so that nulls and directives go. It is the
    /// very same value when it has none.
    pub(super) fn plain(&self, value: Json<'a>) -> Outcome<'a> {
        if is_plain(value) { Ok(value) } else { Ok(self.stripped(value)?.unwrap_or(NOTHING)) }
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

    /// Layers that deny add or agree: they take nothing away.
    pub(super) fn may_direct(&self, rule: MergeRule) -> Result<(), MergeError> {
        if rule.conflict == Conflict::Deny {
            Err(self.directive_error("a layer whose conflict is Deny takes nothing away"))
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

/// The token volume and its mounts are hidden from modules: nobody who replaces a list means them.
fn is_token(item: &Json<'_>) -> bool {
    item.get("name").and_then(|name| name.as_str()).is_some_and(|name| name.starts_with(TOKEN_VOLUME))
}
