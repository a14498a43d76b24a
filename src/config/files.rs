//! `fileMounts`: files in the task's container.
//!
//! A text becomes a pod annotation that a downwardAPI volume shows: nobody needs the right to create anything. Other
//! files are in a ConfigMap or Secret that exists in the pod's namespace. Each file is a volume of its own, named after
//! its path, so that layers lay one file over another by the same rules as any volume.
//!
//! Placeholders are filled here as in any other text of a layer. The names of the volume and the annotation are made of
//! the path as it is configured, and of nothing that a pod fills in: they are known at load, where layers are put
//! together and checked, they are the same on every pod, and a file whose text changes does not change its name (two
//! layers that give one file would otherwise give two).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::cursor::{Cursor, Fields};
use super::grammar::{NO_FOLDER, is_folder};
use super::keys;
use super::modules::hex;
use super::scalars::object_name;
use super::template::{Level, Piece};
use crate::model::placeholder;

/// Bytes of a file's text.
const MOST_BYTES: usize = 64 << 10;

/// Before the name of a text's annotation. A domain beside `podgraft.io`, whose keys no layer may write.
const ANNOTATION: &str = "file.podgraft.io/";

/// A file's volume is called this and so many digits of its path's digest.
const VOLUME: &str = "file-";
const DIGITS: usize = 16;

/// Whether a volume has a name as files' volumes have.
pub(crate) fn is_file_volume(name: &str) -> bool {
    let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    name.strip_prefix(VOLUME).is_some_and(|digest| digest.len() == DIGITS && digest.bytes().all(is_digit))
}

/// Whether an annotation has a name as files' annotations have.
pub(crate) fn is_file_annotation(key: &str) -> bool {
    key.starts_with(ANNOTATION)
}

/// What files there are: annotations, volumes and mounts. `taken` are the paths of other mounts.
pub(crate) fn decode(list: &Cursor<'_>, taken: &BTreeSet<String>) -> Vec<Piece> {
    let mut paths = taken.clone();
    let mut pieces = Vec::new();
    for item in list.list() {
        let Some(file) = file(&item) else { continue };
        if !paths.insert(file.path.clone()) {
            item.error(format!("`{}` is mounted twice", file.path));
        }
        pieces.extend(file.pieces());
    }
    pieces
}

struct File {
    /// where it appears
    path: String,
    /// its last part
    name: String,
    source: Source,
}

enum Source {
    Text(String),
    /// volume type, the key of the object's name in it, that name, the key in the object
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
        cursor.error(NO_FOLDER);
    }
    Some(text)
}

fn file_name<'a>(cursor: &Cursor<'a>) -> Option<&'a str> {
    let text = cursor.name()?;
    if text.contains(['/', ':']) || matches!(text, "." | "..") {
        cursor.error("is not a file's name (no / and :): the folder is folderPath");
    }
    Some(text)
}

fn text(cursor: &Cursor<'_>) -> Option<Source> {
    let text = cursor.text()?;
    if let Err(why) = placeholder::check(text) {
        cursor.error(format!("{why}; `$${{` is a `${{` of the file's own"));
    }
    if text.len() > MOST_BYTES {
        cursor.error(format!(
            "has {} bytes, more than {MOST_BYTES}: put it into a ConfigMap and say configMapRef",
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
    fn pieces(&self) -> Vec<Piece> {
        let piece = |place, field, value: Value| Piece { key: keys::FILE_MOUNTS, place, field, value };
        let digest = hex(&Sha256::digest(&self.path));
        let volume = format!("{VOLUME}{}", &digest[..DIGITS]);
        let mut pieces = Vec::new();
        // what the API server would fill in is written out, or laying it twice would change it
        let source = match &self.source {
            Source::Text(text) => {
                let key = annotation(&self.name, &digest);
                let field = json!({"apiVersion": "v1", "fieldPath": format!("metadata.annotations['{key}']")});
                pieces.push(piece(Level::Metadata, "annotations", json!({key: text})));
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
        pieces.push(piece(Level::Spec, "volumes", json!([named])));
        let mount = json!({"name": volume, "mountPath": self.path, "subPath": "file", "readOnly": true});
        pieces.push(piece(Level::Primary, "volumeMounts", json!([mount])));
        pieces
    }
}

/// The annotation of a text: its name for people, and enough of its path's digest to tell it from its namesakes.
fn annotation(name: &str, digest: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = name.chars().map(fine).take(40).collect();
    format!("{ANNOTATION}{}-{}", name.trim_start_matches(['.', '_', '-']), &digest[..8]).replace("/-", "/")
}
