//! Decodes the units (base, environments, queues, modules), and validates them against the layers below.

pub(crate) mod environment_conflicts;
pub(crate) mod modules;
pub(crate) mod queues;
pub(crate) mod sections;
pub(crate) mod systems;
pub(crate) mod unit_layers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use self::unit_layers::{DecodedLayers, UnitContext};
use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::scalars::namespaces;
use crate::config::diagnostics::Diagnostics;
use crate::config::keys;
use crate::config::pod::fragment_part::FragmentPart;
use crate::config::pod::metadata;
use crate::config::pod::mounts;
use crate::config::pod::pod_template;
use crate::config::units::modules::Modules;
use crate::config::units::sections::Definition;
use crate::config::units::systems::{NOT_A_QUEUE_LABEL, check_not_empty};
use crate::k8s::schema::did_you_mean;
use crate::merge::layer::{Layer, Source};
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{Environment, Match, Queue, Unit, UnitSpec};
use crate::model::system::System;

/// The other units that the decoding of a unit needs.
pub(crate) struct DecodeContext<'b> {
    pub(crate) modules: &'b Modules,
    pub(crate) systems: &'b [System],
    /// the base that serves
    pub(crate) base: Option<&'b Unit<UnitSpec>>,
    /// the parts of the base's fragment
    pub(crate) base_parts: &'b [FragmentPart],
    /// the environments that serve
    pub(crate) environments: &'b [Unit<Environment>],
    /// labels by which environments and queues match pods, each with such a unit
    pub(crate) matched: BTreeMap<String, String>,
}

/// Decodes the `match` of an invalid environment.
pub(crate) fn claimed_match(definition: &Definition<'_>, path: String) -> Option<Match> {
    let diagnostics = Diagnostics::new(definition.file); // its errors have been reported already
    let mut fields = Cursor::new(definition.node, path, &diagnostics).fields(&keys::ENVIRONMENT)?;
    Some(take_match(&mut fields, &keys::ENVIRONMENT_MATCH))
}

/// Keys that only a unit with `match.namespaces` may set: any creator of a pod can name a queue or environment, and
/// these give access beyond the pod. (Pull secrets do not: only the kubelet reads them.)
const PRIVILEGED: &[&str] = &["hostPath", "secret", "secretKeyRef", "secretRef"];

/// Fields of the spec that only a unit with `match.namespaces` may set.
const PRIVILEGED_FIELDS: &[&str] = &["priorityClassName", "runtimeClassName", "serviceAccountName"];

impl DecodeContext<'_> {
    fn unit_context(&self, source: Source, cursor: &Cursor<'_>) -> UnitContext<'_> {
        UnitContext { source, at: cursor.node.at, modules: self.modules, matched: &self.matched }
    }

    fn base_layer(&self) -> Option<&Layer> {
        self.base?.last_valid.as_ref()?.layers.first()
    }

    /// Returns true if the base has no valid version: its volumes are unknown, so mounts cannot be checked.
    fn base_is_never_valid(&self) -> bool {
        self.base.is_some_and(|base| base.last_valid.is_none())
    }

    /// Returns true if an environment has no valid version: its volumes are unknown.
    fn an_environment_is_never_valid(&self) -> bool {
        self.environments.iter().any(|unit| unit.last_valid.is_none())
    }

    fn environment_volumes(&self) -> impl Iterator<Item = &str> {
        let layers = self
            .environments
            .iter()
            .filter_map(|unit| unit.last_valid.as_ref())
            .flat_map(|environment| &environment.spec.layers);
        layers.flat_map(|layer| unit_layers::volume_names(&layer.fragment))
    }
}

/// Decodes `basePodTemplate`.
pub(crate) fn base(cursor: &Cursor<'_>, context: &DecodeContext<'_>) -> Option<(UnitSpec, Vec<FragmentPart>)> {
    let mut fields = cursor.fields(&keys::BASE)?;
    let decoded = unit_layers::base(&mut fields, &context.unit_context(Source::Base, cursor));
    fields.finish();
    mounts::check_mounts(&decoded.mounts, &own_volumes(&decoded));
    Some((decoded.spec, decoded.parts))
}

/// Decodes `environments.<name>`.
pub(crate) fn environment(
    name: &str,
    cursor: &Cursor<'_>,
    context: &DecodeContext<'_>,
    others: &[Arc<Environment>],
) -> Option<Environment> {
    let mut fields = cursor.fields(&keys::ENVIRONMENT)?;
    let matches = take_match(&mut fields, &keys::ENVIRONMENT_MATCH);
    let priority = fields.take("priority").and_then(|cursor| cursor.integer()).unwrap_or_default();
    let decoded =
        unit_layers::environment(&mut fields, &context.unit_context(Source::Environment(name.to_owned()), cursor));
    fields.finish();
    let mut volumes = own_volumes(&decoded);
    volumes.extend(context.base_layer().into_iter().flat_map(|layer| unit_layers::volume_names(&layer.fragment)));
    if !context.base_is_never_valid() {
        mounts::check_mounts(&decoded.mounts, &volumes);
    }
    require_namespaces_for_privileged(cursor, &matches, &decoded, "environment");
    let environment = Environment { name: name.to_owned(), priority, matches, spec: decoded.spec };
    for other in others {
        if let Some(path) = environment_conflicts::conflicting_path(&environment, other) {
            let name = &other.name;
            cursor.error(format!(
                "sets {path} to another value than environments.{name}, for the same pods and with the same priority \
                 {priority}: set different priorities"
            ));
        }
    }
    Some(environment)
}

