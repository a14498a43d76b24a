//! Files to documents: which of them are ours, which cannot be read.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::modules::Wasm;
use super::node::{Node, Position, Tree};
use super::yaml;
use crate::k8s::schema::nearest;

/// What every file begins with.
const HEAD: [(&str, &str); 2] = [("apiVersion", "podgraft.io/v1alpha1"), ("kind", "GraftConfig")];

/// A configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// as errors call it: a file's name, or `<ConfigMap>/<key>`
    pub name: String,
    /// its text
    pub text: String,
}

/// All that a configuration is made from.
#[derive(Clone, Default)]
pub struct Input {
    /// YAML files, of which those that hold no GraftConfig are ignored
    pub files: Vec<File>,
    /// the modules' bytes
    pub wasm: Vec<Wasm>,
    /// podgraft's own namespace
    pub namespace: String,
}

/// A file that holds a GraftConfig.
pub(crate) struct Doc {
    pub(crate) file: Arc<str>,
    pub(crate) node: Node,
}

/// The files after reading.
#[derive(Default)]
pub(crate) struct Docs {
    /// by file name
    pub(crate) graft: Vec<Doc>,
    /// modules that came in ConfigMap manifests
    pub(crate) wasm: Vec<Wasm>,
    /// ours, but not readable: what was in them is not known
    pub(crate) malformed: BTreeSet<Arc<str>>,
    pub(crate) problems: Vec<Diagnostic>,
    /// the names and texts that count for the digest
    pub(crate) texts: Vec<(Arc<str>, String)>,
}

/// Reads all files; `known` says which were ours before.
pub(crate) fn read(input: &Input, known: &dyn Fn(&str) -> bool) -> Docs {
    let mut docs = Docs::default();
    for file in &input.files {
        docs.read(&file.name, &file.text, known, true);
    }
    docs.graft.sort_by(|a, b| a.file.cmp(&b.file));
    docs.texts.sort();
    docs
}

impl Docs {
    fn read(&mut self, name: &str, text: &str, known: &dyn Fn(&str) -> bool, may_be_manifest: bool) {
        let file: Arc<str> = name.into();
        let node = match yaml::parse(text) {
            Ok(node) => node,
            // a broken file of somebody else's is none of our business
            Err(_) if !known(name) && !text.contains("podgraft.io/") => return,
            Err(error) => {
                self.mark_malformed(&file, error.at, "", &error.message);
                self.texts.push((file, text.to_owned()));
                return;
            }
        };
        match (node.text("apiVersion"), node.text("kind")) {
            (Some("podgraft.io/v1alpha1"), Some("GraftConfig")) => {
                self.texts.push((Arc::clone(&file), text.to_owned()));
                self.graft.push(Doc { file, node });
            }
            (Some("v1"), Some("ConfigMap")) if may_be_manifest => self.read_manifest(&node, &file, known),
            // the two lines got lost or misspelled: still ours
            (version, kind) if is_meant_for_us(version, kind) || known(name) => {
                self.mark_malformed_head(&file, &node);
                self.texts.push((file, text.to_owned()));
            }
            _ => {}
        }
    }

    /// Says what is wrong with `apiVersion` and `kind`.
    fn mark_malformed_head(&mut self, file: &Arc<str>, node: &Node) {
        for (key, right) in HEAD {
            let misspelled = node.keys().find(|found| found.text != key && nearest(&found.text, [key]).is_some());
            match (node.get(key), misspelled) {
                (Some(value), _) if value.is_text(right) => {}
                (Some(value), _) => self.mark_malformed(file, value.at, key, &format!("must be {right}")),
                (None, Some(found)) => {
                    self.mark_malformed(file, found.at, &found.text, &format!("unknown key; did you mean {key}?"));
                }
                (None, None) => self.mark_malformed(file, node.at, "", &format!("{key}: {right} is missing")),
            }
        }
    }

    fn mark_malformed(&mut self, file: &Arc<str>, at: Position, path: &str, message: &str) {
        let report = Diagnostics::new(file);
        report.add(at, path, message);
        self.problems.extend(report.into_errors());
        self.malformed.insert(Arc::clone(file));
    }

    /// A core/v1 ConfigMap, read as the cluster's would be.
    fn read_manifest(&mut self, node: &Node, file: &Arc<str>, known: &dyn Fn(&str) -> bool) {
        let name = node.get("metadata").and_then(|metadata| metadata.text("name")).unwrap_or(file);
        for (key, text) in texts(node.get("data")).filter(|(key, _)| is_yaml(key)) {
            self.read(&format!("{name}/{key}"), text, known, false);
        }
        for (key, text) in texts(node.get("binaryData")).filter(|(key, _)| is_wasm(key)) {
            let packed: String = text.split_whitespace().collect();
            if let Ok(bytes) = STANDARD.decode(packed) {
                let origin = format!("ConfigMap {name}");
                self.wasm.push(Wasm { name: key.to_owned(), origin, bytes: bytes.into() });
            } else {
                let at = node.get("binaryData").and_then(|data| data.get(key)).map_or(node.at, |node| node.at);
                let report = Diagnostics::new(file);
                report.add(at, &format!("binaryData['{key}']"), "is not base64");
                self.problems.extend(report.into_errors());
            }
        }
    }
}

fn is_meant_for_us(version: Option<&str>, kind: Option<&str>) -> bool {
    let near = |kind: &str| nearest(kind, ["GraftConfig"]).is_some();
    kind.is_some_and(near) || version.is_some_and(|version| version.starts_with("podgraft.io/"))
}

/// Whether a file or ConfigMap key of this name may hold configuration.
pub(crate) fn is_yaml(name: &str) -> bool {
    matches!(ending(name), Some("yaml" | "yml"))
}

/// Whether a file or ConfigMap key of this name is a module.
pub(crate) fn is_wasm(name: &str) -> bool {
    ending(name) == Some("wasm")
}

fn ending(name: &str) -> Option<&str> {
    name.rsplit_once('.').map(|(_, ending)| ending)
}

fn texts(node: Option<&Node>) -> impl Iterator<Item = (&str, &str)> {
    let entries = match node.map(|node| &node.tree) {
        Some(Tree::Map(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().filter_map(|(key, node)| match &node.tree {
        Tree::Text(text) => Some((key.text.as_str(), text.as_str())),
        _ => None,
    })
}
