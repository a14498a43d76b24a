//! Mounts, and the volumes that they need.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::decode::cursor::Cursor;
use crate::k8s::schema::did_you_mean;

/// A mount, and where it is written: its volume is looked for when all layers are known.
pub(crate) struct MountRef<'a> {
    pub(crate) volume: &'a str,
    pub(crate) cursor: Cursor<'a>,
}

/// The volumes that a container's mounts and devices name.
pub(crate) fn mounts_of<'a>(container: &Cursor<'a>) -> Vec<MountRef<'a>> {
    let lists = ["volumeMounts", "volumeDevices"].into_iter().filter_map(|list| container.get(list));
    lists.flat_map(|list| mounts_in(&list)).collect()
}

/// The same of a list of mounts.
pub(crate) fn mounts_in<'a>(list: &Cursor<'a>) -> Vec<MountRef<'a>> {
    let names = list.items().into_iter().filter_map(|item| item.get("name"));
    let mounts = names.filter_map(|cursor| Some(MountRef { volume: cursor.as_text()?, cursor }));
    mounts.filter(|mount| !mount.volume.is_empty()).collect()
}

/// Refuses mounts whose volume no layer brings that this unit is laid over or with.
pub(crate) fn check_mounts(mounts: &[MountRef<'_>], volumes: &BTreeSet<&str>) {
    for mount in mounts.iter().filter(|mount| !volumes.contains(mount.volume)) {
        let hint = did_you_mean(mount.volume, volumes.iter().copied());
        let message = format!("volume `{}` is defined neither here nor in what this lies over{hint}", mount.volume);
        Cursor::error(&mount.cursor, message);
    }
}

/// Refuses elements of one list that stand in another already, where both become one list of the pod.
pub(crate) fn check_apart(lists: &[(&str, Option<Cursor<'_>>)], key: &str) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, list) in lists {
        let items: Vec<_> = list.iter().flat_map(Cursor::items).filter_map(|item| item.get(key)).collect();
        let named: Vec<_> = items.iter().filter_map(|item| Some((item.as_text()?, item))).collect();
        for (text, item) in &named {
            if let Some(other) = seen.get(text) {
                item.error(format!("{key} `{text}` stands in {other} already"));
            }
        }
        seen.extend(named.iter().map(|(text, _)| (*text, *name)));
    }
}
