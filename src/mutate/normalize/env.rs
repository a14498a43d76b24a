//! Removes duplicate env names.

use super::Normalizer;
use crate::json::Json;
use crate::k8s::defaults::{hidden, hides};

impl<'a> Normalizer<'_, 'a> {
    /// Keeps only the last entry of a duplicate env name if the API server would warn about it, also when the
    /// duplicate is the pod's own: a ClearML task with the same `-e` twice fails on that warning. A name stays
    /// duplicate if a variable refers to the earlier value, or if it identifies the task.
    pub(super) fn env(&mut self, list: &'static str, container: Json<'a>) -> Json<'a> {
        let Some(env) = container.get("env") else { return container };
        let entries = env.items();
        let hidden = hidden(entries);
        if hidden.is_empty() {
            return container;
        }
        let name = container.text("name");
        let is_task_container = list == "containers" && self.task.is_task_container(name);
        let mut drop = vec![false; entries.len()];
        for variable in hidden.into_iter().filter(|it| !is_task_container || !self.task.identity_env().contains(it)) {
            let dropped = stale(entries, variable);
            if !dropped.is_empty() {
                for index in dropped {
                    drop[index] = true;
                }
                self.removed.push(format!("spec.{list}[{name}].env[{variable}]"));
            }
        }
        if !drop.contains(&true) {
            return container;
        }
        let kept = entries.iter().zip(&drop).filter(|(_, drop)| !**drop).map(|(entry, _)| *entry);
        container.with("env", Json::array(kept, self.arena), self.arena)
    }
}

/// Returns the indexes of the entries that a later one hides; none if another variable between them refers to the
/// name.
fn stale(env: &[Json<'_>], name: &str) -> Vec<usize> {
    let indexes: Vec<usize> = (0..env.len()).filter(|index| env[*index].text("name") == name).collect();
    let Some(last) = indexes.iter().skip(1).rev().find(|index| hides(&env[**index], name)) else { return Vec::new() };
    let reference = format!("$({name})");
    let between = &env[indexes[0]..*last];
    let refers = |entry: &Json<'_>| entry.text("name") != name && entry.text("value").contains(&reference);
    if between.iter().any(refers) {
        return Vec::new();
    }
    indexes.iter().copied().filter(|index| index < last).collect()
}
