//! What pods call the queues: by id and by label, and which two they could not tell apart.

use std::collections::BTreeMap;

use super::sections::Sections;
use crate::snapshot::{Queue, Queues, Source, Unit};
use crate::task::canonical_queue_name;

/// Files a queue under its id and its name; where two want one place, the one that serves has it.
pub(crate) fn file_queue(queues: &mut Queues, unit: &Unit<Queue>, id: Option<&str>, by_name: bool) {
    let Source::Queue(name) = &unit.source else { return };
    let id = unit.good.as_ref().and_then(|queue| queue.id.as_deref()).or(id);
    let name = Some(canonical_queue_name(name)).filter(|name| by_name && !name.is_empty());
    for (map, key) in [(&mut queues.by_id, id.map(str::to_owned)), (&mut queues.by_name, name)] {
        let Some(key) = key else { continue };
        if map.get(&key).is_none_or(|other| other.good.is_none()) {
            map.insert(key, unit.clone());
        }
    }
}

/// What pods call the queues of a configuration.
pub(crate) struct Names<'a> {
    by_id: BTreeMap<&'a str, Vec<&'a str>>,
    by_label: BTreeMap<String, Vec<&'a str>>,
    ids: BTreeMap<&'a str, &'a str>,
}

impl<'a> Names<'a> {
    /// Reads the keys and the ids.
    pub(crate) fn of(sections: &Sections<'a>) -> Self {
        let mut names = Self { by_id: BTreeMap::new(), by_label: BTreeMap::new(), ids: BTreeMap::new() };
        for (name, parts) in &sections.queues {
            names.by_label.entry(canonical_queue_name(name)).or_default().push(name);
            if let Some(id) = parts.iter().find_map(|part| part.node.text("id")) {
                names.by_id.entry(id).or_default().push(name);
                names.ids.insert(name, id);
            }
        }
        names
    }

    /// The id that is written for a queue.
    pub(crate) fn id_of(&self, name: &str) -> Option<&'a str> {
        self.ids.get(name).copied()
    }

    /// Whether other queues have the same label; their ids tell them apart then.
    pub(crate) fn is_shared(&self, name: &str) -> bool {
        let label = canonical_queue_name(name);
        !label.is_empty() && self.by_label.get(&label).is_some_and(|names| names.len() > 1)
    }

    /// Why pods could not tell this queue from another.
    pub(crate) fn clash(&self, name: &str) -> Option<String> {
        let other = |names: &[&'a str]| names.iter().find(|other| **other != name).copied();
        if let Some((id, other)) = self.id_of(name).and_then(|id| Some((id, other(self.by_id.get(id)?)?))) {
            return Some(format!("has the id `{id}`, as queues.{other} has"));
        }
        let label = canonical_queue_name(name);
        let names = self.by_label.get(&label).filter(|_| !label.is_empty())?;
        let nameless = names.iter().any(|name| !self.ids.contains_key(name));
        let other = other(names).filter(|_| nameless)?;
        Some(format!("is `{label}` in a pod's label, as queues.{other} is: give the id of both"))
    }
}
