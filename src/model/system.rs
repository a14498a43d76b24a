//! A configured instance of a task system.

/// One instance of a task system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// its key in the configuration
    pub name: String,
    /// what kind of system it is
    pub kind: SystemKind,
    /// its task pods live here; empty is anywhere
    pub namespaces: Vec<String>,
    /// what precedes the task id in the name of a task pod
    pub pod_name_prefix: String,
    /// user names whose word counts for a task's identity
    pub submitters: Vec<String>,
}

/// The task systems whose pods are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SystemKind {
    /// `ClearML`
    ClearML,
    /// `Generic`: pods that carry `podgraft.io/queue` or `podgraft.io/environment`
    Generic,
}
