//! The snapshot: all configuration at one moment, immutable and behind one `Arc`.

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

/// The configuration that a request uses.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// the snapshot's number in this process, from 1
    pub generation: u64,
    /// first 12 hex digits of the SHA-256 of all configuration: equal on all replicas
    pub digest: String,
    /// podgraft's own namespace, whose pods are always skipped
    pub namespace: String,
    /// the configured task systems
    pub systems: Vec<System>,
    /// the base, for every task pod
    pub base: Option<Unit<UnitSpec>>,
    /// the environments, by priority, then name
    pub environments: Vec<Unit<Environment>>,
    /// the queues of the configuration; look one up with [`Queues::find`]
    pub queues: Queues,
    /// configuration vaults, global < namespace < queue < user
    pub task_config: Vec<Vault>,
    /// users' attributes from identity providers, in the order of `task_config`
    pub providers_info: Vec<Vault>,
    /// the rule for a task pod whose queue is not configured
    pub unknown_queue: UnknownQueue,
    /// merged layers, cached
    pub plans: PlanCache,
    /// the Pod Security levels of namespaces: shared by all snapshots, as they are not part of the configuration
    pub pod_security: Levels,
}

/// A unit of the configuration, replaced as a whole or not at all.
#[derive(Debug)]
pub struct Unit<T> {
    /// `base`, `environment/production`, `queue/pvc-test`
    pub source: Source,
    /// the newest version that was valid, which serves
    pub last_valid: Option<Arc<T>>,
    /// the error of the newest version, if it is invalid
    pub error: Option<String>,
    /// the pods that an environment without a valid version claims to match, and denies
    pub claimed_match: Option<Match>,
}

impl<T> Clone for Unit<T> {
    /// Written by hand, as a derived implementation would require `T: Clone`.
    fn clone(&self) -> Self {
        Self {
            source: self.source.clone(),
            last_valid: self.last_valid.clone(),
            error: self.error.clone(),
            claimed_match: self.claimed_match.clone(),
        }
    }
}

/// The layers and modules of a unit.
#[derive(Debug, Default)]
pub struct UnitSpec {
    /// layers, in the order of application
    pub layers: Vec<Layer>,
    /// modules, in the order of execution
    pub modules: Vec<Arc<Module>>,
}

/// `environments.<name>`.
#[derive(Debug)]
pub struct Environment {
    /// its key in the configuration
    pub name: String,
    /// its priority; of the environments that match, a higher one is applied later
    pub priority: i64,
    /// the pods that it matches; without any condition only pods that name it
    pub matches: Match,
    /// the layers and modules of the environment
    pub spec: UnitSpec,
}

/// `queues.<name>`.
#[derive(Debug)]
pub struct Queue {
    /// its key in the configuration, the queue's name
    pub name: String,
    /// the queue's id in its task system; takes precedence over the name
    pub id: Option<String>,
    /// the only task system that may use the queue; `None` means any
    pub system: Option<String>,
    /// the pods that it matches
    pub matches: Match,
    /// the base for this queue: without the keys that its `templateOverrides` replaces
    pub base: Option<Layer>,
    /// the layers and modules of the queue
    pub spec: UnitSpec,
}

/// Conditions on a pod, of which each one that is set must hold. The unit decides what an empty one matches.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Match {
    /// the pod's namespace must be one of these
    pub namespaces: Vec<String>,
    /// the pod must have all of these labels
    pub pod_labels: BTreeMap<String, String>,
}

/// The queues by id and by name.
#[derive(Debug, Default)]
pub struct Queues {
    /// queues by their id in the task system
    pub by_id: BTreeMap<String, Unit<Queue>>,
    /// queues by canonical name (see [`crate::model::queue_name::canonical_queue_name`])
    pub by_name: BTreeMap<String, Unit<Queue>>,
}

impl Queues {
    /// Returns the queues in the order of their names. A queue in both maps is returned once.
    pub fn iter(&self) -> impl Iterator<Item = &Unit<Queue>> {
        let all = self.by_id.values().chain(self.by_name.values());
        let each: BTreeMap<&Source, &Unit<Queue>> = all.map(|unit| (&unit.source, unit)).collect();
        each.into_values()
    }

    /// Returns the queue with this id, or else the one with this canonical name.
    pub fn find(&self, id: Option<&str>, name: Option<&str>) -> Option<&Unit<Queue>> {
        let by_name = || self.by_name.get(&canonical_queue_name(name?));
        id.and_then(|id| self.by_id.get(id)).or_else(by_name)
    }
}

/// A vault: an entry of `taskConfig` or `providersInfo`, for a user, queue or namespaces.
#[derive(Debug, Clone)]
pub struct Vault {
    /// the pod's namespace must be one of these
    pub namespaces: Vec<String>,
    /// the canonical name or id of the pod's queue
    pub queue: Option<String>,
    /// the task's user, trusted only from a submitter
    pub user: Option<String>,
    /// the vault's values; shared, as each call of a hook holds a reference
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
    /// the pod is denied
    Deny,
}

/// An entry of `modules:` with its compiled component.
#[derive(Debug)]
pub struct Module {
    /// its key in the configuration
    pub name: String,
    /// SHA-256 of the component, 64 hex digits
    pub digest: String,
    /// the condition for running it
    pub when: Option<When>,
    /// its parameters, passed to the hook unchanged
    pub params: Value,
    /// true if it may remove fields or elements
    pub may_remove: bool,
    /// the effect of its failure on the pod
    pub on_error: OnError,
    /// the limits of a call
    pub budget: Budget,
    /// the compiled hook
    pub hook: Arc<dyn Hook>,
}

/// The effect of a module's failure on the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// the pod is denied
    #[default]
    Fail,
    /// the module is not applied
    Ignore,
}
