//! The arena tree: one untyped JSON value per request, borrowed from the request's bytes.
//!
//! A review is parsed once, in one pass of `serde_json`'s own deserialiser, into slices of one bump
//! arena. Strings without escapes are borrowed from the body; parts that a request rarely looks at
//! ([`Shape::Skip`]) stay raw text. Values are `Copy`, so "changing" one makes a new slice that
//! shares whatever it did not touch, and [`Json::same`] tells by address that nothing changed.
//! A `serde_json::Value` tree of the same pod costs about three times as much to build, and a
//! typed `Pod` loses the fields that it does not know.

use std::cell::Cell;
use std::fmt;

use bumpalo::Bump;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::value::RawValue;

/// One member of an object.
pub type Member<'a> = (&'a str, Json<'a>);

/// A JSON value whose parts live in an arena, in the bytes it was parsed from, or in a snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// a negative integer, or any that was made by podgraft itself
    Int(i64),
    /// a non-negative integer
    Uint(u64),
    /// any other number
    Float(f64),
    /// a string
    Str(&'a str),
    /// a list
    Array(&'a [Json<'a>]),
    /// members in the order of the text; a name may stand twice, and then the last one counts
    Object(&'a [Member<'a>]),
    /// text that nobody needed to open; [`Json::open`] does
    Raw(&'a RawValue),
}

/// Which parts of a document stay [`Json::Raw`] when it is parsed.
#[derive(Debug)]
pub enum Shape {
    /// open everything
    All,
    /// keep the text
    Skip,
    /// open, but treat these members so
    But(&'static [(&'static str, Shape)]),
    /// a list: treat each element so
    Each(&'static Shape),
}

/// How deep a document may nest; `serde_json`'s own limit for text that is opened in one go.
const MAX_DEPTH: u8 = 127;

impl<'a> Json<'a> {
    /// Parses `text`, leaving the parts that `shape` skips as they are.
    pub fn parse(text: &'a str, shape: &'static Shape, arena: &'a Bump) -> serde_json::Result<Self> {
        Self::parse_measured(text, shape, arena).map(|(value, _)| value)
    }

    /// The same, with the number of members or elements that the largest of its objects and lists has.
    pub fn parse_measured(text: &'a str, shape: &'static Shape, arena: &'a Bump) -> serde_json::Result<(Self, usize)> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let largest: &Cell<usize> = arena.alloc(Cell::new(0));
        let value = Reader { arena, shape, depth: 0, largest }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok((value, largest.get()))
    }

