//! `claims`: volumes whose storage Kubernetes makes with the pod, or that exist already.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cursor::Cursor;
use super::parts::{MapKind, string_map};
use super::scalars::{dns_label, object_name};
use super::typed::{type_of, typed};

/// One entry: the volume's name, and the source that it gets.
pub(crate) struct Claim<'a> {
    pub(crate) volume: &'a str,
    pub(crate) cursor: Cursor<'a>,
    source: (&'static str, Value),
}

#[derive(Clone, Copy)]
enum Kind {
    Ephemeral,
    Existing,
}

/// Decodes the list.
pub(crate) fn decode<'a>(cursor: &Cursor<'a>) -> Vec<Claim<'a>> {
    let mut seen = BTreeSet::new();
    let claims: Vec<Claim<'a>> = cursor.list().iter().filter_map(claim).collect();
    for claim in &claims {
        if !seen.insert(claim.volume) {
            claim.cursor.error(format!("volume `{}` has two claims", claim.volume));
        }
    }
    claims
}

fn claim<'a>(item: &Cursor<'a>) -> Option<Claim<'a>> {
    let mut fields = item.fields()?;
    let volume = fields.require("volume").and_then(|cursor| dns_label(&cursor));
    let words = [("Ephemeral", Kind::Ephemeral), ("Existing", Kind::Existing)];
    let kind = fields.require("type").and_then(|cursor| cursor.word(&words, &["Managed"]));
    let source = match kind {
        Some(Kind::Existing) => {
            let name = fields.require("name").map(|cursor| {
                cursor.check_placeholders();
                if cursor.has_placeholder() { cursor.text() } else { object_name(&cursor) }.unwrap_or_default()
            });
            ("persistentVolumeClaim", json!({"claimName": name}))
        }
        Some(Kind::Ephemeral) => {
            let mut template = Map::new();
            let mut metadata = Map::new();
            for (key, kind) in [("labels", MapKind::Labels), ("annotations", MapKind::Annotations)] {
                if let Some(cursor) = fields.take_filled(key) {
                    metadata.insert(key.into(), string_map(&cursor, kind));
                }
            }
            if !metadata.is_empty() {
                template.insert("metadata".into(), Value::Object(metadata));
            }
            let spec = fields.require("spec").and_then(|cursor| spec(&cursor));
            template.insert("spec".into(), spec.unwrap_or_default());
            ("ephemeral", json!({"volumeClaimTemplate": template}))
        }
        // said already; without its kind the other keys cannot be judged
        None => return None,
    };
    fields.later(["reclaim", "onError"]);
    fields.finish();
    Some(Claim { volume: volume?, cursor: item.clone(), source })
}

/// A `PersistentVolumeClaimSpec`.
fn spec(cursor: &Cursor<'_>) -> Option<Value> {
    let modes = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"].map(|mode| (mode, ()));
    match cursor.get("accessModes").filter(|modes| !modes.node.is_empty()) {
        Some(list) => list.list().iter().for_each(|mode| _ = mode.word(&modes, &[])),
        None => cursor.error("key `accessModes` is missing"),
    }
    let requests = cursor.get("resources").and_then(|resources| resources.get("requests"));
    if requests.and_then(|requests| requests.get("storage")).is_none() {
        cursor.error("key `resources.requests.storage` is missing");
    }
    typed(cursor, type_of(&["spec", "volumes", "ephemeral", "volumeClaimTemplate", "spec"]))
}

impl Claim<'_> {
    /// Gives the fragment's volume of this name its source; says whether there is one.
    pub(crate) fn lay_over(&self, fragment: &mut Value) -> bool {
        let volumes = fragment.pointer_mut("/spec/volumes").and_then(Value::as_array_mut);
        let volume = volumes.and_then(|list| list.iter_mut().find(|volume| volume["name"] == self.volume));
        volume.map(|volume| *volume = self.to_volume()).is_some()
    }

    /// The volume of this name with the claim's source and nothing else.
    pub(crate) fn to_volume(&self) -> Value {
        let (key, source) = &self.source;
        json!({"name": self.volume, *key: source})
    }
}
