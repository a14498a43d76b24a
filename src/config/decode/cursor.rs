//! Decoding by hand: a [`Cursor`] stands on one value and knows its path; [`Fields`] takes a mapping apart
//! and refuses what nobody asked for. Both go on after an error, so that one load shows them all.

use serde_json::Value;

use crate::config::decode::ast::{Key, Node, Tree};
use crate::config::decode::grammar::{self, NO_PATCH, PATCH};
use crate::config::diagnostics::Diagnostics;
use crate::config::keys::{self, KeyStatus, Keys, Kind};
use crate::k8s::schema::did_you_mean;
use crate::model::placeholder;

/// One value of a file.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) node: &'a Node,
    /// `queues.x.env[0]`
    pub(crate) path: String,
    pub(crate) report: &'a Diagnostics,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>, report: &'a Diagnostics) -> Self {
        Self { node, path: path.into(), report }
    }

    pub(crate) fn error(&self, message: impl Into<String>) {
        self.report.add(self.node.at, &self.path, message);
    }

    pub(crate) fn child(&self, key: &str, node: &'a Node) -> Self {
        // a key with a dot (label keys, mostly) would read as several
        let path = match key.contains('.') {
            true => format!("{}['{key}']", self.path),
            false if self.path.is_empty() => key.to_owned(),
            false => format!("{}.{key}", self.path),
        };
        Self { node, path, report: self.report }
    }

    /// The value under `key`, when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let node = self.node.get(key).filter(|node| !matches!(node.tree, Tree::Null))?;
        Some(self.child(key, node))
    }

    /// The entries that are set, when this is a mapping.
    pub(crate) fn set_entries(&self) -> impl Iterator<Item = (&'a str, Self)> {
        let entries = match &self.node.tree {
            Tree::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        let set = entries.iter().filter(|(_, node)| !matches!(node.tree, Tree::Null));
        set.map(|(key, node)| (key.text.as_str(), self.child(&key.text, node)))
    }

    /// The elements of a list; none, and a problem, when it is something else.
    pub(crate) fn list(&self) -> Vec<Cursor<'a>> {
        let Tree::List(nodes) = &self.node.tree else {
            self.error(format!("must be a list, not {}", self.node.kind()));
            return Vec::new();
        };
        let item = |(i, node)| Self { node, path: format!("{}[{i}]", self.path), report: self.report };
        nodes.iter().enumerate().map(item).collect()
    }

    /// The elements of a list; none when it is something else, which is said elsewhere.
    pub(crate) fn items(&self) -> Vec<Cursor<'a>> {
        if matches!(self.node.tree, Tree::List(_)) { self.list() } else { Vec::new() }
    }

    /// The entries of a mapping whose keys are names of the user's.
    pub(crate) fn entries(&self) -> Vec<(&'a Key, Cursor<'a>)> {
        let Tree::Map(entries) = &self.node.tree else {
            self.error(format!("must be a mapping, not {}", self.node.kind()));
            return Vec::new();
        };
        entries.iter().map(|(key, node)| (key, self.child(&key.text, node))).collect()
    }

    /// A string; a scalar that YAML reads as something else gets the fix named.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match &self.node.tree {
            Tree::Text(text) => Some(text),
            Tree::Bool(_) | Tree::Number(_) => {
                self.error(format!("must be a string, but YAML reads {} here: put it in quotes", self.node.kind()));
                None
            }
            _ => {
                self.error(format!("must be a string, not {}", self.node.kind()));
                None
            }
        }
    }

    /// A string; when it is something else, that is said elsewhere.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        match &self.node.tree {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is this string.
    pub(crate) fn is_text(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }

    /// A string that is not empty.
    pub(crate) fn name(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.error("must not be empty");
            return None;
        }
        Some(text)
    }

    /// A list of strings.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(Cursor::name).map(str::to_owned).collect()
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        let Tree::Bool(value) = self.node.tree else {
            self.error(format!("must be true or false, not {}", self.node.kind()));
            return None;
        };
        Some(value)
    }

    /// A whole number of 64 bits.
    pub(crate) fn integer(&self) -> Option<i64> {
        let number = match &self.node.tree {
            Tree::Number(number) => number.as_i64(),
            _ => None,
        };
        if number.is_none() {
            self.error("must be a whole number");
        }
        number
    }

    /// One of a closed set of words; `later` are words that the documentation knows and this version does not.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&'static str, T)], later: &[&str]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        if later.contains(&text) {
            self.error(format!("{text} is not supported yet"));
            return None;
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        self.check_one_of(&names);
        None
    }

    /// Refuses a text that is none of these words.
    pub(crate) fn check_one_of(&self, words: &[&str]) {
        let Some(text) = self.as_text().filter(|text| !words.contains(text)) else { return };
        let named = words.iter().copied().filter(|word| !word.is_empty());
        self.error(format!("{}{}", grammar::one_of_text(words), did_you_mean(text, named)));
    }

    /// A text whose value is not known before a pod comes: its grammar cannot be checked at load.
    pub(crate) fn has_placeholder(&self) -> bool {
        matches!(&self.node.tree, Tree::Text(text) if placeholder::text_has_placeholder(text))
    }

    /// The value as it is, checked for placeholders only.
    pub(crate) fn plain(&self) -> Value {
        self.deny_placeholders();
        self.node.to_json()
    }

    /// In what is laid over pods: a placeholder that no pod could fill is a problem.
    pub(crate) fn check_placeholders(&self) {
        if let Tree::Text(text) = &self.node.tree
            && let Err(why) = placeholder::check(text)
        {
            self.error(why);
        }
    }

    /// A text with a grammar, which only a pod can tell where a placeholder stands in it.
    pub(crate) fn skip_placeholder(&self, grammar: impl FnOnce(&Self) -> Option<&'a str>) -> Option<&'a str> {
        self.check_placeholders();
        if self.has_placeholder() { self.as_text() } else { grammar(self) }
    }

    /// Elsewhere nobody fills them; taken literally, they would mean something that nobody meant.
    pub(crate) fn deny_placeholders(&self) {
        match &self.node.tree {
            Tree::Text(text) if placeholder::text_has_placeholder(text) => {
                self.error("placeholders are for layers and claims, not here");
            }
            Tree::List(_) => self.list().iter().for_each(Cursor::deny_placeholders),
            Tree::Map(_) => self.entries().iter().for_each(|(_, entry)| entry.deny_placeholders()),
            _ => {}
        }
    }

    /// A mapping with a closed set of keys.
    pub(crate) fn fields(&self, keys: &'static Keys) -> Option<Fields<'a>> {
        let entries = self.members()?;
        Some(Fields { cursor: self.clone(), entries, keys, taken: Vec::new() })
    }

    /// The entries of a mapping; none of nothing: `queues: {gpu: }` is a queue that wants nothing of its own.
    pub(crate) fn members(&self) -> Option<&'a [(Key, Node)]> {
        match &self.node.tree {
            Tree::Map(entries) => Some(entries),
            Tree::Null => Some(&[]),
            _ => {
                self.error(format!("must be a mapping, not {}", self.node.kind()));
                None
            }
        }
    }
}

