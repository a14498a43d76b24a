//! The tree of a configuration file. Every key and value has its position.

use serde_json::{Map, Number, Value};

/// A position in a file. 0 means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// line, from 1
    pub line: u32,
    /// column in characters, from 1
    pub column: u32,
}

/// A value and its position. It has no `Debug` on purpose: it may hold secrets.
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) tree: Tree,
}

/// The value of a [`Node`].
pub(crate) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
pub(crate) struct Key {
    pub(crate) at: Position,
    pub(crate) text: String,
}

impl Node {
    /// Returns the value of `key`, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().find_map(|(k, node)| (k.text == key).then_some(node)),
            _ => None,
        }
    }

    /// Returns the value of `key`, if it is a string.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key).map(|node| &node.tree) {
            Some(Tree::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Returns true if the value is this string.
    pub(crate) fn is_text(&self, text: &str) -> bool {
        matches!(&self.tree, Tree::Text(own) if own == text)
    }

    /// Returns the keys of a mapping; of other values none.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        let entries = match &self.tree {
            Tree::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key)
    }

    /// Returns the value's type for an error text; the value itself may be a secret.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.tree {
            Tree::Null => "nothing",
            Tree::Bool(_) => "a boolean",
            Tree::Number(_) => "a number",
            Tree::Text(_) => "a string",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a mapping",
        }
    }

    /// Returns true for null, `{}`, `[]` and `""`, which Helm's `default` treats as not set.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.tree {
            Tree::Null => true,
            Tree::Bool(_) | Tree::Number(_) => false,
            Tree::Text(text) => text.is_empty(),
            Tree::List(list) => list.is_empty(),
            Tree::Map(map) => map.is_empty(),
        }
    }

    /// Converts to JSON, without positions.
    pub(crate) fn to_json(&self) -> Value {
        match &self.tree {
            Tree::Null => Value::Null,
            Tree::Bool(value) => Value::Bool(*value),
            Tree::Number(value) => Value::Number(value.clone()),
            Tree::Text(value) => Value::String(value.clone()),
            Tree::List(list) => Value::Array(list.iter().map(Node::to_json).collect()),
            Tree::Map(map) => {
                let entries = map.iter().map(|(key, node)| (key.text.clone(), node.to_json()));
                Value::Object(entries.collect::<Map<_, _>>())
            }
        }
    }
}
