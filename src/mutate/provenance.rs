//! Which layer or module put which field there.
//!
//! Nothing is recorded while a pod is rendered: every step's result shares what it did not touch, so keeping
//! the steps costs nothing, and the difference between two of them is what that step did. It is worked out
//! only when somebody asks: a rejection that must name its cause, `podgraft render`.

use bumpalo::Bump;

use crate::json::Json;
use crate::k8s::patch::is_within;
use crate::k8s::patch::{Action, diff, display_path};
use crate::merge::layer::Layer;
use crate::merge::layer::Source;
use crate::mutate::Module;

/// The pod after each step, beginning with the submitted one.
#[derive(Debug)]
pub struct Steps<'a> {
    /// as it was submitted
    pub submitted: Json<'a>,
    /// who, and what the pod was then
    pub steps: Vec<(Source, Json<'a>)>,
}

/// One field that a step set or took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// as `spec.containers[main].env[HOME].value`
    pub path: String,
    /// who
    pub source: Source,
    /// whether it is gone
    pub removed: bool,
}

impl<'a> Steps<'a> {
    /// Returns the submitted pod before the first step.
    pub fn new(submitted: Json<'a>) -> Self {
        Self { submitted, steps: Vec::new() }
    }

    /// The pod as it is now.
    pub fn last(&self) -> Json<'a> {
        self.steps.last().map_or(self.submitted, |(_, pod)| *pod)
    }

    /// Adds a step; one that changed nothing is not worth remembering.
    pub fn push(&mut self, source: Source, pod: Json<'a>) {
        if !pod.ptr_eq(&self.last()) {
            self.steps.push((source, pod));
        }
    }

    /// What every step touched, in the order of the steps.
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

    /// Who touched `path` or something in it last.
    pub fn last_writer(&self, path: &str, arena: &'a Bump) -> Option<Source> {
        let touches = self.changes(arena);
        touches
            .into_iter()
            .rev()
            .find(|touch| is_within(path, &touch.path) || is_within(&touch.path, path))
            .map(|touch| touch.source)
    }
}

/// Who gave a fragment.
#[derive(Debug, Clone, Copy)]
pub enum FragmentSource<'a> {
    /// a layer of the configuration
    Layer(&'a Layer),
    /// a module's call
    Module(&'a Module),
}
