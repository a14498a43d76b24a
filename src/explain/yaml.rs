//! Writes a pod as YAML, line by line, each line with the path that it shows.
//!
//! The path connects a line of a diff to the layer that made it. A general YAML writer does not give it.

use bumpalo::Bump;

use crate::json::Json;
use crate::k8s::patch::{PathElement, display_path, key_text};
use crate::k8s::schema::{ListType, POD, Type};

/// One line of YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// the text without its line end
    pub text: String,
    /// the readable path of the line's value
    pub path: String,
}

/// Returns the lines of `pod`.
pub fn lines<'a>(pod: Json<'a>, arena: &'a Bump) -> Vec<Line> {
    let mut writer = Writer { arena, path: Vec::new(), lines: Vec::new() };
    writer.object(pod.open(arena), Type::Object(&POD), 0, "");
    writer.lines
}

/// Returns the text of `pod`.
pub fn text(pod: Json<'_>) -> String {
    let arena = Bump::new();
    lines(pod, &arena).into_iter().map(|line| line.text + "\n").collect()
}

struct Writer<'a> {
    arena: &'a Bump,
    path: Vec<PathElement<'a>>,
    lines: Vec<Line>,
}

impl<'a> Writer<'a> {
    fn line(&mut self, text: String) {
        self.lines.push(Line { text, path: display_path(&self.path) });
    }

    /// Writes an object. `first` is the beginning of its first line: the dash of a list element.
    fn object(&mut self, object: Json<'a>, kind: Type, indent: usize, first: &str) {
        for (index, (key, value)) in object.members().iter().enumerate() {
            let (below, list) = match kind {
                Type::Object(object) => {
                    object.field(key).map_or((Type::Any, ListType::Atomic), |field| (field.kind, field.list))
                }
                Type::Map(element) => (*element, ListType::Atomic),
                _ => (Type::Any, ListType::Atomic),
            };
            let lead = if index == 0 && !first.is_empty() { first.to_owned() } else { " ".repeat(indent) };
            self.path.push(PathElement::Member(key));
            self.member(&format!("{lead}{}:", scalar_text(key)), value.open(self.arena), below, list, indent);
            self.path.pop();
        }
    }

    fn member(&mut self, lead: &str, value: Json<'a>, kind: Type, list: ListType, indent: usize) {
        match value {
            Json::Object(members) if !members.is_empty() => {
                self.line(lead.to_owned());
                self.object(value, kind, indent + 2, "");
            }
            Json::Array(items) if !items.is_empty() => {
                self.line(lead.to_owned());
                self.list(items, kind, list, indent);
            }
            other => self.line(format!("{lead} {}", scalar(other))),
        }
    }

    /// Writes list elements under their key without further indentation, like kubectl.
    fn list(&mut self, items: &'a [Json<'a>], kind: Type, list: ListType, indent: usize) {
        let element = if let Type::List(element) = kind { *element } else { Type::Any };
        for (index, item) in items.iter().enumerate() {
            let item = item.open(self.arena);
            self.path.push(PathElement::Element(index, key_text(&item, list, self.arena)));
            let dash = format!("{}- ", " ".repeat(indent));
            match item {
                Json::Object(members) if !members.is_empty() => self.object(item, element, indent + 2, &dash),
                Json::Array(inner) if !inner.is_empty() => {
                    self.line(dash.trim_end().to_owned());
                    self.list(inner, element, ListType::Atomic, indent + 2);
                }
                other => self.line(format!("{dash}{}", scalar(other))),
            }
            self.path.pop();
        }
    }
}

fn scalar(value: Json<'_>) -> String {
    match value {
        Json::Str(text) => scalar_text(text),
        other => serde_json::to_string(&other).unwrap_or_default(),
    }
}

/// Returns the text plain if every reader of YAML 1.1 and 1.2 reads it as this string, else quoted as JSON, which is
/// YAML.
fn scalar_text(text: &str) -> String {
    let safe_start = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '.'));
    let safe = safe_start && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-'));
    let lower = text.to_ascii_lowercase();
    let keyword =
        matches!(lower.as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | ".nan" | ".inf");
    let number = text.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    if safe && !keyword && !number { text.to_owned() } else { serde_json::to_string(text).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn written_yaml_reads_back_as_the_same_pod() {
        let pod = json!({"metadata": {"labels": {"a/b": "y", "n": "1", "v": "a: b", "e": ""}, "annotations": {}},
            "spec": {"containers": [{"name": "main", "args": ["-c", "line\nline", "null"], "ports": [{"containerPort": 1}]}], "x": [[1, [2]], [], {}], "t": null, "f": 1.5}});
        let arena = Bump::new();
        let text = text(Json::borrowed(&pod, &arena));
        let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, pod, "{text}");
    }

    #[test]
    fn every_line_has_its_path() {
        let pod = json!({"spec": {"containers": [{"name": "main", "env": [{"name": "X", "value": "1"}]}]}});
        let arena = Bump::new();
        let shown: Vec<String> = lines(Json::borrowed(&pod, &arena), &arena)
            .iter()
            .map(|line| format!("{}|{}", line.text, line.path))
            .collect();
        assert_eq!(
            shown,
            [
                "spec:|spec",
                "  containers:|spec.containers",
                "  - env:|spec.containers[main].env",
                "    - name: X|spec.containers[main].env[X].name",
                "      value: \"1\"|spec.containers[main].env[X].value",
                "    name: main|spec.containers[main].name",
            ]
        );
    }
}
