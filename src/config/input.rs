//! Finds the GraftConfigs among the files and parses them.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::decode::ast::{Node, Position, Tree};
use crate::config::decode::yaml;
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::units::modules::Wasm;
use crate::k8s::schema::nearest;

/// The first two keys of every GraftConfig.
const HEAD: [(&str, &str); 2] = [("apiVersion", "podgraft.io/v1alpha1"), ("kind", "GraftConfig")];

/// A configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// name in error texts: the file's name, or `<ConfigMap>/<key>`
    pub name: String,
    /// its text
    pub text: String,
}

/// The input of a build.
#[derive(Clone, Default)]
pub struct Input {
    /// YAML files; those without a GraftConfig are ignored
    pub files: Vec<File>,
    /// the Wasm files of the modules
    pub wasm: Vec<Wasm>,
    /// podgraft's own namespace
    pub namespace: String,
}

/// A parsed file that holds a GraftConfig.
pub(crate) struct Document {
    pub(crate) file: Arc<str>,
    pub(crate) node: Node,
}

/// The parsed files.
#[derive(Default)]
pub(crate) struct Documents {
    /// GraftConfigs, sorted by file name
    pub(crate) configs: Vec<Document>,
    /// Wasm files from ConfigMap manifests
    pub(crate) wasm: Vec<Wasm>,
    /// GraftConfigs that cannot be parsed: the units defined in them are unknown
    pub(crate) malformed: BTreeSet<Arc<str>>,
    pub(crate) errors: Vec<Diagnostic>,
    /// names and texts of the GraftConfigs, for the digest
    pub(crate) texts: Vec<(Arc<str>, String)>,
}

/// Parses all files; `known` returns true for a file that held a GraftConfig before.
pub(crate) fn read(input: &Input, known: &dyn Fn(&str) -> bool) -> Documents {
    let mut documents = Documents::default();
    for file in &input.files {
        documents.read(&file.name, &file.text, known, true);
    }
    documents.configs.sort_by(|a, b| a.file.cmp(&b.file));
    documents.texts.sort();
    documents
}

impl Documents {
    fn read(&mut self, name: &str, text: &str, known: &dyn Fn(&str) -> bool, may_be_manifest: bool) {
        let file: Arc<str> = name.into();
        let node = match yaml::parse(text) {
            Ok(node) => node,
            // a malformed file that is not a GraftConfig is ignored
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
                self.configs.push(Document { file, node });
            }
            (Some("v1"), Some("ConfigMap")) if may_be_manifest => self.read_manifest(&node, &file, known),
            // one of the two keys is missing or misspelled: still a GraftConfig
            (version, kind) if is_meant_as_config(version, kind) || known(name) => {
                self.mark_malformed_head(&file, &node);
                self.texts.push((file, text.to_owned()));
            }
            _ => {}
        }
    }

    /// Adds errors for an invalid `apiVersion` or `kind`.
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
        let diagnostics = Diagnostics::new(file);
        diagnostics.error(at, path, message);
        self.errors.extend(diagnostics.into_errors());
        self.malformed.insert(Arc::clone(file));
    }

    /// Reads the manifest of a ConfigMap as one of the cluster.
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
                let diagnostics = Diagnostics::new(file);
                diagnostics.error(at, &format!("binaryData['{key}']"), "is not base64");
                self.errors.extend(diagnostics.into_errors());
            }
        }
    }
}

fn is_meant_as_config(version: Option<&str>, kind: Option<&str>) -> bool {
    let near = |kind: &str| nearest(kind, ["GraftConfig"]).is_some();
    kind.is_some_and(near) || version.is_some_and(|version| version.starts_with("podgraft.io/"))
}

/// Returns true for the name of a file or ConfigMap key that may hold a GraftConfig.
pub fn is_yaml(name: &str) -> bool {
    matches!(ending(name), Some("yaml" | "yml"))
}

/// Returns true for the name of a file or ConfigMap key that holds a module.
pub fn is_wasm(name: &str) -> bool {
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
