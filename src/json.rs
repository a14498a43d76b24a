//! The arena tree: one untyped JSON value per request, borrowed from the request's bytes.
//!
//! A review is parsed once, in one pass, into slices of one bump arena. Strings without escapes are borrowed from the
//! body; parts that a request rarely needs ([`Shape::Skip`]) stay raw text. Values are `Copy`: "changing" one makes a
//! new slice that shares every unchanged part, and [`Json::ptr_eq`] finds by address that nothing changed.
//! A `serde_json::Value` tree of the same pod costs about four times as much to build, and a typed `Pod` loses the
//! fields that it does not know.

mod owned;
mod read;
#[cfg(test)]
mod tests;
mod write;

use bumpalo::Bump;

pub use owned::OwnedJson;
pub use read::{Error, plain_end};
pub use write::{push_comma, write_count, write_inner, write_text};

/// One member of an object.
pub type Member<'a> = (&'a str, Json<'a>);

/// A JSON value whose parts live in an arena, in the bytes it was parsed from, or in a snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Json<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// a negative integer, or any integer that podgraft made
    Int(i64),
    /// a non-negative integer
    Uint(u64),
    /// any other number
    Float(f64),
    /// a string
    Str(&'a str),
    /// a list
    Array(&'a [Json<'a>]),
    /// members in the order of the text; of a duplicate name the last one counts
    Object(&'a [Member<'a>]),
    /// text that is not parsed yet; [`Json::open`] parses it
    Raw(&'a str),
}

/// The parts of a document that stay [`Json::Raw`] when it is parsed.
#[derive(Debug)]
pub enum Shape {
    /// parse everything
    All,
    /// keep the text
    Skip,
    /// parse, but treat these members as given
    But(&'static [(&'static str, Shape)]),
    /// a list: treat each element as given
    Each(&'static Shape),
}

impl<'a> Json<'a> {
    /// Parses `text`; the parts that `shape` skips stay raw.
    ///
    /// # Errors
    /// The text is not JSON or nests more than 127 levels deep.
    pub fn parse(text: &'a str, shape: &'static Shape, arena: &'a Bump) -> Result<Self, Error> {
        read::read(text, shape, arena).map(|(value, _)| value)
    }

    /// Parses `text` and returns also the length of its largest parsed object or list.
    ///
    /// # Errors
    /// The text is not JSON or nests more than 127 levels deep.
    pub fn parse_measured(text: &'a str, shape: &'static Shape, arena: &'a Bump) -> Result<(Self, usize), Error> {
        read::read(text, shape, arena)
    }

