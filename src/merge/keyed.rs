//! Lists whose elements have a key.

use bumpalo::collections::Vec as ArenaVec;

use super::directive::is_directed;
use super::{Conflict, Merger, Outcome, Rule, Slot, Trouble, Under};
use crate::json::Json;
use crate::patch::{Step, has_key, key_text, readable};
use crate::schema::{Field, List};
use crate::snapshot::PRIMARY;

impl<'a> Merger<'a, '_> {
    /// Lays elements over those with the same key, and adds those whose key is not there.
    pub(super) fn keyed(
        &mut self,
        under: Under<'a>,
        fragment: &'a [Json<'a>],
        slot: Slot,
        field: &'static Field,
        rule: Rule,
    ) -> Outcome<'a> {
        let base = under.now.unwrap_or(Json::Array(&[]));
        let is_own = |merger: &mut Self, item: Json<'a>| merger.is_own_element(under.was, item, field.list);
        let mut result = self.staying(under, fragment, is_own, rule)?;
        let mut changed = result.len() != base.items().len();
        // As in a patch of the API server's, the order of a directive and an element says nothing.
        for item in fragment.iter().filter(|item| is_directed(item) && item.members().len() > 1) {
            changed |= self.delete(*item, &mut result, under.was, field, rule)?;
        }
        for item in fragment.iter().filter(|item| !is_directed(item)) {
            let key = self.key(*item, field, rule)?;
            self.path.push(Step::Element(0, Some(key)));
            changed |= self.lay_element(&mut result, under.was, (key, *item), slot, rule)?;
            self.path.pop();
        }
        Ok(if changed { Json::Array(result.into_bump_slice()) } else { base })
    }

    /// What tells `item` from others; a fragment's entry `primary` lies over the pod's primary container, whatever
    /// that is called.
    fn key(&self, item: Json<'a>, field: &Field, rule: Rule) -> Result<&'a str, Trouble> {
        match key_text(&item, field.list, self.arena) {
            Some(PRIMARY) if rule.alias && field.name == "containers" => self.primary.ok_or(Trouble::NoPrimary),
            Some(key) => Ok(key),
            None => Err(self.trouble("an element without its key")),
        }
    }

    /// Whether the pod was submitted with this element, and not by a plugin.
    fn is_own_element(&mut self, was: Option<Json<'a>>, item: Json<'a>, list: List) -> bool {
        let Some(key) = key_text(&item, list, self.arena) else { return false };
        let there = was.is_some_and(|was| was.items().iter().any(|own| has_key(own, list, key)));
        self.path.push(Step::Element(0, Some(key)));
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
        rule: Rule,
    ) -> Result<bool, Trouble> {
        self.may_direct(rule)?;
        let (key, list) = (self.key(item, field, rule)?, field.list);
        let there = result.iter().any(|other| has_key(other, list, key));
        if !there || (rule.conflict == Conflict::Keep && self.is_own_element(was, item, list)) {
            return Ok(false);
        }
        self.path.push(Step::Element(0, Some(key)));
        self.remove(rule)?;
        self.path.pop();
        result.retain(|other| !has_key(other, list, key));
        Ok(true)
    }

    fn lay_element(
        &mut self,
        result: &mut ArenaVec<'a, Json<'a>>,
        was: Option<Json<'a>>,
        (key, item): (&'a str, Json<'a>),
        slot: Slot,
        rule: Rule,
    ) -> Result<bool, Trouble> {
        let Some(field) = slot.field else { return Ok(false) };
        let found = find(result, key, field.list);
        // As long as nothing was taken away, the pod's own elements are all there.
        let own = was.filter(|_| found.is_some() || !self.removed.is_empty());
        let own = own.and_then(|was| find(was.items(), key, field.list).map(|own| was.items()[own]));
        if field.name == "env" && rule.conflict == Conflict::Override {
            if !rule.keeps_env {
                self.forced.push(self.path.clone());
            } else if found.is_some() && self.forced.contains(&self.path) {
                // When the pod comes again it is on the pod, and stays.
                return Ok(false);
            }
        }
        let Some(index) = found else {
            let item = self.plain(item)?;
            if rule.conflict == Conflict::Deny {
                // Another layer may have taken away one of the pod's own.
                self.demand(Under { now: None, was: own }, item, slot.element())?;
            }
            let place = self.place(result, was, item, field);
            result.insert(place, item);
            return Ok(true);
        };
        let under = Under { now: Some(result[index]), was: own };
        let merged = if let List::KeyedWhole(keys) = field.list {
            self.whole(under, item, keys, slot, rule)?
        } else {
            let keys = field.list.keys();
            let rest = item.members().iter().copied().filter(|(key, _)| !keys.contains(key));
            let rest = ArenaVec::from_iter_in(rest, self.arena).into_bump_slice();
            self.object(under, rest, slot.element().kind, rule)?
        };
        if merged.same(&result[index]) {
            return Ok(false);
        }
        result[index] = merged;
        self.drop_earlier(result, index, key, field.list);
        Ok(true)
    }

    /// An element that is a union besides its key (`value` or `valueFrom`, a volume's source): a part replaces
    /// whatever part stood there, and an element that has no part says nothing.
    fn whole(&mut self, under: Under<'a>, item: Json<'a>, keys: &[&str], slot: Slot, rule: Rule) -> Outcome<'a> {
        let has_part = |item: Json<'a>| item.members().iter().any(|(key, _)| !keys.contains(key));
        let now = under.now.unwrap_or(item);
        // On a ClearML pod env is what the task's owner gave with `-e`, which beats the template there.
        let keeps = rule.keeps_env && rule.conflict == Conflict::Override && under.was.is_some();
        let env = slot.field.is_some_and(|field| field.name == "env");
        let rule = if keeps && env { Rule { conflict: Conflict::Keep, ..rule } } else { rule };
        let plain = self.plain(item)?;
        if has_part(plain) {
            return self.leaf(under, plain, slot.element(), rule);
        }
        let is_taken = |part: &Json<'a>| *part == Json::Null || is_directed(part);
        let gone = item.members().iter().filter(|(key, part)| is_taken(part) && now.get(key).is_some());
        let gone: Vec<&str> = gone.map(|(key, _)| *key).collect();
        if gone.is_empty() || !self.goes(under, slot.element(), rule)? {
            return Ok(now);
        }
        Ok(gone.iter().fold(now, |now, key| now.without(key, self.arena)))
    }

    /// A name that stood twice has one value from now on: the last, which is the one that counted.
    fn drop_earlier(&mut self, result: &mut ArenaVec<'a, Json<'a>>, kept: usize, key: &'a str, list: List) {
        let mut index = 0;
        let before = result.len();
        result.retain(|other| {
            index += 1;
            index - 1 == kept || !has_key(other, list, key)
        });
        if result.len() < before {
            self.removed.push(readable(&self.path));
        }
    }
}

/// The last of the elements with this key, as that is the one that counts.
fn find(items: &[Json<'_>], key: &str, list: List) -> Option<usize> {
    items.iter().rposition(|item| has_key(item, list, key))
}
