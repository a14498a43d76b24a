//! Lists whose elements have a key.

use bumpalo::collections::Vec as ArenaVec;

use super::directive::is_directed;
use super::{Conflict, MergeError, MergeRule, Merger, Outcome, Slot, Target};
use crate::json::Json;
use crate::k8s::labels::PRIMARY;
use crate::k8s::patch::{PathElement, display_path, has_key, key_text};
use crate::k8s::schema::{Field, ListType};

impl<'a> Merger<'a, '_> {
    /// Lays elements over those with the same key, and adds those whose key is not there.
    pub(super) fn list_map(
        &mut self,
        under: Target<'a>,
        fragment: &'a [Json<'a>],
        slot: Slot,
        field: &'static Field,
        rule: MergeRule,
    ) -> Outcome<'a> {
        let base = under.current.unwrap_or(Json::Array(&[]));
        let is_own = |merger: &mut Self, item: Json<'a>| merger.is_own_element(under.original, item, field.list);
        let mut result = self.remaining(under, fragment, is_own, rule)?;
        let mut changed = result.len() != base.items().len();
        // As in a patch of the API server's, the order of a directive and an element says nothing.
        for item in fragment.iter().filter(|item| is_directed(item) && item.members().len() > 1) {
            changed |= self.delete(*item, &mut result, under.original, field, rule)?;
        }
        for item in fragment.iter().filter(|item| !is_directed(item)) {
            let key = self.key(*item, field, rule)?;
            self.path.push(PathElement::Element(0, Some(key)));
            changed |= self.apply_element(&mut result, under.original, (key, *item), slot, rule)?;
            self.path.pop();
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    /// What tells `item` from others; a fragment's entry `primary` lies over the pod's primary container, whatever
    /// that is called.
    fn key(&self, item: Json<'a>, field: &Field, rule: MergeRule) -> Result<&'a str, MergeError> {
        match key_text(&item, field.list, self.arena) {
            Some(PRIMARY) if rule.alias && field.name == "containers" => self.primary.ok_or(MergeError::NoPrimary),
            Some(key) => Ok(key),
            None => Err(self.directive_error("an element without its key")),
        }
    }

    /// Whether the pod was submitted with this element, and not by a plugin.
    fn is_own_element(&mut self, was: Option<Json<'a>>, item: Json<'a>, list: ListType) -> bool {
        let Some(key) = key_text(&item, list, self.arena) else { return false };
        let there = was.is_some_and(|was| was.items().iter().any(|own| has_key(own, list, key)));
        self.path.push(PathElement::Element(0, Some(key)));
        let wrote = there && self.managed_fields.set_by_submitter(&self.path);
        self.path.pop();
        wrote
    }

    /// `$patch: delete` of one element.
    fn delete(
        &mut self,
        item: Json<'a>,
        result: &mut ArenaVec<'a, Json<'a>>,
        was: Option<Json<'a>>,
        field: &Field,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        self.may_direct(rule)?;
        let (key, list) = (self.key(item, field, rule)?, field.list);
        let there = result.iter().any(|other| has_key(other, list, key));
        if !there || (rule.conflict == Conflict::Keep && self.is_own_element(was, item, list)) {
            return Ok(false);
        }
        self.path.push(PathElement::Element(0, Some(key)));
        self.remove(rule)?;
        self.path.pop();
        result.retain(|other| !has_key(other, list, key));
        Ok(true)
    }

    fn apply_element(
        &mut self,
        result: &mut ArenaVec<'a, Json<'a>>,
        was: Option<Json<'a>>,
        (key, item): (&'a str, Json<'a>),
        slot: Slot,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        let Some(field) = slot.field else { return Ok(false) };
        let found = find(result, key, field.list);
        // As long as nothing was taken away, the pod's own elements are all there.
        let own = was.filter(|_| found.is_some() || !self.removed.is_empty());
        let own = own.and_then(|was| find(was.items(), key, field.list).map(|own| was.items()[own]));
        if field.name == "env" && rule.conflict == Conflict::Override {
            if !rule.keeps_env {
                self.override_env_paths.push(self.path.clone());
            } else if found.is_some() && self.override_env_paths.contains(&self.path) {
                // When the pod comes again it is on the pod, and stays.
                return Ok(false);
            }
        }
        let Some(index) = found else {
            let item = self.plain(item)?;
            if rule.conflict == Conflict::Deny {
                // Another layer may have taken away one of the pod's own.
                self.check_deny(Target { current: None, original: own }, item, slot.element())?;
            }
            let place = self.insert_index(result, was, item, field);
            result.insert(place, item);
            return Ok(true);
        };
        let under = Target { current: Some(result[index]), original: own };
        let merged = if let ListType::MapAtomicItem(keys) = field.list {
            self.replace_whole(under, item, keys, slot, rule)?
        } else {
            let keys = field.list.keys();
            let rest = item.members().iter().copied().filter(|(key, _)| !keys.contains(key));
            let rest = ArenaVec::from_iter_in(rest, self.arena).into_bump_slice();
            self.object(under, rest, slot.element().kind, rule)?
        };
        if merged.ptr_eq(&result[index]) {
            return Ok(false);
        }
        result[index] = merged;
        self.drop_earlier(result, index, key, field.list);
        Ok(true)
    }

    /// An element that is a union besides its key (`value` or `valueFrom`, a volume's source): a part replaces
    /// whatever part stood there, and an element that has no part says nothing.
    fn replace_whole(
        &mut self,
        under: Target<'a>,
        item: Json<'a>,
        keys: &[&str],
        slot: Slot,
        rule: MergeRule,
    ) -> Outcome<'a> {
        let has_part = |item: Json<'a>| item.members().iter().any(|(key, _)| !keys.contains(key));
        let now = under.current.unwrap_or(item);
        // On a ClearML pod env is what the task's owner gave with `-e`, which beats the template there.
        let keeps = rule.keeps_env && rule.conflict == Conflict::Override && under.original.is_some();
        let env = slot.field.is_some_and(|field| field.name == "env");
        let rule = if keeps && env { MergeRule { conflict: Conflict::Keep, ..rule } } else { rule };
        let plain = self.plain(item)?;
        if has_part(plain) {
            return self.leaf(under, plain, slot.element(), rule);
        }
        let is_taken = |part: &Json<'a>| *part == Json::Null || is_directed(part);
        let gone = item.members().iter().filter(|(key, part)| is_taken(part) && now.get(key).is_some());
        let gone: Vec<&str> = gone.map(|(key, _)| *key).collect();
        if gone.is_empty() || !self.may_delete(under, slot.element(), rule)? {
            return Ok(now);
        }
        Ok(gone.iter().fold(now, |now, key| now.without(key, self.arena)))
    }

    /// A name that stood twice has one value from now on: the last, which is the one that counted.
    fn drop_earlier(&mut self, result: &mut ArenaVec<'a, Json<'a>>, kept: usize, key: &'a str, list: ListType) {
        let mut index = 0;
        let before = result.len();
        result.retain(|other| {
            index += 1;
            index - 1 == kept || !has_key(other, list, key)
        });
        if result.len() < before {
            self.removed.push(display_path(&self.path));
        }
    }
}

/// The last of the elements with this key, as that is the one that counts.
fn find(items: &[Json<'_>], key: &str, list: ListType) -> Option<usize> {
    items.iter().rposition(|item| has_key(item, list, key))
}