    /// Borrows a snapshot's value; the arena holds only the slices, the strings stay where they are.
    pub fn lift(value: &'a serde_json::Value, arena: &'a Bump) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Number(number) => Self::number(number),
            Value::String(text) => Json::Str(text),
            Value::Array(items) => {
                Json::Array(arena.alloc_slice_fill_iter(items.iter().map(|item| Self::lift(item, arena))))
            }
            Value::Object(members) => Json::Object(
                arena
                    .alloc_slice_fill_iter(members.iter().map(|(key, value)| (key.as_str(), Self::lift(value, arena)))),
            ),
        }
    }

    /// An object of these members.
    pub fn object(members: impl Iterator<Item = Member<'a>>, arena: &'a Bump) -> Self {
        Json::Object(bumpalo::collections::Vec::from_iter_in(members, arena).into_bump_slice())
    }

    /// A list of these elements.
    pub fn array(items: impl Iterator<Item = Json<'a>>, arena: &'a Bump) -> Self {
        Json::Array(bumpalo::collections::Vec::from_iter_in(items, arena).into_bump_slice())
    }

    fn number(number: &serde_json::Number) -> Self {
        match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Json::Uint(value),
            (None, Some(value)) => Json::Int(value),
            (None, None) => Json::Float(number.as_f64().unwrap_or(f64::NAN)),
        }
    }

    /// The value with its outermost layer opened: raw text is parsed, anything else is itself.
    /// Text that came through [`Json::parse`] is well-formed, so only nesting beyond the limit
    /// fails; it then stays raw.
    #[must_use]
    pub fn open(self, arena: &'a Bump) -> Self {
        match self {
            Json::Raw(raw) => Self::parse(raw.get(), &Shape::All, arena).unwrap_or(self),
            open => open,
        }
    }

    /// The member `key` of an object.
    pub fn get(&self, key: &str) -> Option<Json<'a>> {
        self.members().iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// Follows `keys` through nested objects.
    pub fn at(&self, keys: &[&str]) -> Option<Json<'a>> {
        keys.iter().try_fold(*self, |value, key| value.get(key))
    }

    /// The members of an object; of anything else none.
    pub fn members(&self) -> &'a [Member<'a>] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of a list; of anything else none.
    pub fn items(&self) -> &'a [Json<'a>] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Json::Str(text) => Some(text),
            _ => None,
        }
    }

    /// `null`, `{}`, `[]` or `""`.
    pub fn is_empty(&self) -> bool {
        match self {
            Json::Null => true,
            Json::Str(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(members) => members.is_empty(),
            Json::Raw(raw) => matches!(raw.get(), "null" | "{}" | "[]" | "\"\""),
            Json::Bool(_) | Json::Int(_) | Json::Uint(_) | Json::Float(_) => false,
        }
    }

    /// Whether both are the very same value: the same address for what is stored, equal otherwise.
    /// False does not mean different.
    pub fn same(&self, other: &Json<'_>) -> bool {
        match (self, other) {
            (Json::Array(a), Json::Array(b)) => {
                std::ptr::eq(a.as_ptr().cast::<u8>(), b.as_ptr().cast()) && a.len() == b.len()
            }
            (Json::Object(a), Json::Object(b)) => {
                std::ptr::eq(a.as_ptr().cast::<u8>(), b.as_ptr().cast()) && a.len() == b.len()
            }
            (Json::Raw(a), Json::Raw(b)) => a.get() == b.get(),
            (Json::Array(_) | Json::Object(_) | Json::Raw(_), _)
            | (_, Json::Array(_) | Json::Object(_) | Json::Raw(_)) => false,
            _ => self == other,
        }
    }

    /// The object with `key` set to `value`, at its place or at the end.
    #[must_use]
    pub fn with(self, key: &'a str, value: Json<'a>, arena: &'a Bump) -> Self {
        let members = self.members();
        match members.iter().rposition(|(name, _)| *name == key) {
            Some(index) => {
                let copy = arena.alloc_slice_copy(members);
                copy[index].1 = value;
                Json::Object(copy)
            }
            None => Json::object(members.iter().copied().chain([(key, value)]), arena),
        }
    }

    /// The object without `key`; the same slice when it was not there.
    #[must_use]
    pub fn without(self, key: &str, arena: &'a Bump) -> Self {
        let members = self.members();
        if !members.iter().any(|(name, _)| *name == key) {
            return self;
        }
        Json::object(members.iter().copied().filter(|(name, _)| *name != key), arena)
    }

    /// An owned copy, for what leaves a request (rendering to YAML, tests).
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    /// What a person calls this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Int(_) | Json::Uint(_) | Json::Float(_) => "a number",
            Json::Str(_) => "a string",
            Json::Array(_) => "a list",
            Json::Object(_) => "an object",
            Json::Raw(raw) => match raw.get().as_bytes().first() {
                Some(b'{') => "an object",
                Some(b'[') => "a list",
                Some(b'"') => "a string",
                Some(b't' | b'f') => "a boolean",
                Some(b'n') => "null",
                _ => "a number",
            },
        }
    }
}

