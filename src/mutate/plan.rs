//! Chooses the layers and modules of a task pod, their order, and the configuration's facts about its user and queue.

use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::denial::{Denial, Reason};
use crate::model::pod::Pod;
use crate::model::snapshot::{Match, Module, Queue, Snapshot, Unit, UnitSpec, UnknownQueue};
use crate::model::task::Task;

/// The text for a unit without a valid version and without an error.
pub(crate) const NEVER_VALID: &str = "no version of it was ever valid";

/// The layers and modules for one pod.
pub struct Plan<'s> {
    /// in the order in which they are applied: those that keep, those that override, those that deny; inside each
    /// class base < environments < queue
    pub layers: Vec<&'s Layer>,
    /// in the order in which they run
    pub modules: Vec<&'s Module>,
    /// the configured queue
    pub queue: Option<&'s Queue>,
    /// the environment with the highest priority of those that apply
    pub environment: Option<&'s str>,
}

impl<'s> Plan<'s> {
    /// Chooses the layers and modules that apply. `None` is a pod that podgraft skips (`unknownQueue: Ignore`).
    ///
    /// # Errors
    /// A unit that applies has no valid version, or the pod names a queue or environment that does not exist.
    pub fn choose(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &'s Snapshot) -> Result<Option<Self>, Denial> {
        let queue = find_queue(task, pod, snapshot)?;
        if queue.is_none() && (task.queue_name.is_some() || task.queue_id.is_some()) {
            match snapshot.unknown_queue {
                UnknownQueue::Base => {}
                UnknownQueue::Ignore => return Ok(None),
                UnknownQueue::Deny => return Err(unknown_queue(task)),
            }
        }
        let base = match &snapshot.base {
            Some(unit) => Some(last_valid(unit)?),
            None => None,
        };
        let environments = matching_environments(task, pod, snapshot)?;
        let environment = environments.last().map(|(name, _)| *name);
        let units: Vec<&UnitSpec> = base
            .into_iter()
            .chain(environments.into_iter().map(|(_, unit)| unit))
            .chain(queue.map(|queue| &queue.spec))
            .collect();
        let modules = units.iter().flat_map(|unit| &unit.modules).map(AsRef::as_ref).collect();
        let layers = ordered_layers(&units, queue);
        Ok(Some(Self { layers, modules, queue, environment }))
    }
}

/// Returns the layers in the order in which they are applied. Layers that override come after layers that keep,
/// wherever they are listed: in listed order only about half of all mixed stacks give the same pod when they are
/// applied a second time. Layers that deny come last: if a later layer overrode one, the resulting pod would be denied
/// when it is created again.
fn ordered_layers<'s>(units: &[&'s UnitSpec], queue: Option<&'s Queue>) -> Vec<&'s Layer> {
    let listed = || {
        units.iter().flat_map(|unit| &unit.layers).filter_map(|layer| match (&layer.source, queue) {
            // The queue sees the base without the keys that it replaces.
            (Source::Base, Some(queue)) => queue.base.as_ref(),
            _ => Some(layer),
        })
    };
    let with_rule = |conflict: Conflict| listed().filter(move |layer| layer.conflict == conflict);
    [Conflict::Keep, Conflict::Override, Conflict::Deny].into_iter().flat_map(with_rule).collect()
}

fn last_valid<T>(unit: &Unit<T>) -> Result<&T, Denial> {
    unit.last_valid.as_deref().ok_or_else(|| {
        let error = unit.error.as_deref().unwrap_or(NEVER_VALID);
        Denial::new(Reason::ConfigInvalid, format!("{} has no valid configuration: {error}", unit.source))
    })
}

fn find_queue<'s>(task: &Task<'_, '_>, pod: &Pod<'_>, snapshot: &'s Snapshot) -> Result<Option<&'s Queue>, Denial> {
    let Some(unit) = snapshot.queues.find(task.queue_id, task.queue_name) else {
        return Ok(None);
    };
    let queue = last_valid(unit)?;
    let system = queue.system.as_ref().is_none_or(|system| *system == task.system.name);
    // Names are lossy: a pod with another id than the queue's belongs to another queue with the same label.
    let id = queue.id.as_deref().is_none_or(|id| task.queue_id.is_none_or(|own| own == id));
    Ok((system && id && (queue.matches.is_empty() || queue.matches.selects(pod))).then_some(queue))
}

fn unknown_queue(task: &Task<'_, '_>) -> Denial {
    let name = task.queue_name.or(task.queue_id).unwrap_or_default();
    Denial::new(Reason::UnknownQueue, format!("queue '{name}' is not configured, and unknownQueue is Deny"))
}

/// Returns the environments that apply, by priority, then by name.
fn matching_environments<'s>(
    task: &Task<'_, '_>,
    pod: &Pod<'_>,
    snapshot: &'s Snapshot,
) -> Result<Vec<(&'s str, &'s UnitSpec)>, Denial> {
    let mut found = task.environment.is_none();
    let mut list = Vec::new();
    for unit in &snapshot.environments {
        let named = matches!(&unit.source, Source::Environment(name) if Some(name.as_str()) == task.environment);
        let claimed = || unit.claimed_match.as_ref().is_some_and(|matches| !matches.is_empty() && matches.selects(pod));
        if unit.last_valid.is_none() && !named && !claimed() {
            continue;
        }
        let environment = last_valid(unit)?;
        let applies = if environment.matches.is_empty() { named } else { environment.matches.selects(pod) };
        if applies {
            list.push((environment.name.as_str(), &environment.spec));
        }
        found |= named && applies;
    }
    if found {
        return Ok(list);
    }
    let name = task.environment.unwrap_or_default();
    Err(Denial::new(
        Reason::UnknownEnvironment,
        format!("environment '{name}' does not exist or does not match this pod"),
    ))
}

impl Match {
    /// Returns true if there is no condition.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.pod_labels.is_empty()
    }

    /// Returns true if the pod meets every condition.
    pub fn selects(&self, pod: &Pod<'_>) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|namespace| namespace == pod.namespace))
            && self.pod_labels.iter().all(|(key, value)| pod.label(key) == Some(value))
    }
}
