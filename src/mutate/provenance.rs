//! The provenance of fields: the layer or module that set each one.
//!
//! Nothing is recorded while a pod is mutated. A step's result shares its unchanged parts with the pod before, so
//! keeping the steps costs nothing, and the difference between two of them is the change of one step. It is computed
//! only when it is needed: for a denial that names its cause, and for `podgraft render`.

use bumpalo::Bump;

use crate::json::Json;
use crate::k8s::patch::{Action, diff, display_path, is_within};
use crate::merge::layer::{Layer, Source};
use crate::model::snapshot::Module;

/// The pod after each step, beginning with the submitted one.
#[derive(Debug)]
pub struct Steps<'a> {
    /// the submitted pod
    pub submitted: Json<'a>,
    /// each step's source, and the pod after it
    pub steps: Vec<(Source, Json<'a>)>,
}

/// One field that a step set or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// the readable path, as in `spec.containers[main].env[HOME].value`
    pub path: String,
    /// the layer or module
    pub source: Source,
    /// true if the field was removed
    pub removed: bool,
}

impl<'a> Steps<'a> {
    /// Returns the submitted pod before the first step.
    pub fn new(submitted: Json<'a>) -> Self {
        Self { submitted, steps: Vec::new() }
    }

    /// Returns the pod after the last step.
    pub fn last(&self) -> Json<'a> {
        self.steps.last().map_or(self.submitted, |(_, pod)| *pod)
    }

    /// Adds a step, unless it changed nothing.
    pub fn push(&mut self, source: Source, pod: Json<'a>) {
        if !pod.ptr_eq(&self.last()) {
            self.steps.push((source, pod));
        }
    }

    /// Returns the changes of every step, in order.
    pub fn changes(&self, arena: &'a Bump) -> Vec<Change> {
        let before = std::iter::once(self.submitted).chain(self.steps.iter().map(|(_, pod)| *pod));
        let steps = before.zip(&self.steps);
        steps
            .flat_map(|(before, (source, after))| {
                diff(before, *after, arena).iter().map(move |operation| Change {
                    path: display_path(operation.path),
                    source: source.clone(),
                    removed: operation.action == Action::Remove,
                })
            })
            .collect()
    }

    /// Returns the source that last changed `path`, a field in it or a field around it.
    pub fn last_writer(&self, path: &str, arena: &'a Bump) -> Option<Source> {
        let changes = self.changes(arena);
        changes
            .into_iter()
            .rev()
            .find(|change| is_within(path, &change.path) || is_within(&change.path, path))
            .map(|change| change.source)
    }
}

/// The source of a fragment.
#[derive(Debug, Clone, Copy)]
pub enum FragmentSource<'a> {
    /// a layer of the configuration
    Layer(&'a Layer),
    /// a module's hook
    Module(&'a Module),
}
