//! What a unit lays over a pod: the templates, claims and modules of the base, an environment or a queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::decode::ast::{Position, Tree};
use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::grammar::PATCH;
use crate::config::keys::{self, EXTRA_MOUNTS, EXTRA_VOLUMES, FLAT, Kind, SIDECARS};
use crate::config::pod::claims::{self, Claim};
use crate::config::pod::mounts::MountRef;
use crate::config::pod::piece::{Level, Piece};
use crate::config::pod::pod_template::{self, Given, Template};
use crate::config::units::modules::Modules;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::placeholder;
use crate::model::snapshot::UnitSpec;

/// `merge`: what a layer of a queue does with the base's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// both apply
    Strategic,
    /// the base's value of a key that the layer sets does not
    Replace,
}

/// A unit's own part, decoded.
pub(crate) struct DecodedLayers<'a> {
    pub(crate) graft: UnitSpec,
    /// for the search for their volumes
    pub(crate) mounts: Vec<MountRef<'a>>,
    /// keys of the base that do not apply beside this
    pub(crate) replaced: BTreeSet<&'static str>,
    /// of the base: what its layer is put together from
    pub(crate) pieces: Vec<Piece>,
}

/// Who is being decoded.
pub(crate) struct UnitContext<'b> {
    pub(crate) source: Source,
    /// where its layers stand, unless they have a key of their own
    pub(crate) at: Position,
    pub(crate) modules: &'b Modules,
    /// labels by which units match pods
    pub(crate) matched: &'b BTreeMap<String, String>,
}

/// `conflict` and `merge` as written.
struct LayerRule {
    conflict: Option<Conflict>,
    merge: Option<Merge>,
}

impl LayerRule {
    fn take(fields: &mut Fields<'_>) -> Self {
        let conflicts = [("Keep", Conflict::Keep), ("Override", Conflict::Override), ("Deny", Conflict::Deny)];
        let conflict = fields.take("conflict").and_then(|cursor| cursor.one_of(&conflicts, &[]));
        let merges = [("Strategic", Merge::Strategic), ("Replace", Merge::Replace)];
        let merge = fields.take("merge").and_then(|cursor| {
            let merge = cursor.one_of(&merges, &[])?;
            if merge == Merge::Replace && !cursor.path.starts_with("queues.") {
                cursor.error("Replace is about a queue and the base; here it has nothing to replace");
            }
            Some(merge)
        });
        Self { conflict, merge }
    }
}

/// A template with what its place in the file gives it.
struct Entry<'a> {
    template: Template<'a>,
    at: Position,
    conflict: Conflict,
    merge: Merge,
}

/// `basePodTemplate`: the flat form with the unit's other keys beside it.
pub(crate) fn base<'a>(fields: &mut Fields<'a>, owner: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let mut template = pod_template::flat(fields, &given(&claims, owner));
    for claim in &claims {
        claim_piece(claim, &mut template.pieces);
    }
    template.fragment = pod_template::assemble(&template.pieces);
    let pieces = std::mem::take(&mut template.pieces);
    let entry = Entry { template, at: owner.at, conflict: Conflict::Keep, merge: Merge::Strategic };
    DecodedLayers { pieces, ..decode_layers(fields, owner, &rule, vec![entry], &[], Conflict::Keep) }
}

/// An environment: `podTemplate`.
pub(crate) fn environment<'a>(fields: &mut Fields<'a>, owner: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let entries = take_pod_template(fields, &claims, owner).into_iter().collect();
    decode_layers(fields, owner, &rule, entries, &claims, Conflict::Keep)
}

