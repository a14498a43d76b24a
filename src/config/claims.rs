//! `claims`: volumes whose storage Kubernetes makes with the pod, or that exist already.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::cursor::Cursor;
use super::keys;
use super::scalars::{dns_label, object_name};
use super::typed::{Context, typed_at};

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
    let mut fields = item.fields(&keys::CLAIM)?;
    let volume = fields.take("volume").and_then(|cursor| dns_label(&cursor));
    let words = [("Ephemeral", Kind::Ephemeral), ("Existing", Kind::Existing)];
    let kind = fields.take("type").and_then(|cursor| cursor.one_of(&words, &["Managed"]));
    let source = match kind {
        Some(Kind::Existing) => {
            let name = fields.require("name").map(|cursor| cursor.skip_placeholder(object_name).unwrap_or_default());
            ("persistentVolumeClaim", json!({"claimName": name}))
        }
        Some(Kind::Ephemeral) => {
            let mut template = Map::new();
            let mut metadata = Map::new();
            for key in ["labels", "annotations"] {
                let found = fields.take_filled(key);
                let value = found.and_then(|cursor| typed_at(&cursor, &["metadata", key], &Context::default()));
                metadata.extend(value.map(|value| (key.to_owned(), value)));
            }
            if !metadata.is_empty() {
                template.insert("metadata".into(), Value::Object(metadata));
            }
            let spec = fields.require("spec").and_then(|cursor| typed_at(&cursor, SPEC, &Context::default()));
            template.insert("spec".into(), spec.unwrap_or_default());
            ("ephemeral", json!({"volumeClaimTemplate": template}))
        }
        // said already; without its kind the other keys cannot be judged
        None => return None,
    };
    fields.finish();
    Some(Claim { volume: volume?, cursor: item.clone(), source })
}

/// Where a Pod has the spec of a claim.
const SPEC: &[&str] = &["spec", "volumes", "ephemeral", "volumeClaimTemplate", "spec"];

impl Claim<'_> {
    /// Gives the volume of this name in a list its source; says whether there is one.
    pub(crate) fn fill_volume(&self, volumes: &mut Value) -> bool {
        let list = volumes.as_array_mut().into_iter().flatten();
        let mut found = list.filter(|volume| volume["name"] == self.volume);
        found.next().map(|volume| *volume = self.to_volume()).is_some()
    }

    /// The volume of this name with the claim's source and nothing else.
    pub(crate) fn to_volume(&self) -> Value {
        let (key, source) = &self.source;
        json!({"name": self.volume, *key: source})
    }
}
