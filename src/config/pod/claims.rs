//! Decodes `claims`: volumes with a claim that is created with the pod or exists already.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::config::decode::cursor::Cursor;
use crate::config::decode::scalars::{dns_label, object_name};
use crate::config::keys;
use crate::config::pod::field_rules::Context;
use crate::config::pod::pod_values::typed_at;

/// One entry of `claims`: a volume's name and its source.
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

/// Decodes the list of claims.
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
                let found = fields.take_non_empty(key);
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
        // reported already; the other keys depend on the type
        None => return None,
    };
    fields.finish();
    Some(Claim { volume: volume?, cursor: item.clone(), source })
}

/// The path of a claim's spec in a Pod.
const SPEC: &[&str] = &["spec", "volumes", "ephemeral", "volumeClaimTemplate", "spec"];

impl Claim<'_> {
    /// Sets the source of the claim's volume in a list; returns false if the list does not have it.
    pub(crate) fn fill_volume(&self, volumes: &mut Value) -> bool {
        let list = volumes.as_array_mut().into_iter().flatten();
        let mut found = list.filter(|volume| volume["name"] == self.volume);
        found.next().map(|volume| *volume = self.to_volume()).is_some()
    }

    /// Returns a volume that has only the claim as its source.
    pub(crate) fn to_volume(&self) -> Value {
        let (key, source) = &self.source;
        json!({"name": self.volume, *key: source})
    }
}
