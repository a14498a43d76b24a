//! Sorts the contents of all files by section: every unit with its definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::decode::ast::{Node, Position, Tree};
use crate::config::decode::cursor::{Cursor, Fields};
use crate::config::diagnostics::{Diagnostic, Diagnostics};
use crate::config::input::Document;
use crate::config::keys;

/// A definition of a unit or section in one file.
pub(crate) struct Definition<'a> {
    pub(crate) file: &'a Arc<str>,
    /// position of its key
    pub(crate) at: Position,
    pub(crate) node: &'a Node,
}

/// Definitions by name.
pub(crate) type NamedDefinitions<'a> = BTreeMap<&'a str, Vec<Definition<'a>>>;

/// The contents of all files, by section.
#[derive(Default)]
pub(crate) struct Sections<'a> {
    pub(crate) base: Vec<Definition<'a>>,
    pub(crate) environments: NamedDefinitions<'a>,
    pub(crate) queues: NamedDefinitions<'a>,
    pub(crate) modules: NamedDefinitions<'a>,
    pub(crate) systems: NamedDefinitions<'a>,
    pub(crate) task_config: Vec<Definition<'a>>,
    pub(crate) providers_info: Vec<Definition<'a>>,
    pub(crate) unknown_queue: Vec<Definition<'a>>,
    /// files with an error outside of any unit: other units that the author meant to define in them are unknown
    pub(crate) malformed: BTreeSet<Arc<str>>,
    pub(crate) errors: Vec<Diagnostic>,
    pub(crate) notices: Vec<Diagnostic>,
}

impl<'a> Sections<'a> {
    /// Sorts the top-level keys of the documents.
    pub(crate) fn from_documents(documents: &'a [Document]) -> Self {
        let mut sections = Self::default();
        for document in documents {
            let diagnostics = Diagnostics::new(&document.file);
            if let Some(fields) = Cursor::new(&document.node, "", &diagnostics).fields(&keys::FILE) {
                sections.sort(fields, document);
            }
            if !diagnostics.is_clean() {
                sections.malformed.insert(Arc::clone(&document.file));
            }
            sections.notices.extend(diagnostics.take_notices());
            sections.errors.extend(diagnostics.into_errors());
        }
        sections
    }

    /// Returns the labels by which environments and queues match pods, each with such a unit.
    pub(crate) fn matched_labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (kind, named) in [("queues", &self.queues), ("environments", &self.environments)] {
            for (name, definitions) in named {
                let found = definitions.iter().filter_map(|definition| definition.node.get("match")?.get("podLabels"));
                let keys = found.flat_map(|node| match &node.tree {
                    Tree::Map(entries) => entries.as_slice(),
                    _ => &[],
                });
                labels.extend(keys.map(|(key, _)| (key.text.clone(), format!("{kind}.{name}"))));
            }
        }
        labels
    }

    fn sort(&mut self, mut fields: Fields<'_>, document: &'a Document) {
        // checked already
        fields.take("apiVersion");
        fields.take("kind");
        fields.take("metadata");
        for (key, named) in [
            ("systems", &mut self.systems),
            ("environments", &mut self.environments),
            ("queues", &mut self.queues),
            ("modules", &mut self.modules),
        ] {
            fields.take(key).iter().for_each(|cursor| sort_named(cursor, document, key, named));
        }
        for (key, definitions) in [
            ("basePodTemplate", &mut self.base),
            ("taskConfig", &mut self.task_config),
            ("providersInfo", &mut self.providers_info),
            ("unknownQueue", &mut self.unknown_queue),
        ] {
            if let (Some(cursor), Some(node)) = (fields.take(key), document.node.get(key)) {
                definitions.push(Definition { file: &document.file, at: cursor.node.at, node });
            }
        }
        fields.finish();
    }
}

fn sort_named<'a>(cursor: &Cursor<'_>, document: &'a Document, key: &str, named: &mut NamedDefinitions<'a>) {
    // the cursor reports errors; the entries are taken from the document, which outlives the cursor
    let count = cursor.entries().len();
    let Some(Tree::Map(entries)) = document.node.get(key).map(|node| &node.tree) else { return };
    for (key, node) in entries.iter().take(count) {
        if key.text.is_empty() {
            cursor.diagnostics.error(key.at, &cursor.path, "a name must not be empty");
            continue;
        }
        named.entry(&key.text).or_default().push(Definition { file: &document.file, at: key.at, node });
    }
}
