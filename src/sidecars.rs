//! Containers that a layer adds to a pod, as native sidecars.
//!
//! A plain container that does not end keeps its pod from ending; an init container with `restartPolicy: Always` runs
//! beside the task in the same way and ends with it.

use bumpalo::Bump;

use crate::json::Json;
use crate::model::snapshot::PRIMARY;

/// The fragment with those entries of `containers` that the pod has no container for, and that bring an image, among
/// its init containers. The pod is the one that was submitted: what an earlier pass added is no container of it.
pub fn to_native_sidecars<'a>(fragment: Json<'a>, pod: Json<'a>, arena: &'a Bump) -> Json<'a> {
    let entries = fragment.get_path(&["spec", "containers"]).map_or(&[][..], |list| list.items());
    let own = pod.get_path(&["spec", "containers"]).map_or(&[][..], |list| list.items());
    let is_added = |entry: &Json<'a>| {
        let name = entry.get("name");
        name.is_some_and(|name| name.as_str() != Some(PRIMARY))
            && entry.get("image").is_some()
            && !own.iter().any(|own| own.get("name") == name)
    };
    if !entries.iter().any(is_added) {
        return fragment;
    }
    let sidecars = entries.iter().filter(|entry| is_added(entry));
    let sidecars = sidecars.map(|entry| entry.with("restartPolicy", Json::Str("Always"), arena));
    let init = fragment.get_path(&["spec", "initContainers"]).map_or(&[][..], |list| list.items());
    let init = Json::array(sidecars.chain(init.iter().copied()), arena);
    let others = Json::array(entries.iter().copied().filter(|entry| !is_added(entry)), arena);
    let spec = fragment.get("spec").unwrap_or(Json::Object(&[]));
    let spec = spec.with("initContainers", init, arena).with("containers", others, arena);
    fragment.with("spec", spec, arena)
}
