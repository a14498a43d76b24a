//! Task systems, as configured in `systems:`.

/// A configured instance of a task system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// its key in the configuration
    pub name: String,
    /// the task system's kind
    pub kind: SystemKind,
    /// the namespaces of its task pods; empty means all
    pub namespaces: Vec<String>,
    /// the prefix of the task id in the name of a task pod
    pub pod_name_prefix: String,
    /// submitters: users that are trusted to name a pod's task and user
    pub submitters: Vec<String>,
}

/// The supported kinds of task systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemKind {
    /// `ClearML`
    ClearML,
    /// `Generic`: pods that carry `podgraft.io/queue` or `podgraft.io/environment`
    Generic,
}
