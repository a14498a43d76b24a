//! The pod in the form that the checks read.

use super::policy::Policy;
use crate::json::Json;

/// The place and the rule of a violation.
pub(super) struct Breach {
    pub(super) path: String,
    pub(super) related_path: Option<&'static str>,
    pub(super) must: &'static str,
}

impl Breach {
    pub(super) fn new(path: String, must: &'static str) -> Self {
        Self { path, related_path: None, must }
    }
}

/// A pod and the policy for it.
pub(super) struct Subject<'p> {
    pub(super) spec: Json<'p>,
    pub(super) policy: Policy,
    annotations: Json<'p>,
}

/// The holder of a field: the pod or a container.
#[derive(Clone, Copy)]
pub(super) enum Holder<'p> {
    Pod,
    /// a container: its list and its name
    Container(&'static str, &'p str),
}

impl Holder<'_> {
    /// Returns the path of one of its fields.
    pub(super) fn path(self, field: &str) -> String {
        match self {
            Holder::Pod => format!("spec.{field}"),
            Holder::Container(list, name) => format!("spec.{list}[{name}].{field}"),
        }
    }
}

/// Returns a member unless it is null, which the API server drops.
pub(super) fn set<'p>(value: Json<'p>, key: &str) -> Option<Json<'p>> {
    value.get(key).filter(|member| !matches!(member, Json::Null))
}

impl<'p> Subject<'p> {
    pub(super) fn new(pod: Json<'p>, policy: Policy) -> Self {
        let annotations = pod.get_path(&["metadata", "annotations"]).unwrap_or(Json::Null);
        Self { spec: pod.get("spec").unwrap_or(Json::Null), policy, annotations }
    }

    pub(super) fn annotations(&self) -> &'p [(&'p str, Json<'p>)] {
        self.annotations.members()
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&'p str> {
        self.annotations.get(key).and_then(|value| value.as_str())
    }

    /// Returns the containers of all kinds.
    pub(super) fn containers(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| {
            spec.list(list).iter().map(move |container| (Holder::Container(list, container.text("name")), *container))
        })
    }

    /// Returns the containers' security contexts; null for a container without one.
    pub(super) fn container_contexts(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        self.containers().map(|(holder, container)| (holder, container.get("securityContext").unwrap_or(Json::Null)))
    }

    /// Returns the pod's own security context; null if there is none.
    pub(super) fn context(&self) -> Json<'p> {
        self.spec.get("securityContext").unwrap_or(Json::Null)
    }

    /// Returns the security contexts of the pod and of its containers.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        std::iter::once((Holder::Pod, self.context())).chain(self.container_contexts())
    }

    /// Returns true for a Windows pod, which from this minor version on need not set Linux fields.
    pub(super) fn is_windows(&self, since: u32) -> bool {
        self.policy.is_since(since) && self.spec.get_path(&["os", "name"]) == Some(Json::Str("windows"))
    }

    /// Returns true if the pod has its own user namespace and the policy's version exempts such pods: root in it is
    /// unprivileged outside.
    pub(super) fn has_own_users(&self) -> bool {
        self.policy.is_since(35) && self.spec.get("hostUsers") == Some(Json::Bool(false))
    }
}

/// Returns a breach for the first security context that `is_forbidden`; `field` is the field to name.
pub(super) fn first_breach<'p>(
    mut contexts: impl Iterator<Item = (Holder<'p>, Json<'p>)>,
    field: &str,
    must: &'static str,
    is_forbidden: impl Fn(Json<'p>) -> bool,
) -> Option<Breach> {
    let (holder, _) = contexts.find(|(_, context)| is_forbidden(*context))?;
    Some(Breach::new(holder.path(&format!("securityContext.{field}")), must))
}