/// Decodes `queues.<name>`.
pub(crate) fn queue(name: &str, cursor: &Cursor<'_>, context: &DecodeContext<'_>) -> Option<Queue> {
    let mut fields = cursor.fields(&keys::QUEUE)?;
    let id = fields.take("id").and_then(|cursor| cursor.name().map(str::to_owned));
    let id = id.or_else(|| is_clearml_id(name).then(|| name.to_owned()));
    if id.is_none() && canonical_queue_name(name).is_empty() {
        cursor.error(NOT_A_QUEUE_LABEL);
    }
    let system = fields.take("system").and_then(|cursor| {
        let system = cursor.name()?;
        if !context.systems.iter().any(|known| known.name == system) {
            let names = context.systems.iter().map(|system| system.name.as_str());
            cursor.error(format!("there is no system `{system}`{}", did_you_mean(system, names)));
        }
        Some(system.to_owned())
    });
    let matches = take_match(&mut fields, &keys::QUEUE_MATCH);
    if let Some(mode) = fields.take("mode") {
        mode.one_of(&[("Enforce", ())], &["Observe"]);
    }
    let decoded = unit_layers::queue(&mut fields, &context.unit_context(Source::Queue(name.to_owned()), cursor));
    fields.finish();
    require_namespaces_for_privileged(cursor, &matches, &decoded, "queue");
    let base =
        context.base_layer().and_then(|layer| unit_layers::without_keys(layer, context.base_parts, &decoded.replaced));
    check_size(cursor, &decoded, base.as_ref());
    if !context.base_is_never_valid() && !context.an_environment_is_never_valid() {
        check_queue_mounts(cursor, &decoded, base.as_ref(), context);
    }
    Some(Queue { name: name.to_owned(), id, system, matches, base, spec: decoded.spec })
}

fn require_namespaces_for_privileged(cursor: &Cursor<'_>, matches: &Match, decoded: &DecodedLayers<'_>, noun: &str) {
    if matches.namespaces.is_empty()
        && let Some(key) = decoded.spec.layers.iter().find_map(|layer| privileged_key(&layer.fragment))
    {
        cursor.error(format!("gives pods a {key}, and any pod can name this {noun}: set match.namespaces"));
    }
}

/// Returns the first privileged key of a fragment.
fn privileged_key(fragment: &Value) -> Option<&'static str> {
    fn within(value: &Value) -> Option<&'static str> {
        match value {
            Value::Object(members) => members.iter().find_map(|(key, member)| {
                PRIVILEGED.iter().copied().find(|privileged| privileged == key).or_else(|| within(member))
            }),
            Value::Array(items) => items.iter().find_map(within),
            _ => None,
        }
    }
    let spec = &fragment["spec"];
    let field = PRIVILEGED_FIELDS.iter().copied().find(|field| spec.get(field).is_some());
    field.or_else(|| ["volumes", "containers", "initContainers"].iter().find_map(|list| within(&spec[*list])))
}

/// Checks the size of the annotations of base and queue together.
fn check_size(cursor: &Cursor<'_>, decoded: &DecodedLayers<'_>, base: Option<&Layer>) {
    let own: usize = decoded.spec.layers.iter().map(|layer| pod_template::annotation_bytes(&layer.fragment)).sum();
    let all = own + base.map_or(0, |base| pod_template::annotation_bytes(&base.fragment));
    // a queue that is too large alone has been reported already
    if all > pod_template::MAX_ANNOTATION_BYTES && own <= pod_template::MAX_ANNOTATION_BYTES {
        cursor.error(format!("together with basePodTemplate {}", pod_template::too_many_bytes(all)));
    }
}

/// Returns true for a ClearML id. ClearML's documentation names queues by id in one place and by name elsewhere.
fn is_clearml_id(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_queue_mounts(
    cursor: &Cursor<'_>,
    decoded: &DecodedLayers<'_>,
    base: Option<&Layer>,
    context: &DecodeContext<'_>,
) {
    let mut volumes = own_volumes(decoded);
    volumes.extend(context.environment_volumes());
    volumes.extend(base.into_iter().flat_map(|layer| unit_layers::volume_names(&layer.fragment)));
    mounts::check_mounts(&decoded.mounts, &volumes);
    // `volumes` replaced, the base's mounts not: ClearML's chart creates such pods, and they cannot run
    let mounted = base.into_iter().flat_map(|layer| unit_layers::mounted_names(&layer.fragment));
    for volume in mounted.filter(|volume| !volumes.contains(volume)).collect::<BTreeSet<_>>() {
        cursor.error(format!(
            "its volumes replace those of basePodTemplate, which still mounts `{volume}`: \
             repeat the volume here, or write merge: Strategic"
        ));
    }
}

fn own_volumes<'l>(decoded: &'l DecodedLayers<'_>) -> BTreeSet<&'l str> {
    decoded.spec.layers.iter().flat_map(|layer| unit_layers::volume_names(&layer.fragment)).collect()
}

fn take_match(fields: &mut Fields<'_>, keys: &'static keys::Keys) -> Match {
    let mut found = Match::default();
    let Some(mut fields) = fields.take("match").and_then(|cursor| cursor.fields(keys)) else { return found };
    if let Some(cursor) = fields.take("namespaces") {
        check_not_empty(&cursor);
        found.namespaces = namespaces(&cursor);
    }
    if let Some(cursor) = fields.take("podLabels") {
        check_not_empty(&cursor);
        metadata::check_map(&cursor, metadata::MapKind::Labels);
        let labels = cursor.entries().into_iter();
        found.pod_labels =
            labels.filter_map(|(key, value)| Some((key.text.clone(), value.text()?.to_owned()))).collect();
    }
    fields.finish();
    found
}
