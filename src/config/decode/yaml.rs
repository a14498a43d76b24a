//! Parses YAML text to [`Node`]s.
//!
//! Scalars follow YAML 1.1, as in kubectl (`0644` is octal, `no` is false). Duplicate keys and a second document are
//! errors. Aliases and merge keys are supported, and their expansion is bounded.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::{DuplicateKeyPolicy, Error, Location, Spanned};

use crate::config::decode::ast::{Key, Node, Position, Tree};

/// The error of a text that is not YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct YamlError {
    pub(crate) at: Position,
    pub(crate) message: String,
}

/// Parses one document.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    let node = serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options());
    node.map(Node::from).map_err(|error| {
        let plain = to_yaml_error(&error);
        let duplicate =
            matches!(error, Error::DuplicateMappingKey { .. }).then(|| duplicate_key_message(text, plain.at)).flatten();
        duplicate.map_or(plain.clone(), |message| YamlError { message, ..plain })
    })
}

/// Describes the duplicate key at `at` with its path and first line. The parser's error has neither, so the text is
/// parsed again with duplicates allowed.
fn duplicate_key_message(text: &str, at: Position) -> Option<String> {
    let mut options = options();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    let node = serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options).ok()?;
    let (path, line) = find_key_at(&Node::from(node), "", at)?;
    Some(format!("duplicate key `{path}`, first defined in line {line}"))
}

fn find_key_at(node: &Node, path: &str, at: Position) -> Option<(String, u32)> {
    match &node.tree {
        Tree::Map(entries) => entries.iter().find_map(|(key, node)| {
            let path = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
            if key.at == at {
                let first = entries.iter().find(|(other, _)| other.text == key.text)?;
                return Some((path, first.0.at.line));
            }
            find_key_at(node, &path, at)
        }),
        Tree::List(items) => {
            items.iter().enumerate().find_map(|(index, item)| find_key_at(item, &format!("{path}[{index}]"), at))
        }
        _ => None,
    }
}

/// Parses all documents of a manifest, without the empty ones.
pub(crate) fn parse_all(text: &str) -> Result<Vec<Node>, YamlError> {
    let nodes = serde_saphyr::from_multiple_with_options::<Spanned<Tree>>(text, options());
    let nodes = nodes.map_err(|error| to_yaml_error(&error))?;
    Ok(nodes.into_iter().map(Node::from).filter(|node| !matches!(node.tree, Tree::Null)).collect())
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        // a snippet would print lines, which may hold secrets
        with_snippet: false,
        // a ConfigMap has at most 1 MiB; this is five times what its anchors need
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

fn to_yaml_error(error: &Error) -> YamlError {
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("duplicate key `{key}`"),
        Error::MultipleDocuments { .. } => "a second YAML document: one file holds one GraftConfig".to_owned(),
        // the parser's own text quotes the value
        Error::NonFiniteFloat { .. } => "a number that JSON cannot represent".to_owned(),
        other => plain_message(&other.to_string()).to_owned(),
    };
    YamlError { at: error.location().map_or_else(Position::default, position), message }
}

/// Plain messages by a part of the parser's own message. They quote no values.
const MESSAGES: &[(&str, &str)] = &[
    ("tabs disallowed", "a tab is not allowed here: indent with spaces"),
    (
        "mapping values are not allowed",
        "a second `:` in this line, or the line is indented too far: quote a text that contains `: `",
    ),
    ("quoted scalar, found unknown escape", "unknown escape (\\) in a double-quoted text: use single quotes"),
    ("unclosed quote", "unclosed quote (' or \")"),
    ("quoted scalar", "unclosed quote (' or \") before this position"),
    ("illegal placement of ':'", BRACKET),
    ("flow mapping", BRACKET),
    ("flow sequence", BRACKET),
    ("unclosed bracket", BRACKET),
    ("misplaced bracket", "unexpected ] or }: no bracket is open"),
    ("did not find expected key", INDENT),
    ("did not find expected '-'", INDENT),
    ("simple key expected", "a line without `key: value` in a mapping"),
    ("unknown anchor", "`*name` needs an `&name` above it"),
    ("unexpected character", "a text cannot begin with this character: quote the text"),
    ("block scalar", "after | or > the text must begin in the next line, indented"),
    ("expected string scalar", "a key must be a string"),
    ("alias", "anchors (& and *) expand to more than a configuration needs"),
    ("budget", "the document is larger or deeper than a configuration needs"),
];

