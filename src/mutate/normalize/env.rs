//! Env names that stand twice.

use super::Normalizer;
use crate::json::{Json, fast_eq};

/// Up to this many entries are compared with each other; of more, the names are sorted.
const FEW: usize = 64;

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

/// The names of which an entry hides an earlier one, as the API server counts: not where it builds upon it
/// (`PATH=$(PATH):/bin`).
pub fn hidden<'a>(env: &[Json<'a>]) -> Vec<&'a str> {
    let names: Vec<&'a str> = env.iter().map(|entry| entry.text("name")).collect();
    let mut found = Vec::new();
    if !any_twice(&names) {
        return found;
    }
    for (index, name) in names.iter().copied().enumerate().skip(1) {
        if names[..index].contains(&name) && hides(&env[index], name) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn any_twice(names: &[&str]) -> bool {
    if names.len() <= FEW {
        return names.iter().enumerate().any(|(index, name)| names[..index].iter().any(|other| fast_eq(name, other)));
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

fn hides(entry: &Json<'_>, name: &str) -> bool {
    let value = entry.text("value");
    let reference = format!("$({name})");
    entry.get("valueFrom").is_some() || value == reference || !value.contains(&reference)
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