/// Equal as JSON documents: the order of members does not matter, the kind of integer neither.
impl PartialEq for Json<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Bool(a), Json::Bool(b)) => a == b,
            (Json::Str(a), Json::Str(b)) => a == b,
            (Json::Int(a), Json::Int(b)) => a == b,
            (Json::Uint(a), Json::Uint(b)) => a == b,
            (Json::Float(a), Json::Float(b)) => a == b,
            (Json::Int(a), Json::Uint(b)) | (Json::Uint(b), Json::Int(a)) => u64::try_from(*a).is_ok_and(|a| a == *b),
            (Json::Array(a), Json::Array(b)) => std::ptr::eq(*a, *b) || a == b,
            (Json::Object(a), Json::Object(b)) => std::ptr::eq(*a, *b) || same_members(a, b),
            (Json::Raw(a), Json::Raw(b)) if a.get() == b.get() => true,
            (Json::Raw(_), _) | (_, Json::Raw(_)) => {
                let arena = Bump::new();
                match (reopen(*self, &arena), reopen(*other, &arena)) {
                    (Json::Raw(a), Json::Raw(b)) => a.get() == b.get(),
                    (Json::Raw(_), _) | (_, Json::Raw(_)) => false,
                    (a, b) => a == b,
                }
            }
            _ => false,
        }
    }
}

fn reopen<'s>(value: Json<'s>, arena: &'s Bump) -> Json<'s> {
    value.open(arena)
}

fn same_members(a: &[Member<'_>], b: &[Member<'_>]) -> bool {
    // The two sides come from one document nearly always, so the same index is tried first.
    a.len() == b.len()
        && a.iter().enumerate().all(|(index, (key, value))| match b.get(index) {
            Some((name, other)) if name == key => value == other,
            _ => Json::Object(b).get(key).is_some_and(|other| *value == other),
        })
}

// === reading ===

/// Deserialises one value into the arena.
#[derive(Clone, Copy)]
struct Reader<'a> {
    arena: &'a Bump,
    shape: &'static Shape,
    depth: u8,
    largest: &'a Cell<usize>,
}

impl Reader<'_> {
    fn below<E: de::Error>(self, shape: &'static Shape) -> Result<Self, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom("nested too deeply"));
        }
        Ok(Self { shape, depth: self.depth + 1, ..self })
    }

    fn member(&self, key: &str) -> &'static Shape {
        match self.shape {
            Shape::But(members) => {
                members.iter().find(|(name, _)| *name == key).map_or(&Shape::All, |(_, shape)| shape)
            }
            _ => &Shape::All,
        }
    }
}

