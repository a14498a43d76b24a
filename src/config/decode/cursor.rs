//! Decodes values by hand: a [`Cursor`] is one value with its path; [`Fields`] takes the known keys of a mapping and
//! reports the others. Both continue after an error, so that one load reports all errors.

use serde_json::Value;

use crate::config::decode::ast::{Key, Node, Tree};
use crate::config::decode::grammar::{self, PATCH, PATCH_NOT_ALLOWED};
use crate::config::diagnostics::Diagnostics;
use crate::config::keys::{self, KeyStatus, Keys, Kind};
use crate::k8s::schema::did_you_mean;
use crate::model::placeholder;

/// One value of a file with its path.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    pub(crate) node: &'a Node,
    /// such as `queues.x.env[0]`
    pub(crate) path: String,
    pub(crate) diagnostics: &'a Diagnostics,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(node: &'a Node, path: impl Into<String>, diagnostics: &'a Diagnostics) -> Self {
        Self { node, path: path.into(), diagnostics }
    }

    pub(crate) fn error(&self, message: impl Into<String>) {
        self.diagnostics.error(self.node.at, &self.path, message);
    }

    pub(crate) fn child(&self, key: &str, node: &'a Node) -> Self {
        // a key with a dot (mostly of labels) would look like several keys
        let path = match key.contains('.') {
            true => format!("{}['{key}']", self.path),
            false if self.path.is_empty() => key.to_owned(),
            false => format!("{}.{key}", self.path),
        };
        Self { node, path, diagnostics: self.diagnostics }
    }

    /// Returns the value of `key`, if this is a mapping that has it and it is not null.
    pub(crate) fn get(&self, key: &str) -> Option<Self> {
        let node = self.node.get(key).filter(|node| !matches!(node.tree, Tree::Null))?;
        Some(self.child(key, node))
    }

    /// Returns the entries of a mapping that are not null; of other values none.
    pub(crate) fn set_entries(&self) -> impl Iterator<Item = (&'a str, Self)> {
        let entries = match &self.node.tree {
            Tree::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        let set = entries.iter().filter(|(_, node)| !matches!(node.tree, Tree::Null));
        set.map(|(key, node)| (key.text.as_str(), self.child(&key.text, node)))
    }

    /// Returns the elements of a list; adds an error for another type.
    pub(crate) fn list(&self) -> Vec<Cursor<'a>> {
        let Tree::List(nodes) = &self.node.tree else {
            self.error(format!("must be a list, not {}", self.node.kind()));
            return Vec::new();
        };
        let item = |(i, node)| Self { node, path: format!("{}[{i}]", self.path), diagnostics: self.diagnostics };
        nodes.iter().enumerate().map(item).collect()
    }

    /// Returns the elements of a list; of another type none, and adds no error.
    pub(crate) fn items(&self) -> Vec<Cursor<'a>> {
        if matches!(self.node.tree, Tree::List(_)) { self.list() } else { Vec::new() }
    }

    /// Returns the entries of a mapping whose keys the user chooses; adds an error for another type.
    pub(crate) fn entries(&self) -> Vec<(&'a Key, Cursor<'a>)> {
        let Tree::Map(entries) = &self.node.tree else {
            self.error(format!("must be a mapping, not {}", self.node.kind()));
            return Vec::new();
        };
        entries.iter().map(|(key, node)| (key, self.child(&key.text, node))).collect()
    }

    /// Returns a string; adds an error for another type, with the fix for an unquoted scalar.
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

    /// Returns a string; adds no error for another type.
    pub(crate) fn as_text(&self) -> Option<&'a str> {
        match &self.node.tree {
            Tree::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns true if the value is this string.
    pub(crate) fn is_text(&self, text: &str) -> bool {
        self.as_text() == Some(text)
    }

    /// Returns a string that is not empty; adds an error otherwise.
    pub(crate) fn name(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.error("must not be empty");
            return None;
        }
        Some(text)
    }

    /// Returns the strings of a list that are not empty; adds an error for each other element.
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

    /// Returns a whole number of 64 bits; adds an error otherwise.
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

    /// Returns the value of one of these words; `later` are documented words that this version does not support.
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

    /// Adds an error for a string that is none of these words.
    pub(crate) fn check_one_of(&self, words: &[&str]) {
        let Some(text) = self.as_text().filter(|text| !words.contains(text)) else { return };
        let named = words.iter().copied().filter(|word| !word.is_empty());
        self.error(format!("{}{}", grammar::one_of_text(words), did_you_mean(text, named)));
    }

    /// Returns true for a string with a placeholder: its value depends on the pod and cannot be checked at load.
    pub(crate) fn has_placeholder(&self) -> bool {
        matches!(&self.node.tree, Tree::Text(text) if placeholder::text_has_placeholder(text))
    }

    /// Converts to JSON; adds an error for each placeholder.
    pub(crate) fn plain(&self) -> Value {
        self.deny_placeholders();
        self.node.to_json()
    }

    /// Adds an error for a placeholder that no pod can fill.
    pub(crate) fn check_placeholders(&self) {
        if let Tree::Text(text) = &self.node.tree
            && let Err(why) = placeholder::check(text)
        {
            self.error(why);
        }
    }

    /// Decodes a string by `grammar`, unless it has a placeholder.
    pub(crate) fn skip_placeholder(&self, grammar: impl FnOnce(&Self) -> Option<&'a str>) -> Option<&'a str> {
        self.check_placeholders();
        if self.has_placeholder() { self.as_text() } else { grammar(self) }
    }

    /// Adds an error for each placeholder: outside of layers and claims they are not filled.
    pub(crate) fn deny_placeholders(&self) {
        match &self.node.tree {
            Tree::Text(text) if placeholder::text_has_placeholder(text) => {
                self.error("placeholders are allowed in layers and claims only");
            }
            Tree::List(_) => self.list().iter().for_each(Cursor::deny_placeholders),
            Tree::Map(_) => self.entries().iter().for_each(|(_, entry)| entry.deny_placeholders()),
            _ => {}
        }
    }

    /// Starts decoding a mapping with a closed set of keys; adds an error for another type.
    pub(crate) fn fields(&self, keys: &'static Keys) -> Option<Fields<'a>> {
        let entries = self.members()?;
        Some(Fields { cursor: self.clone(), entries, keys, taken: Vec::new() })
    }

    /// Returns the entries of a mapping; of null none: `queues: {gpu: }` is a queue without settings.
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

/// The fields of a mapping that is being decoded. The caller ends with [`Fields::finish`].
pub(crate) struct Fields<'a> {
    pub(crate) cursor: Cursor<'a>,
    entries: &'a [(Key, Node)],
    keys: &'static Keys,
    taken: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Takes the value of `key`. Null counts as absent, as in Kubernetes; a missing required key is an error.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.taken.push(key);
        let found = self.entries.iter().find(|(k, _)| k.text == key).map(|(_, node)| node);
        let found = found.filter(|node| !matches!(node.tree, Tree::Null));
        if found.is_none()
            && let Some(row) = self.keys.find(key).filter(|row| row.status == KeyStatus::Required)
        {
            let words =
                if let Kind::Word(words) = row.kind { format!(": {}", words.join(" or ")) } else { String::new() };
            self.cursor.error(format!("key `{key}` is missing{words}"));
        }
        found.map(|node| self.cursor.child(key, node))
    }

    /// Takes the value of a key that another key's value makes required.
    pub(crate) fn require(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        let found = self.take(key);
        if found.is_none() {
            self.cursor.error(format!("key `{key}` is missing"));
        }
        found
    }

    /// Takes the value of `key`; an empty value counts as absent, as in Helm's `default`.
    pub(crate) fn take_non_empty(&mut self, key: &'static str) -> Option<Cursor<'a>> {
        self.take(key).filter(|cursor| !cursor.node.is_empty())
    }

    /// Adds an error for every key that was not taken, with the nearest known key.
    pub(crate) fn finish(self) {
        for (key, node) in self.entries.iter().filter(|(key, _)| !self.taken.contains(&key.text.as_str())) {
            let (text, diagnostics) = (key.text.as_str(), self.cursor.diagnostics);
            let path = self.cursor.child(text, node).path;
            match self.keys.find(text).map(|key| key.status) {
                _ if text == PATCH => diagnostics.error(key.at, &path, PATCH_NOT_ALLOWED),
                Some(KeyStatus::Agent) => {
                    diagnostics.notice(key.at, &path, "is a key of the ClearML agent: podgraft ignores it");
                }
                Some(KeyStatus::Later) => {
                    diagnostics.error(key.at, &self.cursor.path, format!("key `{text}` is not supported yet"));
                }
                Some(_) => diagnostics.error(key.at, &path, "is not allowed with the other keys here"),
                None => {
                    let hint = || did_you_mean(text, self.keys.all().map(|key| key.name));
                    let misplaced = keys::misplaced(self.keys, text);
                    diagnostics.error(key.at, &path, misplaced.unwrap_or_else(|| format!("unknown key{}", hint())));
                }
            }
        }
    }
}
