//! The submitted pod: its labels, annotations, containers, names.

use crate::json::Json;
use crate::model::review::Review;

/// The pod of a review and its namespace.
#[derive(Clone, Copy)]
pub struct Pod<'a> {
    /// the submitted pod
    pub object: Json<'a>,
    /// the request's namespace
    pub namespace: &'a str,
}

impl<'a> Pod<'a> {
    /// Returns the pod of a review.
    pub fn from_review(review: &Review<'a>) -> Self {
        Self { object: review.object, namespace: review.namespace }
    }

    /// Returns a label's value.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.object.get_path(&["metadata", "labels", key])?.as_str()
    }

    /// Returns an annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.object.get_path(&["metadata", "annotations", key])?.as_str()
    }

    /// Returns the containers, without the init containers.
    pub fn containers(&self) -> &'a [Json<'a>] {
        self.object.get_path(&["spec", "containers"]).map_or(&[], |list| list.items())
    }

    /// Returns `metadata.name`, if the submitter set it.
    pub fn name(&self) -> Option<&'a str> {
        self.object.get_path(&["metadata", "name"])?.as_str().filter(|name| !name.is_empty())
    }

    /// Returns the name of the controlling owner: a Job's pod has no name of its own yet.
    pub fn controller_name(&self) -> Option<&'a str> {
        let owners = self.object.get_path(&["metadata", "ownerReferences"])?;
        let controller = owners.items().iter().find(|owner| owner.get("controller") == Some(Json::Bool(true)))?;
        controller.get("name")?.as_str()
    }

    /// Returns the pod's name; of a Job's pod without one, the Job's name.
    pub fn display_name(&self) -> Option<&'a str> {
        let is_jobs = || {
            let owners =
                self.object.get_path(&["metadata", "ownerReferences"]).map_or(&[][..], |owners| owners.items());
            let mut controllers = owners.iter().filter(|owner| owner.get("controller") == Some(Json::Bool(true)));
            controllers.any(|owner| owner.get("kind") == Some(Json::Str("Job")))
        };
        self.name().or_else(|| self.controller_name().filter(|_| is_jobs()))
    }

    /// Returns the literal value of a container's env variable; of a duplicate name, the last value.
    pub fn env(container: &Json<'a>, name: &str) -> Option<&'a str> {
        let env = container.get("env")?;
        let entry = env.items().iter().rev().find(|entry| entry.get("name") == Some(Json::Str(name)))?;
        entry.get("value")?.as_str()
    }

    /// Returns true if a container has this name.
    pub fn has_container(&self, name: &str) -> bool {
        self.containers().iter().any(|container| container.get("name") == Some(Json::Str(name)))
    }
}