impl<'a> DeserializeSeed<'a> for Reader<'a> {
    type Value = Json<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Json<'a>, D::Error> {
        match self.shape {
            Shape::Skip => <&RawValue as serde::Deserialize>::deserialize(deserializer).map(Json::Raw),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'a> Visitor<'a> for Reader<'a> {
    type Value = Json<'a>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'a>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'a>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'a>, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'a>, E> {
        Ok(Json::Uint(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'a>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<Json<'a>, E> {
        Ok(Json::Str(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'a>, E> {
        Ok(Json::Str(self.arena.alloc_str(value)))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Json<'a>, A::Error> {
        let shape = if let Shape::Each(shape) = self.shape { shape } else { &Shape::All };
        let below = self.below(shape)?;
        let mut items = bumpalo::collections::Vec::new_in(self.arena);
        while let Some(item) = list.next_element_seed(below)? {
            items.push(item);
        }
        self.largest.set(self.largest.get().max(items.len()));
        Ok(Json::Array(items.into_bump_slice()))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Json<'a>, A::Error> {
        let mut members = bumpalo::collections::Vec::new_in(self.arena);
        while let Some(key) = map.next_key_seed(Key(self.arena))? {
            if members.is_empty() {
                // Most objects of a pod have two to six members: room for four saves growing the slice. Not before
                // there is one: a million empty objects would take a hundred bytes each.
                members.reserve(4);
            }
            let below = self.below(self.member(key))?;
            members.push((key, map.next_value_seed(below)?));
        }
        self.largest.set(self.largest.get().max(members.len()));
        Ok(Json::Object(members.into_bump_slice()))
    }
}

/// A member's name: borrowed when it has no escape.
struct Key<'a>(&'a Bump);

impl<'a> DeserializeSeed<'a> for Key<'a> {
    type Value = &'a str;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<&'a str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key<'a> {
    type Value = &'a str;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<&'a str, E> {
        Ok(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<&'a str, E> {
        Ok(self.0.alloc_str(value))
    }
}

// === writing ===

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Null => serializer.serialize_unit(),
            Json::Bool(value) => serializer.serialize_bool(*value),
            Json::Int(value) => serializer.serialize_i64(*value),
            Json::Uint(value) => serializer.serialize_u64(*value),
            Json::Float(value) => serializer.serialize_f64(*value),
            Json::Str(value) => serializer.serialize_str(value),
            Json::Raw(raw) => raw.serialize(serializer),
            Json::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in *items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Json::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in *members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static COLD: Shape =
        Shape::But(&[("cold", Shape::Skip), ("list", Shape::Each(&Shape::But(&[("args", Shape::Skip)])))]);

    #[test]
    fn strings_without_escapes_are_borrowed_and_cold_parts_stay_raw() {
        let text = r#"{"a":"plain","b":"q\"uote","cold":{"x":[1, 2]},"list":[{"args":["-c"],"name":"n"}],"n":[-1,2,1.5,null,true]}"#;
        let arena = Bump::new();
        let value = Json::parse(text, &COLD, &arena).unwrap();
        let plain = value.get("a").unwrap().as_str().unwrap();
        assert!(text.as_bytes().as_ptr_range().contains(&plain.as_ptr()), "borrowed from the text");
        assert_eq!(value.get("b").unwrap().as_str(), Some("q\"uote"));
        assert!(matches!(value.get("cold"), Some(Json::Raw(raw)) if raw.get() == r#"{"x":[1, 2]}"#));
        assert!(matches!(value.at(&["list"]).unwrap().items()[0].get("args"), Some(Json::Raw(_))));
        assert_eq!(value.to_value(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn raw_text_equals_the_value_it_spells() {
        let arena = Bump::new();
        let raw = Json::parse(r#"{"cold":{"b":2,"a":[1]}}"#, &COLD, &arena).unwrap().get("cold").unwrap();
        let open = Json::parse(r#"{"a":[1],"b":2}"#, &Shape::All, &arena).unwrap();
        assert!(matches!(raw, Json::Raw(_)));
        assert_eq!(raw, open);
        assert_ne!(raw, Json::parse(r#"{"a":[1],"b":3}"#, &Shape::All, &arena).unwrap());
        assert_eq!(raw.open(&arena).get("b"), Some(Json::Uint(2)));
    }

    #[test]
    fn changing_a_member_shares_the_rest() {
        let arena = Bump::new();
        let pod = Json::parse(r#"{"spec":{"volumes":[1]},"metadata":{"name":"x"}}"#, &Shape::All, &arena).unwrap();
        let changed = pod.with("metadata", Json::Null, &arena);
        assert!(pod.get("spec").unwrap().same(&changed.get("spec").unwrap()));
        assert!(!pod.same(&changed));
        assert!(pod.same(&pod.without("absent", &arena)));
        assert_eq!(changed.without("metadata", &arena).members().len(), 1);
    }

    #[test]
    fn nesting_without_end_is_an_error_and_not_an_overflow() {
        let text = "[".repeat(100_000);
        assert!(Json::parse(&text, &Shape::All, &Bump::new()).is_err());
        let skipped = format!("{{\"cold\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        // Skipped text is scanned, not built; opening it later fails softly.
        let arena = Bump::new();
        if let Ok(value) = Json::parse(&skipped, &COLD, &arena) {
            assert!(matches!(value.get("cold").unwrap().open(&arena), Json::Raw(_)));
        }
    }

    #[test]
    fn trailing_text_is_refused() {
        assert!(Json::parse("{} x", &Shape::All, &Bump::new()).is_err());
    }
}
