//! Decodes the templates, claims and modules of a unit into its layers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::decode::ast::{Position, Tree};
use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::grammar::PATCH;
use crate::config::keys::{self, EXTRA_MOUNTS, EXTRA_VOLUMES, FLAT, Kind, SIDECARS};
use crate::config::pod::claims::{self, Claim};
use crate::config::pod::fragment_part::{FragmentPart, Level};
use crate::config::pod::mounts::MountRef;
use crate::config::pod::pod_template::{self, Template, TemplateContext};
use crate::config::units::modules::Modules;
use crate::merge::layer::{Conflict, Layer, Source};
use crate::model::placeholder;
use crate::model::snapshot::UnitSpec;

/// The `merge` rule between the keys of a queue and those of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merge {
    /// both are applied
    Strategic,
    /// a key that the layer sets replaces that of the base
    Replace,
}

/// The decoded layers of a unit.
pub(crate) struct DecodedLayers<'a> {
    pub(crate) spec: UnitSpec,
    /// mounts whose volumes are still to be looked up
    pub(crate) mounts: Vec<MountRef<'a>>,
    /// keys of the base that this unit replaces
    pub(crate) replaced: BTreeSet<&'static str>,
    /// the parts of the base's fragment; of other units none
    pub(crate) parts: Vec<FragmentPart>,
}

/// The unit that is decoded.
pub(crate) struct UnitContext<'b> {
    pub(crate) source: Source,
    /// position of the layers that have no key of their own
    pub(crate) at: Position,
    pub(crate) modules: &'b Modules,
    /// labels by which units match pods, each with such a unit
    pub(crate) matched: &'b BTreeMap<String, String>,
}

/// The configured `conflict` and `merge`.
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
                cursor.error("Replace is allowed in queues only: it replaces keys of basePodTemplate");
            }
            Some(merge)
        });
        Self { conflict, merge }
    }
}

/// A template of a unit, with its position and default rules.
struct UnitTemplate<'a> {
    template: Template<'a>,
    at: Position,
    conflict: Conflict,
    merge: Merge,
}

/// Decodes `basePodTemplate`: the flat form with the other keys of a unit.
pub(crate) fn base<'a>(fields: &mut Fields<'a>, unit: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let mut template = pod_template::decode_flat(fields, &template_context(&claims, unit));
    for claim in &claims {
        add_claim_part(claim, &mut template.parts);
    }
    template.fragment = pod_template::assemble(&template.parts);
    let parts = std::mem::take(&mut template.parts);
    let unit_template = UnitTemplate { template, at: unit.at, conflict: Conflict::Keep, merge: Merge::Strategic };
    DecodedLayers { parts, ..decode_layers(fields, unit, &rule, vec![unit_template], &[], Conflict::Keep) }
}

/// Decodes an environment: `podTemplate`.
pub(crate) fn environment<'a>(fields: &mut Fields<'a>, unit: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let templates = take_pod_template(fields, &claims, unit).into_iter().collect();
    decode_layers(fields, unit, &rule, templates, &claims, Conflict::Keep)
}

/// Decodes a queue: `podTemplate`, then `templateOverrides`.
pub(crate) fn queue<'a>(fields: &mut Fields<'a>, unit: &UnitContext<'_>) -> DecodedLayers<'a> {
    let rule = LayerRule::take(fields);
    let claims = take_claims(fields);
    let mut templates: Vec<_> = take_pod_template(fields, &claims, unit).into_iter().collect();
    if let Some(cursor) = fields.take("templateOverrides")
        && let Some(mut keys) = cursor.fields(&keys::OVERRIDES)
    {
        let template = pod_template::decode_flat(&mut keys, &template_context(&claims, unit));
        keys.finish();
        let at = cursor.node.at;
        templates.push(UnitTemplate { template, at, conflict: Conflict::Override, merge: Merge::Replace });
    }
    // a claim for a volume of the pod overrides it, as ClearML's own hook does
    decode_layers(fields, unit, &rule, templates, &claims, Conflict::Override)
}

fn take_claims<'a>(fields: &mut Fields<'a>) -> Vec<Claim<'a>> {
    fields.take("claims").map(|cursor| claims::decode(&cursor)).unwrap_or_default()
}

fn template_context<'c>(claims: &'c [Claim<'_>], unit: &UnitContext<'c>) -> TemplateContext<'c> {
    TemplateContext { claimed: claims.iter().map(|claim| claim.volume).collect(), matched: unit.matched }
}

fn take_pod_template<'a>(
    fields: &mut Fields<'a>,
    claims: &[Claim<'_>],
    unit: &UnitContext<'_>,
) -> Option<UnitTemplate<'a>> {
    let cursor = fields.take("podTemplate")?;
    let template = pod_template::decode_full(&cursor, &template_context(claims, unit));
    let at = cursor.node.at;
    Some(UnitTemplate { template, at, conflict: Conflict::Keep, merge: Merge::Strategic })
}

