//! What pods call the queues: by id and by label, and which two they could not tell apart.

use std::collections::BTreeMap;

use super::sections::Sections;
use crate::merge::layer::Source;
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Queue, Queues, Unit};

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

    /// Files the queues under their ids and names. Where two want one place, the one that serves has it; where none
    /// does, a broken one stands there, so that its pods are refused and not taken for an unknown queue's.
    pub(crate) fn file(&self, units: Vec<Unit<Queue>>) -> Queues {
        let mut queues = Queues::default();
        let mut named: BTreeMap<String, Vec<(Unit<Queue>, bool)>> = BTreeMap::new();
        for unit in units {
            let Source::Queue(name) = &unit.source else { continue };
            let label = canonical_queue_name(name);
            let own = unit.last_valid.as_ref().and_then(|queue| queue.id.as_deref());
            let id = own.or_else(|| self.id_of(name)).map(str::to_owned);
            let has_id = id.is_some();
            if let Some(id) = id {
                claim_key(&mut queues.by_id, id, &unit);
            }
            named.entry(label).or_default().push((unit, has_id));
        }
        for (label, units) in named {
            // their ids tell them apart, and their label does not
            if label.is_empty() || units.len() > 1 && units.iter().all(|(_, has_id)| *has_id) {
                continue;
            }
            for (unit, _) in &units {
                claim_key(&mut queues.by_name, label.clone(), unit);
            }
        }
        queues
    }

    /// The id that is written for a queue.
    fn id_of(&self, name: &str) -> Option<&'a str> {
        self.ids.get(name).copied()
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

fn claim_key(places: &mut BTreeMap<String, Unit<Queue>>, key: String, unit: &Unit<Queue>) {
    if places.get(&key).is_none_or(|other| other.last_valid.is_none() && unit.last_valid.is_some()) {
        places.insert(key, unit.clone());
    }
}
