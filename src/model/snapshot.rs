//! All configuration at one moment: immutable, behind one `Arc`, and a request's whole world.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::k8s::pod_security::Levels;
use crate::merge::layer::Layer;
use crate::merge::layer::Source;
use crate::merge::plan_cache::PlanCache;
use crate::model::condition::When;
use crate::model::hook::Budget;
use crate::model::hook::Hook;
use crate::model::queue_name::canonical_queue_name;
use crate::model::system::System;

/// Everything that a request may ask of the configuration.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// counts the snapshots of this process, from 1
    pub generation: u64,
    /// first 12 hex digits of the SHA-256 over all configuration that went in: equal on all replicas
    pub digest: String,
    /// podgraft's own namespace, whose pods are never touched
    pub namespace: String,
    /// the task systems' instances
    pub systems: Vec<System>,
    /// what every task pod gets
    pub base: Option<Unit<UnitSpec>>,
    /// by priority, then name
    pub environments: Vec<Unit<Environment>>,
    /// the queues of the configuration; look one up with [`Queues::find`]
    pub queues: Queues,
    /// configuration vaults, global < namespace < queue < user
    pub task_config: Vec<Vault>,
    /// what identity providers say of users, in the same order
    pub providers_info: Vec<Vault>,
    /// what happens to a task pod whose queue nobody configured
    pub unknown_queue: UnknownQueue,
    /// the layers of pods that were here already, merged
    pub plans: PlanCache,
    /// what the API server warns by in the namespaces: the same in all snapshots, as it is no part of the configuration
    pub pod_security: Levels,
}

/// A part of the configuration that is replaced as a whole or not at all.
#[derive(Debug)]
pub struct Unit<T> {
    /// `base`, `environment/production`, `queue/pvc-test`
    pub source: Source,
    /// what serves now: the newest version that was sound
    pub last_valid: Option<Arc<T>>,
    /// why the newest version is not what serves, if it is not
    pub error: Option<String>,
    /// of an environment that was never sound: which pods it says it is for, and so denies
    pub claimed_match: Option<Match>,
}

impl<T> Clone for Unit<T> {
    /// By hand, as deriving would ask `T` for `Clone`.
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            last_valid: self.last_valid.clone(),
            error: self.error.clone(),
            claimed_match: self.claimed_match.clone(),
        }
    }
}

/// What one unit lays over a pod.
#[derive(Debug, Default)]
pub struct UnitSpec {
    /// in the order in which they are laid
    pub layers: Vec<Layer>,
    /// in the order in which they run
    pub modules: Vec<Arc<Module>>,
}

/// `environments.<name>`.
#[derive(Debug)]
pub struct Environment {
    /// its key in the configuration
    pub name: String,
    /// its place among the environments that match; the higher is laid over the lower
    pub priority: i64,
    /// which pods it is for; without any condition only pods that name it
    pub matches: Match,
    /// what it lays over them
    pub graft: UnitSpec,
}

/// `queues.<name>`.
#[derive(Debug)]
pub struct Queue {
    /// its key in the configuration, as people write the queue's name
    pub name: String,
    /// the system's id of the queue; wins over the name
    pub id: Option<String>,
    /// only for this instance of `systems`
    pub system: Option<String>,
    /// only for these pods
    pub matches: Match,
    /// the base as this queue sees it: without the keys that its `templateOverrides` replaces
    pub base: Option<Layer>,
    /// what it lays over them
    pub graft: UnitSpec,
}

/// Conditions on a pod; each that is given must hold, and none given holds for nothing or everything
/// as its owner says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Match {
    /// the pod's namespace is one of these
    pub namespaces: Vec<String>,
    /// the pod has all of these labels
    pub pod_labels: BTreeMap<String, String>,
}

/// The queues by what pods call them.
#[derive(Debug, Default)]
pub struct Queues {
    /// by the system's id
    pub by_id: BTreeMap<String, Unit<Queue>>,
    /// by the canonical name (see [`crate::model::queue_name::canonical_queue_name`])
    pub by_name: BTreeMap<String, Unit<Queue>>,
}

impl Queues {
    /// Returns the queues in the order of their names. One that has a name and an id is in both maps, and here once.
    pub fn iter(&self) -> impl Iterator<Item = &Unit<Queue>> {
        let all = self.by_id.values().chain(self.by_name.values());
        let each: BTreeMap<&Source, &Unit<Queue>> = all.map(|unit| (&unit.source, unit)).collect();
        each.into_values()
    }

    /// The queue with this id, else the one whose name makes this label.
    pub fn find(&self, id: Option<&str>, name: Option<&str>) -> Option<&Unit<Queue>> {
        let by_name = || self.by_name.get(&canonical_queue_name(name?));
        id.and_then(|id| self.by_id.get(id)).or_else(by_name)
    }
}

/// What is known of a user, queue or namespace beside the pod: an entry of `taskConfig` or `providersInfo`.
#[derive(Debug, Clone)]
pub struct Vault {
    /// the pod's namespace is one of these
    pub namespaces: Vec<String>,
    /// the pod's queue, by canonical name or id
    pub queue: Option<String>,
    /// the task's user, where the pod's submitter may be believed
    pub user: Option<String>,
    /// the tree; shared, as a call of a module needs one of its own
    pub config: Arc<Value>,
}

/// `unknownQueue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownQueue {
    /// the base and the environments apply
    #[default]
    Base,
    /// nothing applies
    Ignore,
    /// the pod is refused
    Deny,
}

/// `modules.<name>`, compiled.
#[derive(Debug)]
pub struct Module {
    /// its key in the configuration
    pub name: String,
    /// SHA-256 of its bytes, 64 hex digits
    pub digest: String,
    /// it runs only where this holds
    pub when: Option<When>,
    /// handed to it as they are
    pub params: Value,
    /// whether it may take fields or elements away
    pub may_remove: bool,
    /// what its failure means for the pod
    pub on_error: OnError,
    /// what a call may use
    pub budget: Budget,
    /// the code
    pub hook: Arc<dyn Hook>,
}

/// What a module's failure means for the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// the pod is refused
    #[default]
    Fail,
    /// the pod goes on without this module
    Ignore,
}
