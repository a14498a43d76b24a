//! Merges lists whose elements have a key.

use bumpalo::collections::Vec as ArenaVec;

use super::directive::is_directed;
use super::{Conflict, MergeError, MergeResult, MergeRule, Merger, Slot, Target};
use crate::json::Json;
use crate::k8s::labels::PRIMARY;
use crate::k8s::patch::{PathElement, display_path, has_key, key_text};
use crate::k8s::schema::{Field, ListType};

impl<'a> Merger<'a, '_> {
    /// Merges elements into those with their keys, and adds elements whose keys are new.
    pub(super) fn list_map(
        &mut self,
        target: Target<'a>,
        fragment: &'a [Json<'a>],
        slot: Slot,
        field: &'static Field,
        rule: MergeRule,
    ) -> MergeResult<'a> {
        let base = target.current.unwrap_or(Json::Array(&[]));
        let is_own = |merger: &mut Self, item: Json<'a>| merger.is_own_element(target.original, item, field.list);
        let mut result = self.remaining(target, fragment, is_own, rule)?;
        let mut changed = result.len() != base.items().len();
        // As in a strategic merge patch, the order of a directive and an element does not matter.
        for item in fragment.iter().filter(|item| is_directed(item) && item.members().len() > 1) {
            changed |= self.delete(*item, &mut result, target.original, field, rule)?;
        }
        for item in fragment.iter().filter(|item| !is_directed(item)) {
            let key = self.key(*item, field, rule)?;
            self.path.push(PathElement::Element(0, Some(key)));
            changed |= self.apply_element(&mut result, target.original, (key, *item), slot, rule)?;
            self.path.pop();
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    /// Returns the key of `item`; of a fragment's entry `primary` the name of the pod's primary container.
    fn key(&self, item: Json<'a>, field: &Field, rule: MergeRule) -> Result<&'a str, MergeError> {
        match key_text(&item, field.list, self.arena) {
            Some(PRIMARY) if rule.alias && field.name == "containers" => self.primary.ok_or(MergeError::NoPrimary),
            Some(key) => Ok(key),
            None => Err(self.directive_error("an element lacks its merge key")),
        }
    }

    /// Returns true if the submitter, not a plugin, set this element.
    fn is_own_element(&mut self, original: Option<Json<'a>>, item: Json<'a>, list: ListType) -> bool {
        let Some(key) = key_text(&item, list, self.arena) else { return false };
        let exists = original.is_some_and(|original| original.items().iter().any(|own| has_key(own, list, key)));
        self.path.push(PathElement::Element(0, Some(key)));
        let is_set = exists && self.managed_fields.set_by_submitter(&self.path);
        self.path.pop();
        is_set
    }

    /// Executes `$patch: delete` in one element. Returns true if the list changed.
    fn delete(
        &mut self,
        item: Json<'a>,
        result: &mut ArenaVec<'a, Json<'a>>,
        original: Option<Json<'a>>,
        field: &Field,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        self.may_direct(rule)?;
        let (key, list) = (self.key(item, field, rule)?, field.list);
        let exists = result.iter().any(|other| has_key(other, list, key));
        if !exists || (rule.conflict == Conflict::Keep && self.is_own_element(original, item, list)) {
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
        original: Option<Json<'a>>,
        (key, item): (&'a str, Json<'a>),
        slot: Slot,
        rule: MergeRule,
    ) -> Result<bool, MergeError> {
        let Some(field) = slot.field else { return Ok(false) };
        let found = find(result, key, field.list);
        // Until something is removed, the pod's own elements are all in the result.
        let own = original.filter(|_| found.is_some() || !self.removed.is_empty());
        let own = own.and_then(|original| find(original.items(), key, field.list).map(|own| original.items()[own]));
        if field.name == "env" && rule.conflict == Conflict::Override {
            if !rule.keeps_env {
                self.override_env_paths.push(self.path.clone());
            } else if found.is_some() && self.override_env_paths.contains(&self.path) {
                // When the pod is created again, it has this env, which then stays.
                return Ok(false);
            }
        }
        let Some(index) = found else {
            let item = self.plain(item)?;
            if rule.conflict == Conflict::Deny {
                // Another layer may have removed one of the pod's own.
                self.check_deny(Target { current: None, original: own }, item, slot.element())?;
            }
            let new_index = self.insert_index(result, original, item, field);
            result.insert(new_index, item);
            return Ok(true);
        };
        let target = Target { current: Some(result[index]), original: own };
        let merged = if let ListType::MapAtomicItem(keys) = field.list {
            self.replace_whole(target, item, keys, slot, rule)?
        } else {
            let keys = field.list.keys();
            let rest = item.members().iter().copied().filter(|(key, _)| !keys.contains(key));
            let rest = ArenaVec::from_iter_in(rest, self.arena).into_bump_slice();
            self.object(target, rest, slot.element().kind, rule)?
        };
        if merged.ptr_eq(&result[index]) {
            return Ok(false);
        }
        result[index] = merged;
        self.drop_earlier(result, index, key, field.list);
        Ok(true)
    }

    /// Merges an element that is a union besides its key (`value` or `valueFrom`, a volume's source): its part replaces
    /// any part of the pod's element; without a part, it changes nothing.
    fn replace_whole(
        &mut self,
        target: Target<'a>,
        item: Json<'a>,
        keys: &[&str],
        slot: Slot,
        rule: MergeRule,
    ) -> MergeResult<'a> {
        let has_part = |item: Json<'a>| item.members().iter().any(|(key, _)| !keys.contains(key));
        let current = target.current.unwrap_or(item);
        // Env on a ClearML pod was set by the task's user with `-e`, which overrides the template.
        let keeps = rule.keeps_env && rule.conflict == Conflict::Override && target.original.is_some();
        let env = slot.field.is_some_and(|field| field.name == "env");
        let rule = if keeps && env { MergeRule { conflict: Conflict::Keep, ..rule } } else { rule };
        let plain = self.plain(item)?;
        if has_part(plain) {
            return self.leaf(target, plain, slot.element(), rule);
        }
        let is_removed = |part: &Json<'a>| *part == Json::Null || is_directed(part);
        let removed_parts = item.members().iter().filter(|(key, part)| is_removed(part) && current.get(key).is_some());
        let removed_parts: Vec<&str> = removed_parts.map(|(key, _)| *key).collect();
        if removed_parts.is_empty() || !self.may_delete(target, slot.element(), rule)? {
            return Ok(current);
        }
        Ok(removed_parts.iter().fold(current, |current, key| current.without(key, self.arena)))
    }

    /// Returns the index for a new element. Elements of layers precede the pod's own, so that `$(VAR)` references and
    /// `volumes[0]` keep their meaning; containers follow the pod's own; native sidecars precede all other init
    /// containers.
    fn insert_index(&self, result: &[Json<'a>], original: Option<Json<'a>>, item: Json<'a>, field: &Field) -> usize {
        let own = original.map_or(&[][..], |original| original.items());
        // Until something is removed, the pod's first element is still the first of its own in the result.
        let first = if self.removed.is_empty() { &own[..own.len().min(1)] } else { own };
        let key = |item: &Json<'a>| key_text(item, field.list, self.arena);
        // A removed element of the pod returns to its position among the pod's own.
        let original_index =
            if self.removed.is_empty() { None } else { own.iter().position(|own| key(own) == key(&item)) };
        if let Some(original_index) = original_index {
            let is_later = |other: &Json<'a>| own[original_index + 1..].iter().any(|own| key(own) == key(other));
            return result.iter().position(is_later).unwrap_or(result.len());
        }
        let is_own = |other: &Json<'a>| first.iter().any(|own| key(own) == key(other));
        let added = result.iter().position(is_own).unwrap_or(result.len());
        match field.name {
            "containers" => result.len(),
            "initContainers" if is_native_sidecar(&item) => {
                result[..added].iter().position(|other| !is_native_sidecar(other)).unwrap_or(added)
            }
            _ => added,
        }
    }

    /// Removes earlier elements with the same key: only the last one was effective.
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

/// Finds the last element with this key, which is the effective one.
fn find(items: &[Json<'_>], key: &str, list: ListType) -> Option<usize> {
    items.iter().rposition(|item| has_key(item, list, key))
}

fn is_native_sidecar(container: &Json<'_>) -> bool {
    container.get("restartPolicy").and_then(|policy| policy.as_str()) == Some("Always")
}
