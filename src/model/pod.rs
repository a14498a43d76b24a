//! The submitted pod: its labels, annotations, containers, names.

use crate::json::Json;
use crate::model::review::Review;

/// The pod of a review, and where it was sent.
#[derive(Clone, Copy)]
pub struct Pod<'a> {
    /// the submitted pod
    pub object: Json<'a>,
    /// the request's namespace
    pub namespace: &'a str,
}

impl<'a> Pod<'a> {
    /// Returns the pod of a review.
    pub fn of(review: &Review<'a>) -> Self {
        Self { object: review.object, namespace: review.namespace }
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.object.get_path(&["metadata", "labels", key])?.as_str()
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&'a str> {
        self.object.get_path(&["metadata", "annotations", key])?.as_str()
    }

    /// The containers, without the init containers.
    pub fn containers(&self) -> &'a [Json<'a>] {
        self.object.get_path(&["spec", "containers"]).map_or(&[], |list| list.items())
    }

    /// `metadata.name`, when the submitter chose one.
    pub fn name(&self) -> Option<&'a str> {
        self.object.get_path(&["metadata", "name"])?.as_str().filter(|name| !name.is_empty())
    }

    /// The name of the object that controls the pod: a Job's pod has no name of its own yet.
    pub fn owner(&self) -> Option<&'a str> {
        let owners = self.object.get_path(&["metadata", "ownerReferences"])?;
        let controller = owners.items().iter().find(|owner| owner.get("controller") == Some(Json::Bool(true)))?;
        controller.get("name")?.as_str()
    }

    /// What people call the pod: its name, or of a Job's pod the Job's.
    pub fn display_name(&self) -> Option<&'a str> {
        let is_jobs = || {
            let owners =
                self.object.get_path(&["metadata", "ownerReferences"]).map_or(&[][..], |owners| owners.items());
            let mut controllers = owners.iter().filter(|owner| owner.get("controller") == Some(Json::Bool(true)));
            controllers.any(|owner| owner.get("kind") == Some(Json::Str("Job")))
        };
        self.name().or_else(|| self.owner().filter(|_| is_jobs()))
    }

    /// The literal value of an env variable of a container; of a name that stands twice, the last.
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
