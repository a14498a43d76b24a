//! The Pod schema as one table: the type of each field and how lists of it merge.
//!
//! The same table drives merging, diffing and the check of what was touched, so that the three cannot
//! disagree. `table.rs` is generated from the JSON schemas that k8s-openapi carries, by
//! `tests/oracles/schema/pod_schema.rs`, which also fails when the file is out of date; what `OpenAPI` does not say
//! (Kubernetes' patch merge keys and podgraft's own choices) stands in that generator.

#[rustfmt::skip] // as the generator writes it
mod table;

pub use table::POD;

use crate::json::Json;

/// An object type of the Kubernetes API.
#[derive(Debug)]
pub struct Object {
    /// the type's name there, such as `Container`
    pub name: &'static str,
    /// sorted by name
    pub fields: &'static [Field],
    /// fields that must be there
    pub required: &'static [&'static str],
}

/// A field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    /// as it is written in JSON
    pub name: &'static str,
    /// what it holds
    pub kind: Type,
    /// how it merges, when it is a list
    pub list: ListType,
    /// what the API server fills in where nothing is written; `None` where it leaves the field out
    pub default: Option<Scalar>,
}

/// A value that a field has by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// a string
    Str(&'static str),
    /// a whole number
    Int(u64),
    /// `true` or `false`
    Bool(bool),
}

impl Scalar {
    /// Whether `value` is this one.
    pub fn is(self, value: Json<'_>) -> bool {
        match self {
            Scalar::Str(text) => value.as_str() == Some(text),
            Scalar::Int(number) => value == Json::Uint(number),
            Scalar::Bool(flag) => value == Json::Bool(flag),
        }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// anything: status, managedFields, what only others read
    Any,
    /// `true` or `false`
    Bool,
    /// a whole number of 64 bits
    Int,
    /// a whole number of 32 bits
    Int32,
    /// a string
    Str,
    /// a whole number or a string, such as a port
    IntOrStr,
    /// a quantity: a string; a number is accepted as the API server does
    Quantity,
    /// names to values
    Map(&'static Type),
    /// a list
    List(&'static Type),
    /// an object with fields of its own
    Object(&'static Object),
}

/// How a list merges with one that lies over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// replaced as a whole
    Atomic,
    /// element by element; these fields say which is which
    Map(&'static [&'static str]),
    /// as `Keyed`, but an element is a union (`value`/`valueFrom`, a volume's source) and replaced whole
    MapAtomicItem(&'static [&'static str]),
    /// what is not yet there is added at the end
    Set,
    /// what is not yet there is added in front
    Prepend,
    /// node selector terms are alternatives: what lies over is required in addition, in each of them
    NodeSelectorTerms,
}

impl ListType {
    /// The fields that tell elements apart; of an unkeyed list none.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            ListType::Map(keys) | ListType::MapAtomicItem(keys) => keys,
            _ => &[],
        }
    }
}

impl Object {
    /// The field `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        // Names differ in length mostly: comparing each for equality is half the work of searching by order.
        let fields: &'static [Field] = self.fields;
        fields.iter().find(|field| field.name == name)
    }

    /// The known field that is spelled most like `name`, when one is near.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.fields.iter().map(|field| field.name))
    }
}

/// The candidate that differs least from `name`: at most a third of its letters.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Something that does not fit the schema.
#[derive(Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// where, as `spec.volumes[0].name`
    pub path: String,
    /// what is wrong and, when it can be guessed, what would be right
    pub message: String,
}

impl SchemaError {
    fn here(message: String) -> Self {
        Self { path: String::new(), message }
    }

