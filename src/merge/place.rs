//! Where a new element goes.

use super::Merger;
use crate::json::Json;
use crate::k8s::patch::key_text;
use crate::k8s::schema::Field;

impl<'a> Merger<'a, '_> {
    /// What layers add stands before the pod's own, so that `$(VAR)` references and `volumes[0]` mean what their
    /// authors meant; containers come after the pod's own; native sidecars start before all other init containers.
    pub(super) fn insert_index(
        &self,
        result: &[Json<'a>],
        was: Option<Json<'a>>,
        item: Json<'a>,
        field: &Field,
    ) -> usize {
        let own = was.map_or(&[][..], |was| was.items());
        // As long as nothing was taken away, the pod's first element is still there and the first of its own.
        let first = if self.removed.is_empty() { &own[..own.len().min(1)] } else { own };
        let key = |item: &Json<'a>| key_text(item, field.list, self.arena);
        // One of the pod's own that was taken away comes back to its place among them.
        let again = if self.removed.is_empty() { None } else { own.iter().position(|own| key(own) == key(&item)) };
        if let Some(again) = again {
            let is_later = |other: &Json<'a>| own[again + 1..].iter().any(|own| key(own) == key(other));
            return result.iter().position(is_later).unwrap_or(result.len());
        }
        let is_own = |other: &Json<'a>| first.iter().any(|own| key(own) == key(other));
        let added = result.iter().position(is_own).unwrap_or(result.len());
        match field.name {
            "containers" => result.len(),
            "initContainers" if is_native_sidecar(&item) => {
                result[..added].iter().position(|other| !is_native_sidecar(other)).unwrap_or(added)
            }
            _ => added,
        }
    }
}

fn is_native_sidecar(container: &Json<'_>) -> bool {
    container.get("restartPolicy").and_then(|policy| policy.as_str()) == Some("Always")
}