/// A mapping that is being taken apart. Whoever made it calls [`Fields::finish`].
pub(crate) struct Fields<'a> {
    pub(crate) cursor: Cursor<'a>,
    entries: &'a [(Key, Node)],
    keys: &'static Keys,
    taken: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The value of `key`; absent and null are the same, as they are to Kubernetes.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.taken.push(key);
        let found = self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node);
        let found = found.filter(|node| !matches!(node.tree, Tree::Null));
        if found.is_none()
            && let Some(row) = self.keys.find(key).filter(|row| row.stage == KeyStatus::Required)
        {
            let words =
                if let Kind::Word(words) = row.kind { format!(": {}", words.join(" or ")) } else { String::new() };
            self.cursor.error(format!("key `{key}` is missing{words}"));
        }
        found.map(|node| self.cursor.child(key, node))
    }

    /// The same for a key that must be there because of what another one says.
    pub(crate) fn require(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        let found = self.take(key);
        if found.is_none() {
            self.cursor.error(format!("key `{key}` is missing"));
        }
        found
    }

    /// The same for a key that is Helm's `default`: an empty value is not set.
    pub(crate) fn take_filled(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.take(key).filter(|cursor| !cursor.node.is_empty())
    }

    /// Refuses every key that nobody asked for, with the nearest one.
    pub(crate) fn finish(self) {
        for (key, node) in self.entries.iter().filter(|(key, _)| !self.taken.contains(&key.text.as_str())) {
            let (text, report) = (key.text.as_str(), self.cursor.report);
            let path = self.cursor.child(text, node).path;
            match self.keys.find(text).map(|key| key.stage) {
                _ if text == PATCH => report.add(key.at, &path, NO_PATCH),
                Some(KeyStatus::Agent) => {
                    report.notice(key.at, &path, "is the ClearML agent's own: podgraft reads nothing of it");
                }
                Some(KeyStatus::Later) => {
                    report.add(key.at, &self.cursor.path, format!("key `{text}` is not supported yet"));
                }
                Some(_) => report.add(key.at, &path, "has no meaning beside the other keys here"),
                None => {
                    let hint = || did_you_mean(text, self.keys.all().map(|key| key.name));
                    let said = keys::misplaced(self.keys, text);
                    report.add(key.at, &path, said.unwrap_or_else(|| format!("unknown key{}", hint())));
                }
            }
        }
    }
}
