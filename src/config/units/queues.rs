//! Indexes the queues by id and by pod label, and finds queues that pods cannot distinguish.

use std::collections::BTreeMap;

use crate::config::units::sections::Sections;
use crate::merge::layer::Source;
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Queue, Queues, Unit};

/// The ids and labels by which pods name the queues of a configuration.
pub(crate) struct QueueIdentifiers<'a> {
    by_id: BTreeMap<&'a str, Vec<&'a str>>,
    by_label: BTreeMap<String, Vec<&'a str>>,
    ids: BTreeMap<&'a str, &'a str>,
}

impl<'a> QueueIdentifiers<'a> {
    /// Collects the names and ids of all queues.
    pub(crate) fn from_sections(sections: &Sections<'a>) -> Self {
        let mut identifiers = Self { by_id: BTreeMap::new(), by_label: BTreeMap::new(), ids: BTreeMap::new() };
        for (name, definitions) in &sections.queues {
            identifiers.by_label.entry(canonical_queue_name(name)).or_default().push(name);
            if let Some(id) = definitions.iter().find_map(|definition| definition.node.text("id")) {
                identifiers.by_id.entry(id).or_default().push(name);
                identifiers.ids.insert(name, id);
            }
        }
        identifiers
    }

    /// Indexes the queues by id and label. Of two with one key, the one with a valid version has it. If none has one, an
    /// invalid one has the key, so that its pods are denied and not treated as pods of an unknown queue.
    pub(crate) fn index(&self, units: Vec<Unit<Queue>>) -> Queues {
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
            // pods must name these by their ids: the label is ambiguous
            if label.is_empty() || units.len() > 1 && units.iter().all(|(_, has_id)| *has_id) {
                continue;
            }
            for (unit, _) in &units {
                claim_key(&mut queues.by_name, label.clone(), unit);
            }
        }
        queues
    }

    /// Returns the configured id of a queue.
    fn id_of(&self, name: &str) -> Option<&'a str> {
        self.ids.get(name).copied()
    }

    /// Returns an error if pods cannot distinguish this queue from another.
    pub(crate) fn conflict(&self, name: &str) -> Option<String> {
        let other = |names: &[&'a str]| names.iter().find(|other| **other != name).copied();
        if let Some((id, other)) = self.id_of(name).and_then(|id| Some((id, other(self.by_id.get(id)?)?))) {
            return Some(format!("has the same id `{id}` as queues.{other}"));
        }
        let label = canonical_queue_name(name);
        let names = self.by_label.get(&label).filter(|_| !label.is_empty())?;
        let without_id = names.iter().any(|name| !self.ids.contains_key(name));
        let other = other(names).filter(|_| without_id)?;
        Some(format!("has the same pod label `{label}` as queues.{other}: set the id of both"))
    }
}

fn claim_key(units: &mut BTreeMap<String, Unit<Queue>>, key: String, unit: &Unit<Queue>) {
    if units.get(&key).is_none_or(|other| other.last_valid.is_none() && unit.last_valid.is_some()) {
        units.insert(key, unit.clone());
    }
}
