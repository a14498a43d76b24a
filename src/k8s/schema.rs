//! The Pod schema as one table: the type of each field, its default, and the list type by which it merges.
//!
//! The table drives merging, diffing and the check of placeholders' values, so that the three cannot disagree.
//! `table.rs` is generated from the JSON schemas of k8s-openapi by `tests/oracles/schema/pod_schema.rs`, which also
//! fails when the file is out of date. That generator contains the facts that `OpenAPI` lacks: Kubernetes' patch merge
//! keys and podgraft's own choices.

#[rustfmt::skip] // as the generator writes it
mod table;

pub use table::POD;

use crate::json::Json;

/// An object type of the Kubernetes API.
#[derive(Debug)]
pub struct Object {
    /// the type's name, such as `Container`
    pub name: &'static str,
    /// the type's fields, sorted by name
    pub fields: &'static [Field],
    /// names of the required fields
    pub required: &'static [&'static str],
}

/// A field of an [`Object`].
#[derive(Debug)]
pub struct Field {
    /// its name in JSON
    pub name: &'static str,
    /// its type
    pub kind: Type,
    /// the rule for merging, if it is a list
    pub list: ListType,
    /// the API server's default; `None` if it sets none
    pub default: Option<Scalar>,
}

/// A default value.
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
    /// Returns true if `value` is this one.
    pub fn is(self, value: Json<'_>) -> bool {
        match self {
            Scalar::Str(text) => value.as_str() == Some(text),
            Scalar::Int(number) => value == Json::Uint(number),
            Scalar::Bool(flag) => value == Json::Bool(flag),
        }
    }
}

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// any value: status, managedFields and other fields that podgraft never sets
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
    /// a quantity: a string or, as for the API server, a number
    Quantity,
    /// a map from names to values
    Map(&'static Type),
    /// a list
    List(&'static Type),
    /// an object with fields of its own
    Object(&'static Object),
}

/// The rule by which a layer's list merges with the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// replaced as a whole
    Atomic,
    /// merged element by element; these fields are the key
    Map(&'static [&'static str]),
    /// like `Map`, but an element is a union (`value`/`valueFrom`, a volume's source) and replaced whole
    MapAtomicItem(&'static [&'static str]),
    /// missing elements are appended
    Set,
    /// missing elements are prepended
    Prepend,
    /// node selector terms are alternatives: a layer's requirements are added to each of them
    NodeSelectorTerms,
}

impl ListType {
    /// Returns the fields that form the merge key; none for a list without keys.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            ListType::Map(keys) | ListType::MapAtomicItem(keys) => keys,
            _ => &[],
        }
    }
}

impl Object {
    /// Returns the field `name`.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        // Most names differ in length: comparing each for equality takes half the time of a binary search.
        let fields: &'static [Field] = self.fields;
        fields.iter().find(|field| field.name == name)
    }
}

/// Returns the candidate that is most similar to `name`: at most a third of its letters differ.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len().max(name.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns `; did you mean x?` with the nearest candidate, or an empty text.
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    nearest(name, candidates).map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

/// Returns the Levenshtein distance, in characters.
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

/// A value that does not fit the schema.
#[derive(Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// its path, as `spec.volumes[0].name`
    pub path: String,
    /// the error and, if it can be guessed, the correction
    pub message: String,
}

impl SchemaError {
    fn new(message: String) -> Self {
        Self { path: String::new(), message }
    }

    /// Returns the error with `step` prepended to its path. Paths are built on errors only: a check that passes
    /// allocates nothing.
    pub(crate) fn below(mut self, step: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{step}{dot}{}", self.path);
        self
    }
}

/// Checks `value` against `kind` at any depth. Unknown fields and wrong types are errors; so are missing required
/// fields if `whole` is true (a fragment need not have them).
///
/// # Errors
/// The first value that does not fit.
pub fn validate(value: Json<'_>, kind: Type, whole: bool) -> Result<(), SchemaError> {
    let wrong = |wanted: &str| Err(SchemaError::new(format!("is {}, should be {wanted}", value.kind())));
    match (kind, value) {
        // Raw parts are unchanged bytes of the submitted pod: the API server has checked them.
        (Type::Any, _)
        | (_, Json::Raw(_))
        | (Type::Bool, Json::Bool(_))
        | (Type::Quantity, Json::Float(_) | Json::Int(_) | Json::Uint(_))
        | (Type::Str | Type::IntOrStr, Json::Str(_)) => Ok(()),
        // In a fragment null removes a value; in a whole pod the API server would deny or drop it.
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
            validate(*item, *element, whole).map_err(|error| error.below(&format!("[{index}]")))
        }),
        (Type::List(_), _) => wrong("a list"),
        (Type::Map(element), Json::Object(members)) => members.iter().try_for_each(|(key, member)| {
            if key.starts_with('$') {
                return Err(SchemaError::new(format!("has the name {key}, which is a directive, not a name")));
            }
            validate(*member, *element, whole).map_err(|error| error.below(&format!("[{key}]")))
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

/// Returns true if a text is a Kubernetes quantity: `500m`, `4Gi`, `1e3`.
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
            let hint = did_you_mean(key, object.fields.iter().map(|field| field.name));
            return Err(SchemaError::new(format!("has no field {key}{hint}")));
        };
        validate(*member, field.kind, whole).map_err(|error| error.below(key))?;
    }
    match object.required.iter().find(|name| whole && !members.iter().any(|(key, _)| key == *name)) {
        Some(name) => Err(SchemaError::new(format!("lacks the field {name}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    fn error(pod: &serde_json::Value) -> String {
        let arena = Bump::new();
        match validate(Json::borrowed(pod, &arena), Type::Object(&POD), true) {
            Ok(()) => "valid".to_owned(),
            Err(SchemaError { path, message }) => format!("{path} {message}"),
        }
    }

    #[test]
    fn errors_name_the_path_and_the_correction() {
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
                "valid",
            ),
        ];
        for (pod, expected) in cases {
            assert_eq!(error(&pod), expected, "{pod}");
        }
    }

    #[test]
    fn a_field_has_the_api_servers_default() {
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
    }
}