const BRACKET: &str = "unclosed bracket ([ or {) before this position";
const INDENT: &str = "the indentation matches no line above";

fn plain_message(message: &str) -> &'static str {
    let found = MESSAGES.iter().find(|(part, _)| message.contains(part));
    found.map_or("is not valid YAML from here on", |(_, plain)| plain)
}

fn position(location: Location) -> Position {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Position { line: small(location.line()), column: small(location.column()) }
}

// === impl Node ===

impl From<Spanned<Tree>> for Node {
    /// Takes the position of the definition, not of the alias or merge key: it is corrected there.
    fn from(spanned: Spanned<Tree>) -> Self {
        Node { at: position(spanned.defined), tree: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that JSON cannot represent"))?;
        Ok(Tree::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element::<Spanned<Tree>>()? {
            nodes.push(Node::from(node));
        }
        Ok(Tree::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value = map.next_value::<Spanned<Tree>>()?;
            entries.push((Key { at: position(key.defined), text: key.value }, Node::from(value)));
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_parsed_as_in_kubectl() {
        let text = "{octal: 0644, no: no, quoted: 'no', big: 1_000, half: 0.5, none: ~, text: a b, '1': 2}";
        let expected = json!({"octal": 420, "no": false, "quoted": "no", "big": 1000, "half": 0.5,
            "none": null, "text": "a b", "1": 2});
        assert_eq!(parse(text).map(|node| node.to_json()).unwrap(), expected);
    }

    #[test]
    fn keys_and_values_have_their_position() {
        let node = parse("a:\n  b: [1,\n    two]\n").ok().unwrap();
        let Tree::Map(outer) = &node.get("a").unwrap().tree else { unreachable!() };
        assert_eq!(outer[0].0.at, Position { line: 2, column: 3 });
        let Tree::List(list) = &outer[0].1.tree else { unreachable!() };
        assert_eq!(list[1].at, Position { line: 3, column: 5 });
    }

    #[test]
    fn merge_keys_and_aliases_keep_the_position_of_their_definition() {
        let node = parse("base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\n").ok().unwrap();
        let merged = node.get("use").unwrap();
        assert_eq!(merged.to_json(), json!({"x": 1, "y": 2}));
        assert_eq!(merged.get("x").unwrap().at.line, 1);
    }

    #[test]
    fn yaml_errors_do_not_quote_the_text() {
        let bomb = (0..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, n| {
            let alias = format!("*a{n},").repeat(10);
            format!("{text}a{}: &a{} [{alias}]\n", n + 1, n + 1)
        });
        let table = [
            ("a: 1\na: secret\n", 2, "duplicate key `a`, first defined in line 1"),
            (
                "q:\n- b: {}\n- a: 1\n  c: {a: x}\n  c: secret\n  d: 1\n",
                5,
                "duplicate key `q[1].c`, first defined in line 4",
            ),
            ("b: &b {x: 1}\nu: {<<: *b, y: 1, y: 2}\n", 2, "duplicate key `u.y`, first defined in line 2"),
            ("a: 1\n---\nb: 2\n", 3, "a second YAML document: one file holds one GraftConfig"),
            ("a: .nan\n", 1, "a number that JSON cannot represent"),
            ("a: [secret\nb: 1\n", 2, ""),
            ("a: 'secret\n", 2, ""),
            (bomb.as_str(), 0, ""),
        ];
        for (text, line, message) in table {
            let error = parse(text).err().unwrap();
            assert!(!error.message.contains("secret"), "{}", error.message);
            assert!(!error.message.contains(" at line "), "{}", error.message);
            assert!(line == 0 || error.at.line == line, "{text}: {error:?}");
            assert!(message.is_empty() || error.message == message, "{}", error.message);
        }
    }
}
