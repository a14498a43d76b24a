//! The base, an environment and a queue, each decoded and checked against what it is laid over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::cursor::{Cursor, Fields};
use super::diagnostics::Diagnostics;
use super::graft::{self, DecodedLayers, UnitContext};
use super::keys;
use super::modules::Modules;
use super::overlap;
use super::parts;
use super::sections::Part;
use super::spell;
use super::systems::{NO_LABEL, check_not_empty};
use super::template::{self, Piece};
use crate::merge::layer::{Layer, Source};
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Environment, Match, Queue, Unit, UnitSpec};
use crate::model::system::System;

/// What units are decoded against.
pub(crate) struct DecodeContext<'b> {
    pub(crate) modules: &'b Modules,
    pub(crate) systems: &'b [System],
    /// the base as it serves
    pub(crate) base: Option<&'b Unit<UnitSpec>>,
    /// what its layer is put together from
    pub(crate) pieces: &'b [Piece],
    /// the environments as they serve
    pub(crate) environments: &'b [Unit<Environment>],
    /// labels by which environments and queues match pods, and one that does
    pub(crate) matched: BTreeMap<String, String>,
}

/// Which pods an environment says it is for, whatever else is wrong with it.
pub(crate) fn claimed_match(part: &Part<'_>, path: String) -> Option<Match> {
    let report = Diagnostics::new(part.file); // what is wrong has been said
    let mut fields = Cursor::new(part.node, path, &report).fields(&keys::ENVIRONMENT)?;
    Some(take_match(&mut fields, &keys::ENVIRONMENT_MATCH))
}

/// What only a unit that says for which namespaces may give: a pod's queue and environment are its creator's word, and
/// these reach beyond the pod. (Pull secrets do not: only the kubelet reads them.)
const POWERFUL: &[&str] = &["hostPath", "secret", "secretKeyRef", "secretRef"];

/// The same of fields of the spec.
const POWERFUL_FIELDS: &[&str] = &["priorityClassName", "runtimeClassName", "serviceAccountName"];

impl DecodeContext<'_> {
    fn owner(&self, source: Source, cursor: &Cursor<'_>) -> UnitContext<'_> {
        UnitContext { source, at: cursor.node.at, modules: self.modules, matched: &self.matched }
    }

    fn base_layer(&self) -> Option<&Layer> {
        self.base?.last_valid.as_ref()?.layers.first()
    }

    /// Whether the base's volumes are not known, so that a mount of one must not be called wrong.
    fn base_is_unknown(&self) -> bool {
        self.base.is_some_and(|base| base.last_valid.is_none())
    }

    /// The same of an environment.
    fn an_environment_is_unknown(&self) -> bool {
        self.environments.iter().any(|unit| unit.last_valid.is_none())
    }

    fn environment_volumes(&self) -> impl Iterator<Item = &str> {
        let layers =
            self.environments.iter().filter_map(|unit| unit.last_valid.as_ref()).flat_map(|good| &good.graft.layers);
        layers.flat_map(|layer| graft::volume_names(&layer.fragment))
    }
}

/// `basePodTemplate`.
pub(crate) fn base(cursor: &Cursor<'_>, world: &DecodeContext<'_>) -> Option<(UnitSpec, Vec<Piece>)> {
    let mut fields = cursor.fields(&keys::BASE)?;
    let laid = graft::base(&mut fields, &world.owner(Source::Base, cursor));
    fields.finish();
    parts::check_mounts(&laid.mounts, &own_volumes(&laid));
    Some((laid.graft, laid.pieces))
}

/// `environments.<name>`.
pub(crate) fn environment(
    name: &str,
    cursor: &Cursor<'_>,
    world: &DecodeContext<'_>,
    others: &[Arc<Environment>],
) -> Option<Environment> {
    let mut fields = cursor.fields(&keys::ENVIRONMENT)?;
    let matches = take_match(&mut fields, &keys::ENVIRONMENT_MATCH);
    let priority = fields.take("priority").and_then(|cursor| cursor.integer()).unwrap_or_default();
    let laid = graft::environment(&mut fields, &world.owner(Source::Environment(name.to_owned()), cursor));
    fields.finish();
    let mut volumes = own_volumes(&laid);
    volumes.extend(world.base_layer().into_iter().flat_map(|layer| graft::volume_names(&layer.fragment)));
    if !world.base_is_unknown() {
        parts::check_mounts(&laid.mounts, &volumes);
    }
    require_match_for_powerful(cursor, &matches, &laid, "environment");
    let environment = Environment { name: name.to_owned(), priority, matches, graft: laid.graft };
    for other in others {
        if let Some(path) = overlap::conflicting_path(&environment, other) {
            let name = &other.name;
            cursor.error(format!("sets {path} otherwise than environments.{name} does, for the same pods and with the same priority {priority}: give one of them another"));
        }
    }
    Some(environment)
}