    /// Borrows a snapshot's value; the arena holds only the slices, the strings are not copied.
    pub fn borrowed(value: &'a serde_json::Value, arena: &'a Bump) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Number(number) => Self::number(number),
            Value::String(text) => Json::Str(text),
            Value::Array(items) => {
                Json::Array(arena.alloc_slice_fill_iter(items.iter().map(|item| Self::borrowed(item, arena))))
            }
            Value::Object(members) => Json::Object(arena.alloc_slice_fill_iter(
                members.iter().map(|(key, value)| (key.as_str(), Self::borrowed(value, arena))),
            )),
        }
    }

    /// Creates an object of these members.
    pub fn object(members: impl Iterator<Item = Member<'a>>, arena: &'a Bump) -> Self {
        Json::Object(bumpalo::collections::Vec::from_iter_in(members, arena).into_bump_slice())
    }

    /// Creates a list of these elements.
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

    /// Returns the value with its outermost layer parsed: raw text is parsed, any other value is returned unchanged.
    /// Text that came through [`Json::parse`] is well-formed, so only nesting beyond the limit fails; the value then
    /// stays raw.
    #[must_use]
    pub fn open(self, arena: &'a Bump) -> Self {
        match self {
            Json::Raw(raw) => Self::parse(raw, &Shape::All, arena).unwrap_or(self),
            open => open,
        }
    }

    /// Returns the member `key` of an object.
    #[inline] // a comparison with a constant is two instructions, with any text a call
    pub fn get(&self, key: &str) -> Option<Json<'a>> {
        self.members().iter().rev().find(|(name, _)| *name == key).map(|(_, value)| *value)
    }

    /// Follows `keys` through nested objects.
    pub fn get_path(&self, keys: &[&str]) -> Option<Json<'a>> {
        keys.iter().try_fold(*self, |value, key| value.get(key))
    }

    /// Returns the members of an object; of any other value none.
    pub fn members(&self) -> &'a [Member<'a>] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// Returns the elements of a list; of any other value none.
    pub fn items(&self) -> &'a [Json<'a>] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    /// Returns the text of a string.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Json::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the text of a member; `""` if it has none.
    pub fn text(&self, key: &str) -> &'a str {
        self.get(key).and_then(|value| value.as_str()).unwrap_or_default()
    }

    /// Returns the elements of a member; none if it is not a list.
    pub fn list(&self, key: &str) -> &'a [Json<'a>] {
        self.get(key).map_or(&[], |list| list.items())
    }

    /// Returns true for `null`, `{}`, `[]` and `""`.
    pub fn is_empty(&self) -> bool {
        match self {
            Json::Null => true,
            Json::Str(text) => text.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(members) => members.is_empty(),
            Json::Raw(raw) => matches!(*raw, "null" | "{}" | "[]" | "\"\""),
            Json::Bool(_) | Json::Int(_) | Json::Uint(_) | Json::Float(_) => false,
        }
    }

    /// Returns true if both are one value: stored at one address, or equal scalars. False does not mean different.
    pub fn ptr_eq(&self, other: &Json<'_>) -> bool {
        match (self, other) {
            (Json::Array(a), Json::Array(b)) => {
                std::ptr::eq(a.as_ptr().cast::<u8>(), b.as_ptr().cast()) && a.len() == b.len()
            }
            (Json::Object(a), Json::Object(b)) => {
                std::ptr::eq(a.as_ptr().cast::<u8>(), b.as_ptr().cast()) && a.len() == b.len()
            }
            (Json::Raw(a), Json::Raw(b)) => a == b,
            (Json::Array(_) | Json::Object(_) | Json::Raw(_), _)
            | (_, Json::Array(_) | Json::Object(_) | Json::Raw(_)) => false,
            _ => self == other,
        }
    }

    /// Returns the object with `key` set to `value`, in its position or at the end.
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

    /// Returns the object without `key`; the unchanged slice if it has no such member.
    #[must_use]
    pub fn without(self, key: &str, arena: &'a Bump) -> Self {
        let members = self.members();
        if !members.iter().any(|(name, _)| *name == key) {
            return self;
        }
        Json::object(members.iter().copied().filter(|(name, _)| *name != key), arena)
    }

    /// Returns an owned copy, for values that outlive a request (YAML output, tests).
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_str(&self.to_string()).unwrap_or_default()
    }

    /// Returns the name of the value's kind for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Json::Null => "null",
            Json::Bool(_) => "a boolean",
            Json::Int(_) | Json::Uint(_) | Json::Float(_) => "a number",
            Json::Str(_) => "a string",
            Json::Array(_) => "a list",
            Json::Object(_) => "an object",
            Json::Raw(raw) => match raw.as_bytes().first() {
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

/// Equality as JSON documents: the order of members and the kind of integer do not matter.
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
            (Json::Raw(a), Json::Raw(b)) if a == b => true,
            (Json::Raw(_), _) | (_, Json::Raw(_)) => {
                let arena = Bump::new();
                match (self.open(&arena), other.open(&arena)) {
                    (Json::Raw(a), Json::Raw(b)) => a == b,
                    (Json::Raw(_), _) | (_, Json::Raw(_)) => false,
                    (a, b) => a == b,
                }
            }
            _ => false,
        }
    }
}

/// Returns true if two texts are equal; fast for names of one list, which begin alike and end differently.
pub fn fast_eq(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().last() == b.as_bytes().last() && a == b
}

fn same_members(a: &[Member<'_>], b: &[Member<'_>]) -> bool {
    // Both sides nearly always come from one document, so the index is tried first.
    a.len() == b.len()
        && a.iter().enumerate().all(|(index, (key, value))| match b.get(index) {
            Some((name, other)) if name == key => value == other,
            _ => Json::Object(b).get(key).is_some_and(|other| *value == other),
        })
}
