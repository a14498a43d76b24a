//! The files of one configuration put together: every unit with the places where it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cursor::{Cursor, Fields};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::keys;
use super::node::{Node, Position, Tree};
use super::read::Doc;

/// Where something is written.
pub(crate) struct Part<'a> {
    pub(crate) file: &'a Arc<str>,
    /// its key
    pub(crate) at: Position,
    pub(crate) node: &'a Node,
}

/// The parts of named things.
pub(crate) type Named<'a> = BTreeMap<&'a str, Vec<Part<'a>>>;

/// All files, by what is written in them.
#[derive(Default)]
pub(crate) struct Sections<'a> {
    pub(crate) base: Vec<Part<'a>>,
    pub(crate) environments: Named<'a>,
    pub(crate) queues: Named<'a>,
    pub(crate) modules: Named<'a>,
    pub(crate) systems: Named<'a>,
    pub(crate) task_config: Vec<Part<'a>>,
    pub(crate) providers_info: Vec<Part<'a>>,
    pub(crate) unknown_queue: Vec<Part<'a>>,
    /// files with a mistake outside of any unit: what else its author meant to be in them is not known
    pub(crate) torn: BTreeSet<Arc<str>>,
    pub(crate) problems: Vec<Diagnostic>,
    pub(crate) notices: Vec<Diagnostic>,
}

impl<'a> Sections<'a> {
    /// Sorts the documents' top-level keys.
    pub(crate) fn of(docs: &'a [Doc]) -> Self {
        let mut sections = Self::default();
        for doc in docs {
            let report = Diagnostics::new(&doc.file);
            if let Some(fields) = Cursor::new(&doc.node, "", &report).fields(&keys::FILE) {
                sections.sort(fields, doc);
            }
            if !report.is_clean() {
                sections.torn.insert(Arc::clone(&doc.file));
            }
            sections.notices.extend(report.take_notices());
            sections.problems.extend(report.into_errors());
        }
        sections
    }

    /// The labels by which environments and queues match pods, as written, and one that does.
    pub(crate) fn matched_labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (kind, named) in [("queues", &self.queues), ("environments", &self.environments)] {
            for (name, parts) in named {
                let found = parts.iter().filter_map(|part| part.node.get("match")?.get("podLabels"));
                let keys = found.flat_map(|node| match &node.tree {
                    Tree::Map(entries) => entries.as_slice(),
                    _ => &[],
                });
                labels.extend(keys.map(|(key, _)| (key.text.clone(), format!("{kind}.{name}"))));
            }
        }
        labels
    }

    fn sort(&mut self, mut fields: Fields<'_>, doc: &'a Doc) {
        // read already
        fields.take("apiVersion");
        fields.take("kind");
        fields.take("metadata");
        for (key, named) in [
            ("systems", &mut self.systems),
            ("environments", &mut self.environments),
            ("queues", &mut self.queues),
            ("modules", &mut self.modules),
        ] {
            fields.take(key).iter().for_each(|cursor| sort_named(cursor, doc, key, named));
        }
        for (key, parts) in [
            ("basePodTemplate", &mut self.base),
            ("taskConfig", &mut self.task_config),
            ("providersInfo", &mut self.providers_info),
            ("unknownQueue", &mut self.unknown_queue),
        ] {
            if let (Some(cursor), Some(node)) = (fields.take(key), doc.node.get(key)) {
                parts.push(Part { file: &doc.file, at: cursor.node.at, node });
            }
        }
        fields.finish();
    }
}

fn sort_named<'a>(cursor: &Cursor<'_>, doc: &'a Doc, key: &str, named: &mut Named<'a>) {
    // told by the cursor, taken from the document, which lives as long as the sections do
    let count = cursor.entries().len();
    let Some(Tree::Map(entries)) = doc.node.get(key).map(|node| &node.tree) else { return };
    for (key, node) in entries.iter().take(count) {
        if key.text.is_empty() {
            cursor.report.add(key.at, &cursor.path, "a name is empty");
            continue;
        }
        named.entry(&key.text).or_default().push(Part { file: &doc.file, at: key.at, node });
    }
}