    /// The same, seen from one step further up. Paths are made only when there is something to say: a check that
    /// passes allocates nothing.
    pub(crate) fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

/// Checks `value` against `kind`, however deep; unknown fields and wrong types are misfits. `whole` says
/// that required fields must be there (a fragment that lies over something need not have them).
pub fn validate(value: Json<'_>, kind: Type, whole: bool) -> Result<(), SchemaError> {
    let wrong = |wanted: &str| Err(SchemaError::here(format!("is {}, should be {wanted}", value.kind())));
    match (kind, value) {
        // Raw parts are bytes of the submitted pod that nobody opened: the API server has checked them.
        (Type::Any, _)
        | (_, Json::Raw(_))
        | (Type::Bool, Json::Bool(_))
        | (Type::Quantity, Json::Float(_) | Json::Int(_) | Json::Uint(_))
        | (Type::Str | Type::IntOrStr, Json::Str(_)) => Ok(()),
        // In a fragment it takes something away; in what leaves it would be refused or dropped.
        (_, Json::Null) if !whole => Ok(()),
        (Type::Int, Json::Int(_) | Json::Uint(_)) if is_in_range(value, i64::MIN, i64::MAX) => Ok(()),
        (Type::Int32 | Type::IntOrStr, Json::Int(_) | Json::Uint(_))
            if is_in_range(value, i32::MIN.into(), i32::MAX.into()) =>
        {
            Ok(())
        }
        (Type::Quantity, Json::Str(text)) if is_quantity(text) => Ok(()),
        (Type::Bool, _) => wrong("true or false"),
        (Type::Int, _) => wrong("a whole number of 64 bits"),
        (Type::Int32, _) => wrong("a whole number of 32 bits"),
        (Type::Str, _) => wrong("a string"),
        (Type::IntOrStr, _) => wrong("a whole number or a string"),
        (Type::Quantity, _) => wrong("a quantity, such as \"500m\" or \"4Gi\""),
        (Type::List(element), Json::Array(items)) => items.iter().enumerate().try_for_each(|(index, item)| {
            validate(*item, *element, whole).map_err(|misfit| misfit.below(&format!("[{index}]")))
        }),
        (Type::List(_), _) => wrong("a list"),
        (Type::Map(element), Json::Object(members)) => members.iter().try_for_each(|(key, member)| {
            if key.starts_with('$') {
                return Err(SchemaError::here(format!("has the name {key}, which is a directive and not a name")));
            }
            validate(*member, *element, whole).map_err(|misfit| misfit.below(&format!("[{key}]")))
        }),
        (Type::Object(object), Json::Object(members)) => check_object(object, members, whole),
        (Type::Map(_) | Type::Object(_), _) => wrong("an object"),
    }
}

fn is_in_range(value: Json<'_>, least: i64, most: i64) -> bool {
    match value {
        Json::Int(value) => (least..=most).contains(&value),
        Json::Uint(value) => i64::try_from(value).is_ok_and(|value| value <= most),
        _ => false,
    }
}

/// Whether a text is a Kubernetes quantity: `500m`, `4Gi`, `1e3`.
pub fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 16] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|power| power.parse::<i16>().is_ok());
    number.contains(|c: char| c.is_ascii_digit())
        && number.matches('.').count() <= 1
        && (exponent || SUFFIXES.contains(&suffix))
}

fn check_object(object: &Object, members: &[(&str, Json<'_>)], whole: bool) -> Result<(), SchemaError> {
    for (key, member) in members {
        let Some(field) = object.field(key) else {
            let hint = object.nearest(key).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            return Err(SchemaError::here(format!("has no field {key}{hint}")));
        };
        validate(*member, field.kind, whole).map_err(|misfit| misfit.below(key))?;
    }
    match object.required.iter().find(|name| whole && !members.iter().any(|(key, _)| key == *name)) {
        Some(name) => Err(SchemaError::here(format!("lacks the field {name}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    fn misfit(pod: &serde_json::Value) -> String {
        let arena = Bump::new();
        match validate(Json::borrowed(pod, &arena), Type::Object(&POD), true) {
            Ok(()) => "fits".to_owned(),
            Err(SchemaError { path, message }) => format!("{path} {message}"),
        }
    }

    #[test]
    fn misfits_name_the_place_and_what_would_be_right() {
        use serde_json::json;
        let cases = [
            (
                json!({"spec": {"containers": [{"name": "a", "volumeMount": []}]}}),
                "spec.containers[0] has no field volumeMount; did you mean volumeMounts?",
            ),
            (
                json!({"spec": {"containers": [], "priority": "1"}}),
                "spec.priority is a string, should be a whole number of 32 bits",
            ),
            (json!({"metadata": {"labels": {"a/b": 1}}}), "metadata.labels[a/b] is a number, should be a string"),
            (
                json!({"spec": {"containers": [], "volumes": [{"emptyDir": {}}]}}),
                "spec.volumes[0] lacks the field name",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": true}}}]}}),
                "spec.containers[0].resources.limits[cpu] is a boolean, should be a quantity, such as \"500m\" or \"4Gi\"",
            ),
            (
                json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 2}}}]}}),
                "fits",
            ),
        ];
        for (pod, expected) in cases {
            assert_eq!(misfit(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn a_field_knows_what_the_api_server_fills_in() {
        let spec = match POD.field("spec").unwrap().kind {
            Type::Object(spec) => spec,
            other => panic!("{other:?}"),
        };
        assert_eq!(spec.field("restartPolicy").unwrap().default, Some(Scalar::Str("Always")));
        assert_eq!(spec.field("terminationGracePeriodSeconds").unwrap().default, Some(Scalar::Int(30)));
        assert_eq!(spec.field("nodeName").unwrap().default, None);
    }

    #[test]
    fn fields_are_sorted_and_found() {
        let spec = match POD.field("spec").unwrap().kind {
            Type::Object(spec) => spec,
            other => panic!("{other:?}"),
        };
        assert!(spec.fields.is_sorted_by_key(|field| field.name));
        assert_eq!(spec.field("volumes").unwrap().list, ListType::MapAtomicItem(&["name"]));
        assert_eq!(spec.field("containers").unwrap().list, ListType::Map(&["name"]));
        assert_eq!(spec.nearest("nodeselector"), Some("nodeSelector"));
        assert_eq!(spec.nearest("qqq"), None);
    }
}
