//! Env names that stand twice.

use super::Normalizer;
use crate::json::Json;
use crate::k8s::defaults::hidden;
use crate::k8s::defaults::hides;

impl<'a> Normalizer<'_, 'a> {
    /// Folds a name that stands twice to the last, where the API server would warn of it, also when the pod itself
    /// brought it: a ClearML task whose owner gave `-e` twice fails on that warning. What refers to the earlier value
    /// keeps it, and env that says who the task is stays as it is.
    pub(super) fn env(&mut self, list: &'static str, container: Json<'a>) -> Json<'a> {
        let Some(env) = container.get("env") else { return container };
        let entries = env.items();
        let hidden = hidden(entries);
        if hidden.is_empty() {
            return container;
        }
        let name = container.text("name");
        let may_be_task = list == "containers" && self.task.is_task_container(name);
        let mut drop = vec![false; entries.len()];
        for variable in hidden.into_iter().filter(|it| !may_be_task || !self.task.identity_env().contains(it)) {
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

/// The places before the last entry that hides the others; none where another variable between refers to the name.
fn stale(env: &[Json<'_>], name: &str) -> Vec<usize> {
    let places: Vec<usize> = (0..env.len()).filter(|index| env[*index].text("name") == name).collect();
    let Some(last) = places.iter().skip(1).rev().find(|index| hides(&env[**index], name)) else { return Vec::new() };
    let reference = format!("$({name})");
    let between = &env[places[0]..*last];
    let refers = |entry: &Json<'_>| entry.text("name") != name && entry.text("value").contains(&reference);
    if between.iter().any(refers) {
        return Vec::new();
    }
    places.iter().copied().filter(|place| place < last).collect()
}