/// A queue: `podTemplate`, and `templateOverrides` over it.
pub(crate) fn queue<'a>(fields: &mut Fields<'a>, owner: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let mut entries: Vec<_> = take_pod_template(fields, &claims, owner).into_iter().collect();
    if let Some(cursor) = fields.take("templateOverrides")
        && let Some(mut keys) = cursor.fields(&keys::OVERRIDES)
    {
        let template = pod_template::flat(&mut keys, &given(&claims, owner));
        keys.finish();
        let at = cursor.node.at;
        entries.push(Entry { template, at, conflict: Conflict::Override, merge: Merge::Replace });
    }
    // a claim for a volume that the pod brings is meant to win over it, as ClearML's own hook does
    decode_layers(fields, owner, &rule, entries, &claims, Conflict::Override)
}

fn take_claims<'a>(fields: &mut Fields<'a>) -> Vec<Claim<'a>> {
    fields.take("claims").map(|cursor| claims::decode(&cursor)).unwrap_or_default()
}

fn given<'c>(claims: &'c [Claim<'_>], owner: &UnitContext<'c>) -> Given<'c> {
    Given { claimed: claims.iter().map(|claim| claim.volume).collect(), matched: owner.matched }
}

fn take_pod_template<'a>(fields: &mut Fields<'a>, claims: &[Claim<'_>], owner: &UnitContext<'_>) -> Option<Entry<'a>> {
    let cursor = fields.take("podTemplate")?;
    let template = pod_template::full(&cursor, &given(claims, owner));
    let at = cursor.node.at;
    Some(Entry { template, at, conflict: Conflict::Keep, merge: Merge::Strategic })
}

/// Claims into layers, layers and modules into a graft. `alone` is the rule of claims without a template.
fn decode_layers<'a>(
    fields: &mut Fields<'a>,
    owner: &UnitContext<'_>,
    rule: &LayerRule,
    mut entries: Vec<Entry<'a>>,
    claims: &[Claim<'a>],
    alone: Conflict,
) -> DecodedLayers<'a> {
    // before the claims: a claim adds to the base's volumes, it does not replace them
    let replacing = entries.iter().filter(|entry| rule.merge.unwrap_or(entry.merge) == Merge::Replace);
    let replaced = replacing.flat_map(|entry| set_keys(&entry.template)).collect();
    for claim in claims {
        place_claim(claim, &mut entries, alone);
    }
    let modules = fields.take("modules").map(|cursor| owner.modules.find_all(&cursor)).unwrap_or_default();
    if rule.conflict == Some(Conflict::Deny) {
        deny_directives(&fields.cursor);
    }
    let mut mounts = Vec::new();
    let mut layers = Vec::new();
    for entry in entries {
        mounts.extend(entry.template.mounts);
        if entry.template.fragment.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let conflict = rule.conflict.unwrap_or(entry.conflict);
        layers.push(Layer {
            source: owner.source.clone(),
            file: Arc::clone(&fields.cursor.report.file),
            line: entry.at.line,
            file_mounts: entry.template.file_mounts,
            conflict,
            explicit: rule.conflict.is_some(),
            placeholders: placeholder::has_placeholder(&entry.template.fragment),
            unknown: entry.template.unknown,
            fragment: entry.template.fragment,
        });
    }
    DecodedLayers { graft: UnitSpec { layers, modules }, mounts, replaced, pieces: Vec::new() }
}

/// Layers that deny add or agree.
fn deny_directives(cursor: &Cursor<'_>) {
    match &cursor.node.tree {
        Tree::Map(entries) => {
            for (key, node) in entries {
                let entry = cursor.child(&key.text, node);
                if key.text == PATCH {
                    entry.report.add(key.at, &entry.path, "takes something away, which conflict: Deny does not");
                }
                deny_directives(&entry);
            }
        }
        Tree::List(_) => cursor.items().iter().for_each(deny_directives),
        _ => {}
    }
}

