//! Validates volume mounts: their volumes must exist, their paths must be unique.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::decode::cursor::Cursor;
use crate::k8s::schema::did_you_mean;

/// A mount with its position. Its volume is looked up when all layers are decoded.
pub(crate) struct MountRef<'a> {
    pub(crate) volume: &'a str,
    pub(crate) cursor: Cursor<'a>,
}

/// Returns the mounts and devices of a container.
pub(crate) fn container_mounts<'a>(container: &Cursor<'a>) -> Vec<MountRef<'a>> {
    let lists = ["volumeMounts", "volumeDevices"].into_iter().filter_map(|list| container.get(list));
    lists.flat_map(|list| list_mounts(&list)).collect()
}

/// Returns the mounts of a list.
pub(crate) fn list_mounts<'a>(list: &Cursor<'a>) -> Vec<MountRef<'a>> {
    let names = list.items().into_iter().filter_map(|item| item.get("name"));
    let mounts = names.filter_map(|cursor| Some(MountRef { volume: cursor.as_text()?, cursor }));
    mounts.filter(|mount| !mount.volume.is_empty()).collect()
}

/// Adds an error for each mount whose volume is not among `volumes`.
pub(crate) fn check_mounts(mounts: &[MountRef<'_>], volumes: &BTreeSet<&str>) {
    for mount in mounts.iter().filter(|mount| !volumes.contains(mount.volume)) {
        let hint = did_you_mean(mount.volume, volumes.iter().copied());
        let message = format!("volume `{}` is not defined here or in a lower layer{hint}", mount.volume);
        Cursor::error(&mount.cursor, message);
    }
}

/// Adds an error for each element whose `key` is in an earlier list already: both become one list of the pod.
pub(crate) fn check_duplicates(lists: &[(&str, Option<Cursor<'_>>)], key: &str) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, list) in lists {
        let items: Vec<_> = list.iter().flat_map(Cursor::items).filter_map(|item| item.get(key)).collect();
        let named: Vec<_> = items.iter().filter_map(|item| Some((item.as_text()?, item))).collect();
        for (text, item) in &named {
            if let Some(other) = seen.get(text) {
                item.error(format!("duplicate {key} `{text}`: also in {other}"));
            }
        }
        seen.extend(named.iter().map(|(text, _)| (*text, *name)));
    }
}