/// `queues.<name>`.
pub(crate) fn queue(name: &str, cursor: &Cursor<'_>, world: &DecodeContext<'_>) -> Option<Queue> {
    let mut fields = cursor.fields(&keys::QUEUE)?;
    let id = fields.take("id").and_then(|cursor| cursor.name().map(str::to_owned));
    let id = id.or_else(|| is_clearml_id(name).then(|| name.to_owned()));
    if id.is_none() && canonical_queue_name(name).is_empty() {
        cursor.error(NO_LABEL);
    }
    let system = fields.take("system").and_then(|cursor| {
        let system = cursor.name()?;
        if !world.systems.iter().any(|known| known.name == system) {
            let names = world.systems.iter().map(|system| system.name.as_str());
            cursor.error(format!("there is no system `{system}`{}", spell::did_you_mean(system, names)));
        }
        Some(system.to_owned())
    });
    let matches = take_match(&mut fields, &keys::QUEUE_MATCH);
    if let Some(mode) = fields.take("mode") {
        mode.one_of(&[("Enforce", ())], &["Observe"]);
    }
    let laid = graft::queue(&mut fields, &world.owner(Source::Queue(name.to_owned()), cursor));
    fields.finish();
    require_match_for_powerful(cursor, &matches, &laid, "queue");
    let base = world.base_layer().and_then(|layer| graft::without(layer, world.pieces, &laid.replaced));
    check_size(cursor, &laid, base.as_ref());
    if !world.base_is_unknown() && !world.an_environment_is_unknown() {
        check_queue_mounts(cursor, &laid, base.as_ref(), world);
    }
    Some(Queue { name: name.to_owned(), id, system, matches, base, graft: laid.graft })
}

fn require_match_for_powerful(cursor: &Cursor<'_>, matches: &Match, laid: &DecodedLayers<'_>, noun: &str) {
    if matches.namespaces.is_empty()
        && let Some(key) = laid.graft.layers.iter().find_map(|layer| powerful(&layer.fragment))
    {
        cursor.error(format!("gives pods a {key}, and any pod can name this {noun}: say match.namespaces"));
    }
}

/// The first powerful key of a fragment.
fn powerful(fragment: &Value) -> Option<&'static str> {
    fn within(value: &Value) -> Option<&'static str> {
        match value {
            Value::Object(members) => members.iter().find_map(|(key, member)| {
                POWERFUL.iter().copied().find(|powerful| powerful == key).or_else(|| within(member))
            }),
            Value::Array(items) => items.iter().find_map(within),
            _ => None,
        }
    }
    let spec = &fragment["spec"];
    let field = POWERFUL_FIELDS.iter().copied().find(|field| spec.get(field).is_some());
    field.or_else(|| ["volumes", "containers", "initContainers"].iter().find_map(|list| within(&spec[*list])))
}

/// What base and queue together write into annotations.
fn check_size(cursor: &Cursor<'_>, laid: &DecodedLayers<'_>, base: Option<&Layer>) {
    let own: usize = laid.graft.layers.iter().map(|layer| template::annotation_bytes(&layer.fragment)).sum();
    let all = own + base.map_or(0, |base| template::annotation_bytes(&base.fragment));
    // alone it has been said already
    if all > template::MAX_ANNOTATION_BYTES && own <= template::MAX_ANNOTATION_BYTES {
        cursor.error(format!("together with basePodTemplate {}", template::too_many_bytes(all)));
    }
}

/// ClearML's documentation spells queues by their id in one place and by name elsewhere.
fn is_clearml_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_queue_mounts(cursor: &Cursor<'_>, laid: &DecodedLayers<'_>, base: Option<&Layer>, world: &DecodeContext<'_>) {
    let mut volumes = own_volumes(laid);
    volumes.extend(world.environment_volumes());
    volumes.extend(base.into_iter().flat_map(|layer| graft::volume_names(&layer.fragment)));
    parts::check_mounts(&laid.mounts, &volumes);
    // `volumes` replaced, the base's mounts not: ClearML's chart makes such pods, and nobody can run them
    let mounted = base.into_iter().flat_map(|layer| graft::mounted_names(&layer.fragment));
    for volume in mounted.filter(|volume| !volumes.contains(volume)).collect::<BTreeSet<_>>() {
        cursor.error(format!(
            "its volumes replace those of basePodTemplate, which still mounts `{volume}`: \
             repeat the volume here, or write merge: Strategic"
        ));
    }
}

fn own_volumes<'l>(laid: &'l DecodedLayers<'_>) -> BTreeSet<&'l str> {
    laid.graft.layers.iter().flat_map(|layer| graft::volume_names(&layer.fragment)).collect()
}

fn take_match(fields: &mut Fields<'_>, keys: &'static keys::Keys) -> Match {
    let mut found = Match::default();
    let Some(mut fields) = fields.take("match").and_then(|cursor| cursor.fields(keys)) else { return found };
    if let Some(cursor) = fields.take("namespaces") {
        check_not_empty(&cursor);
        found.namespaces = cursor.namespaces();
    }
    if let Some(cursor) = fields.take("podLabels") {
        check_not_empty(&cursor);
        parts::check_map(&cursor, parts::MapKind::Labels);
        let labels = cursor.entries().into_iter();
        found.pod_labels =
            labels.filter_map(|(key, value)| Some((key.text.clone(), value.text()?.to_owned()))).collect();
    }
    fields.finish();
    found
}