/// Into the template that has the volume, else the last one, else one of its own.
fn place_claim<'a>(claim: &Claim<'a>, entries: &mut Vec<Entry<'a>>, alone: Conflict) {
    let mut laid = false;
    for entry in entries.iter_mut() {
        laid |= entry.template.fragment.pointer_mut("/spec/volumes").is_some_and(|volumes| claim.fill_volume(volumes));
    }
    if laid {
        return;
    }
    if let Some(entry) = entries.last_mut() {
        let spec = &mut entry.template.fragment["spec"];
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(claim.to_volume()),
            None => spec["volumes"] = json!([claim.to_volume()]),
        }
        return;
    }
    let fragment = json!({"spec": {"volumes": [claim.to_volume()]}});
    let template = Template { fragment, pieces: Vec::new(), mounts: Vec::new(), unknown: false, file_mounts: None };
    entries.push(Entry { template, at: claim.cursor.node.at, conflict: alone, merge: Merge::Strategic });
}

/// The same among the base's pieces: a queue that replaces `volumes` takes the claimed ones among them along.
fn claim_piece(claim: &Claim<'_>, pieces: &mut Vec<Piece>) {
    let mut laid = false;
    for piece in pieces.iter_mut().filter(|piece| piece.field == "volumes") {
        laid |= claim.fill_volume(&mut piece.value);
    }
    if !laid {
        let value = json!([claim.to_volume()]);
        pieces.push(Piece { key: "claims", place: Level::Spec, field: "volumes", value });
    }
}

/// The flat form's keys that a template sets; the additive ones replace nothing.
fn set_keys(template: &Template<'_>) -> Vec<&'static str> {
    if !template.pieces.is_empty() {
        let keys = template.pieces.iter().map(|piece| piece.key);
        return keys.filter(|key| ![EXTRA_VOLUMES, EXTRA_MOUNTS].contains(key)).collect();
    }
    let fragment = &template.fragment;
    let primary = primary_of(fragment);
    let set = |place, field: &str| match place {
        Level::Metadata => fragment.get("metadata").is_some_and(|part| part.get(field).is_some()),
        Level::Spec => fragment.get("spec").is_some_and(|part| part.get(field).is_some()),
        Level::Primary => primary.and_then(|part| part.get(field)).is_some_and(|value| !pod_template::is_empty(value)),
    };
    let keys = FLAT.iter().filter(|key| ![EXTRA_VOLUMES, EXTRA_MOUNTS, SIDECARS].contains(&key.name));
    let is_set = |kind: Kind| match kind {
        Kind::Pod(path) => {
            let (place, field) = pod_template::place(path);
            set(place, field)
        }
        _ => false,
    };
    keys.filter(|key| is_set(key.kind)).map(|key| key.name).collect()
}

/// The entry for the primary container.
fn primary_of(fragment: &Value) -> Option<&Value> {
    let containers = fragment.pointer("/spec/containers")?.as_array()?;
    containers.iter().find(|container| container["name"] == crate::k8s::labels::PRIMARY)
}

/// The base without the keys that a queue replaces; none when nothing is left of it.
pub(crate) fn without(base: &Layer, pieces: &[Piece], replaced: &BTreeSet<&'static str>) -> Option<Layer> {
    let fragment = pod_template::assemble(pieces.iter().filter(|piece| !replaced.contains(piece.key)));
    let something = fragment.as_object().is_some_and(|fragment| !fragment.is_empty());
    something.then(|| Layer { fragment, ..base.clone() })
}

/// The names of a fragment's volumes.
pub(crate) fn volume_names(fragment: &Value) -> impl Iterator<Item = &str> {
    let list = fragment.pointer("/spec/volumes").and_then(Value::as_array);
    let brought = list.into_iter().flatten().filter(|volume| volume.get(PATCH).is_none());
    brought.filter_map(|volume| volume["name"].as_str())
}

/// The names of the volumes that a fragment's containers mount.
pub(crate) fn mounted_names(fragment: &Value) -> impl Iterator<Item = &str> {
    let lists = ["/spec/containers", "/spec/initContainers"].into_iter();
    let containers = lists.filter_map(|path| fragment.pointer(path)?.as_array()).flatten();
    let mounts = containers.filter_map(|container| container.get("volumeMounts")?.as_array()).flatten();
    mounts.filter_map(|mount| mount.get("name")?.as_str())
}
