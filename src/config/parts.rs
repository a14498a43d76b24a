//! Labels, annotations and node selectors; mounts and the volumes that they need.

use std::collections::{BTreeMap, BTreeSet};

use super::cursor::Cursor;
use super::rules::WARNS;
use super::scalars::{NO_LABEL_VALUE, is_label_text, is_qualified_name};
use super::spell;
use super::typed::PATCH;
use crate::k8s::warnings;

/// A mount, and where it is written: its volume is looked for when all layers are known.
pub(crate) struct MountRef<'a> {
    pub(crate) volume: &'a str,
    pub(crate) cursor: Cursor<'a>,
}

/// Which text the keys and values of a map may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapKind {
    Labels,
    /// nodeSelector
    NodeLabels,
    /// any text as values
    Annotations,
}

/// Checks keys and values; that a value is no string is said elsewhere.
pub(crate) fn check_map(cursor: &Cursor<'_>, kind: MapKind) {
    for (key, value) in cursor.entries() {
        if key.text == PATCH {
            continue;
        }
        if !is_qualified_name(&key.text) {
            value.report.add(key.at, &value.path, "is not a key that Kubernetes takes (`name` or `prefix/name`)");
        }
        let said = match kind {
            MapKind::NodeLabels => warnings::deprecated_label(&key.text),
            MapKind::Annotations => warnings::deprecated_annotation(&key.text),
            MapKind::Labels => None,
        };
        if let Some(said) = said {
            value.report.add(key.at, &value.path, format!("is {said}: {WARNS}"));
        }
        let Some(text) = value.as_text().filter(|_| !value.has_placeholder()) else { continue };
        if kind != MapKind::Annotations && !is_label_text(text) {
            value.error(NO_LABEL_VALUE);
        }
    }
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
        let hint = spell::did_you_mean(mount.volume, volumes.iter().copied());
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
