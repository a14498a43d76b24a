//! Decodes `fileMounts`: files in the primary container.
//!
//! A text becomes a pod annotation, which a downwardAPI volume mounts: this needs no right to create objects. Other
//! files are in a ConfigMap or Secret that exists in the pod's namespace. Each file is a volume of its own, named by its
//! path, so that layers merge files by the rules of volumes.
//!
//! The names of the volume and the annotation depend on the configured path only, not on a filled placeholder or the
//! text: they are known at load, are equal on every pod, and two layers that set one file merge to one volume.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::decode::grammar::{NOT_A_FOLDER, is_folder};
use crate::config::decode::scalars::object_name;
use crate::config::keys;
use crate::config::pod::fragment_part::{FragmentPart, Level};
use crate::config::units::modules::hex;
use crate::model::placeholder;

/// Maximum length of a file's text, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// Prefix of a text's annotation. Its domain is not `podgraft.io`, whose keys no layer may set.
const ANNOTATION_PREFIX: &str = "file.podgraft.io/";

/// Prefix of a file's volume. The first [`DIGITS`] digits of the digest of its path follow.
const VOLUME_PREFIX: &str = "file-";
const DIGITS: usize = 16;

/// Returns true for the name of a file's volume.
pub(crate) fn is_file_volume(name: &str) -> bool {
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(VOLUME_PREFIX).is_some_and(|digest| digest.len() == DIGITS && digest.bytes().all(is_digit))
}

/// Returns true for the key of a file's annotation.
pub(crate) fn is_file_annotation(key: &str) -> bool {
    key.starts_with(ANNOTATION_PREFIX)
}

/// Decodes the files to annotations, volumes and mounts. `taken` are the paths of other mounts.
pub(crate) fn decode(list: &Cursor<'_>, taken: &BTreeSet<String>) -> Vec<FragmentPart> {
    let mut paths = taken.clone();
    let mut parts = Vec::new();
    for item in list.list() {
        let Some(file) = file(&item) else { continue };
        if !paths.insert(file.path.clone()) {
            item.error(format!("`{}` is mounted twice", file.path));
        }
        parts.extend(file.parts());
    }
    parts
}

struct File {
    /// path in the container
    path: String,
    /// last component of the path
    name: String,
    source: Source,
}

enum Source {
    Text(String),
    /// volume type, its field with the object's name, the object's name, the key in the object
    Object(&'static str, &'static str, String, String),
}

fn file(item: &Cursor<'_>) -> Option<File> {
    let mut fields = item.fields(&keys::FILE_MOUNT)?;
    let name = fields.take("name").and_then(|cursor| cursor.skip_placeholder(file_name));
    let folder = fields
        .take("folderPath")
        .and_then(|cursor| cursor.skip_placeholder(folder))
        .map(|text| text.trim_end_matches('/'));
    let mut sources: Vec<(Cursor<'_>, Option<Source>)> = Vec::new();
    if let Some(cursor) = fields.take("fileContent") {
        let text = text(&cursor);
        sources.push((cursor, text));
    }
    for (key, kind, field) in [("configMapRef", "configMap", "name"), ("secretRef", "secret", "secretName")] {
        if let Some(cursor) = fields.take(key) {
            let object = object(&cursor, kind, field, name);
            sources.push((cursor, object));
        }
    }
    finish(item, fields, sources.len());
    let (_, source) = sources.into_iter().next()?;
    Some(File { path: format!("{}/{}", folder?, name?), name: name?.to_owned(), source: source? })
}

fn finish(item: &Cursor<'_>, fields: Fields<'_>, sources: usize) {
    if sources != 1 {
        item.error("must have one source: fileContent, configMapRef or secretRef");
    }
    fields.finish();
}

fn folder<'a>(cursor: &Cursor<'a>) -> Option<&'a str> {
    let text = cursor.name()?;
    if !is_folder(text) {
        cursor.error(NOT_A_FOLDER);
    }
    Some(text)
}

fn file_name<'a>(cursor: &Cursor<'a>) -> Option<&'a str> {
    let text = cursor.name()?;
    if text.contains(['/', ':']) || matches!(text, "." | "..") {
        cursor.error("is not a file name (no / and :): the folder is set by folderPath");
    }
    Some(text)
}

fn text(cursor: &Cursor<'_>) -> Option<Source> {
    let text = cursor.text()?;
    if let Err(message) = placeholder::check(text) {
        cursor.error(format!("{message}; for a literal `${{` write `$${{`"));
    }
    if text.len() > MAX_TEXT_BYTES {
        cursor.error(format!(
            "has {} bytes, more than {MAX_TEXT_BYTES}: put it into a ConfigMap and use configMapRef",
            text.len()
        ));
    }
    Some(Source::Text(text.to_owned()))
}

fn object(cursor: &Cursor<'_>, kind: &'static str, field: &'static str, file: Option<&str>) -> Option<Source> {
    let mut fields = cursor.fields(&keys::FILE_REF)?;
    let name = fields.take("name").and_then(|cursor| cursor.skip_placeholder(object_name));
    let key = fields.take("key").map_or(file, |cursor| cursor.skip_placeholder(Cursor::name));
    fields.finish();
    Some(Source::Object(kind, field, name?.to_owned(), key?.to_owned()))
}

impl File {
    fn parts(&self) -> Vec<FragmentPart> {
        let part = |level, field, value: Value| FragmentPart { key: keys::FILE_MOUNTS, level, field, value };
        let digest = hex(&Sha256::digest(&self.path));
        let volume = format!("{VOLUME_PREFIX}{}", &digest[..DIGITS]);
        let mut parts = Vec::new();
        // the API server's defaults are set, or applying the layer twice would change the pod
        let source = match &self.source {
            Source::Text(text) => {
                let key = annotation(&self.name, &digest);
                let field = json!({"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{key}']")});
                parts.push(part(Level::Metadata, "annotations", json!({key: text})));
                json!({"downwardAPI": {"defaultMode": 420, "items": [{"path": "file", "fieldRef": field}]}})
            }
            Source::Object(kind, field, object, key) => {
                json!({*kind: {*field: object, "defaultMode": 420, "items": [{"key": key, "path": "file"}]}})
            }
        };
        let mut named = json!({"name": volume});
        if let (Some(named), Value::Object(source)) = (named.as_object_mut(), source) {
            named.extend(source);
        }
        parts.push(part(Level::Spec, "volumes", json!([named])));
        let mount = json!({"name": volume, "mountPath": self.path, "subPath": "file", "readOnly": true});
        parts.push(part(Level::Primary, "volumeMounts", json!([mount])));
        parts
    }
}

/// Returns the annotation's key: the file's name for readers, and 8 digits of the path's digest against collisions.
fn annotation(name: &str, digest: &str) -> String {
    let replace = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = name.chars().map(replace).take(40).collect();
    format!("{ANNOTATION_PREFIX}{}-{}", name.trim_start_matches(['.', '_', '-']), &digest[..8]).replace("/-", "/")
}