/// Adds claims to templates, and makes layers of them. `alone` is the conflict rule of claims without a template.
fn decode_layers<'a>(
    fields: &mut Fields<'a>,
    unit: &UnitContext<'_>,
    rule: &LayerRule,
    mut templates: Vec<UnitTemplate<'a>>,
    claims: &[Claim<'a>],
    alone: Conflict,
) -> DecodedLayers<'a> {
    // before the claims are added: they add to the base's volumes and do not replace them
    let replacing =
        templates.iter().filter(|unit_template| rule.merge.unwrap_or(unit_template.merge) == Merge::Replace);
    let replaced = replacing.flat_map(|unit_template| set_keys(&unit_template.template)).collect();
    for claim in claims {
        place_claim(claim, &mut templates, alone);
    }
    let modules = fields.take("modules").map(|cursor| unit.modules.find_all(&cursor)).unwrap_or_default();
    if rule.conflict == Some(Conflict::Deny) {
        deny_directives(&fields.cursor);
    }
    let mut mounts = Vec::new();
    let mut layers = Vec::new();
    for unit_template in templates {
        mounts.extend(unit_template.template.mounts);
        if unit_template.template.fragment.as_object().is_none_or(serde_json::Map::is_empty) {
            continue;
        }
        let conflict = rule.conflict.unwrap_or(unit_template.conflict);
        layers.push(Layer {
            source: unit.source.clone(),
            file: Arc::clone(&fields.cursor.diagnostics.file),
            line: unit_template.at.line,
            file_mounts: unit_template.template.file_mounts,
            conflict,
            explicit: rule.conflict.is_some(),
            placeholders: placeholder::has_placeholder(&unit_template.template.fragment),
            unknown: unit_template.template.unknown,
            fragment: unit_template.template.fragment,
        });
    }
    DecodedLayers { spec: UnitSpec { layers, modules }, mounts, replaced, parts: Vec::new() }
}

/// Adds an error for each directive: a layer with `conflict: Deny` may only add values.
fn deny_directives(cursor: &Cursor<'_>) {
    match &cursor.node.tree {
        Tree::Map(entries) => {
            for (key, node) in entries {
                let entry = cursor.child(&key.text, node);
                if key.text == PATCH {
                    entry.diagnostics.error(
                        key.at,
                        &entry.path,
                        "removes something, which `conflict: Deny` does not allow",
                    );
                }
                deny_directives(&entry);
            }
        }
        Tree::List(_) => cursor.items().iter().for_each(deny_directives),
        _ => {}
    }
}

/// Adds a claim to the template that has its volume, else to the last one, else as a template of its own.
fn place_claim<'a>(claim: &Claim<'a>, templates: &mut Vec<UnitTemplate<'a>>, alone: Conflict) {
    let mut filled = false;
    for unit_template in templates.iter_mut() {
        filled |= unit_template
            .template
            .fragment
            .pointer_mut("/spec/volumes")
            .is_some_and(|volumes| claim.fill_volume(volumes));
    }
    if filled {
        return;
    }
    if let Some(unit_template) = templates.last_mut() {
        let spec = &mut unit_template.template.fragment["spec"];
        match spec["volumes"].as_array_mut() {
            Some(volumes) => volumes.push(claim.to_volume()),
            None => spec["volumes"] = json!([claim.to_volume()]),
        }
        return;
    }
    let fragment = json!({"spec": {"volumes": [claim.to_volume()]}});
    let template = Template { fragment, parts: Vec::new(), mounts: Vec::new(), unknown: false, file_mounts: None };
    templates.push(UnitTemplate { template, at: claim.cursor.node.at, conflict: alone, merge: Merge::Strategic });
}

/// Adds a claim to the base's parts: a queue that replaces `volumes` replaces claimed volumes among them too.
fn add_claim_part(claim: &Claim<'_>, parts: &mut Vec<FragmentPart>) {
    let mut filled = false;
    for part in parts.iter_mut().filter(|part| part.field == "volumes") {
        filled |= claim.fill_volume(&mut part.value);
    }
    if !filled {
        let value = json!([claim.to_volume()]);
        parts.push(FragmentPart { key: "claims", level: Level::Spec, field: "volumes", value });
    }
}

/// Returns the keys of the flat form that a template sets, without the additive ones, which replace nothing.
fn set_keys(template: &Template<'_>) -> Vec<&'static str> {
    if !template.parts.is_empty() {
        let keys = template.parts.iter().map(|part| part.key);
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
            let (place, field) = pod_template::level_and_field(path);
            set(place, field)
        }
        _ => false,
    };
    keys.filter(|key| is_set(key.kind)).map(|key| key.name).collect()
}

/// Returns the fragment's entry for the primary container.
fn primary_of(fragment: &Value) -> Option<&Value> {
    let containers = fragment.pointer("/spec/containers")?.as_array()?;
    containers.iter().find(|container| container["name"] == crate::k8s::labels::PRIMARY)
}

/// Returns the base's layer without the replaced keys, or none if nothing is left.
pub(crate) fn without_keys(base: &Layer, parts: &[FragmentPart], replaced: &BTreeSet<&'static str>) -> Option<Layer> {
    let fragment = pod_template::assemble(parts.iter().filter(|part| !replaced.contains(part.key)));
    let has_fields = fragment.as_object().is_some_and(|fragment| !fragment.is_empty());
    has_fields.then(|| Layer { fragment, ..base.clone() })
}

/// Returns the names of a fragment's volumes.
pub(crate) fn volume_names(fragment: &Value) -> impl Iterator<Item = &str> {
    let list = fragment.pointer("/spec/volumes").and_then(Value::as_array);
    let defined = list.into_iter().flatten().filter(|volume| volume.get(PATCH).is_none());
    defined.filter_map(|volume| volume["name"].as_str())
}

/// Returns the names of the volumes that a fragment's containers mount.
pub(crate) fn mounted_names(fragment: &Value) -> impl Iterator<Item = &str> {
    let lists = ["/spec/containers", "/spec/initContainers"].into_iter();
    let containers = lists.filter_map(|path| fragment.pointer(path)?.as_array()).flatten();
    let mounts = containers.filter_map(|container| container.get("volumeMounts")?.as_array()).flatten();
    mounts.filter_map(|mount| mount.get("name")?.as_str())
}
