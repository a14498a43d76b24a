//! A pod as the checks look at it.

use super::{Breach, Policy};
use crate::json::Json;

/// The pod, and what it is judged by.
pub(super) struct Subject<'p> {
    pub(super) spec: Json<'p>,
    pub(super) policy: Policy,
    annotations: Json<'p>,
}

/// Whose something is.
#[derive(Clone, Copy)]
pub(super) enum Holder<'p> {
    Pod,
    /// of this list, by its name
    Container(&'static str, &'p str),
}

impl Holder<'_> {
    /// The path of one of its fields.
    pub(super) fn path(self, field: &str) -> String {
        match self {
            Holder::Pod => format!("spec.{field}"),
            Holder::Container(list, name) => format!("spec.{list}[{name}].{field}"),
        }
    }
}

/// A member, unless it is null: the API server drops those.
pub(super) fn set<'p>(value: Json<'p>, key: &str) -> Option<Json<'p>> {
    value.get(key).filter(|member| !matches!(member, Json::Null))
}

impl<'p> Subject<'p> {
    pub(super) fn of(pod: Json<'p>, policy: Policy) -> Self {
        let annotations = pod.get_path(&["metadata", "annotations"]).unwrap_or(Json::Null);
        Self { spec: pod.get("spec").unwrap_or(Json::Null), policy, annotations }
    }

    pub(super) fn annotations(&self) -> &'p [(&'p str, Json<'p>)] {
        self.annotations.members()
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&'p str> {
        self.annotations.get(key).and_then(|value| value.as_str())
    }

    /// Containers of all kinds.
    pub(super) fn containers(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| {
            spec.list(list).iter().map(move |container| (Holder::Container(list, container.text("name")), *container))
        })
    }

    /// The containers' security contexts; null where there is none.
    pub(super) fn container_contexts(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        self.containers().map(|(owner, container)| (owner, container.get("securityContext").unwrap_or(Json::Null)))
    }

    /// The pod's own security context; null if there is none.
    pub(super) fn context(&self) -> Json<'p> {
        self.spec.get("securityContext").unwrap_or(Json::Null)
    }

    /// The pod's own, and the containers'.
    pub(super) fn contexts(&self) -> impl Iterator<Item = (Holder<'p>, Json<'p>)> {
        std::iter::once((Holder::Pod, self.context())).chain(self.container_contexts())
    }

    /// A pod of Windows has none of Linux' fields, and from this minor version on need not have them.
    pub(super) fn is_windows(&self, since: u32) -> bool {
        self.policy.is_since(since) && self.spec.get_path(&["os", "name"]) == Some(Json::Str("windows"))
    }

    /// Whether the pod has users of its own, among whom root is nobody outside, and that counts.
    pub(super) fn has_own_users(&self) -> bool {
        self.policy.is_since(35) && self.spec.get("hostUsers") == Some(Json::Bool(false))
    }
}

/// The first owner whose security context is bad, with the field of it that is to be named.
pub(super) fn first_bad<'p>(
    mut contexts: impl Iterator<Item = (Holder<'p>, Json<'p>)>,
    field: &str,
    must: &'static str,
    is_bad: impl Fn(Json<'p>) -> bool,
) -> Option<Breach> {
    let (owner, _) = contexts.find(|(_, context)| is_bad(*context))?;
    Some(Breach::new(owner.path(&format!("securityContext.{field}")), must))
}
