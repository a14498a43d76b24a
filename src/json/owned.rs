//! A value that owns its parts, for a snapshot: computed once and applied to many pods.

use bumpalo::Bump;

use super::Json;

/// An owned [`Json`] value. Members keep their order: a `serde_json::Value` would sort them, and a patch made from it
/// would list its operations in another order.
#[derive(Debug, Clone, PartialEq)]
pub enum OwnedJson {
    /// `null`, a boolean or a number
    Plain(Json<'static>),
    /// a string
    Str(Box<str>),
    /// a list
    Array(Box<[OwnedJson]>),
    /// an object's members
    Object(Box<[(Box<str>, OwnedJson)]>),
    /// text that is not parsed
    Raw(Box<str>),
}

impl OwnedJson {
    /// Copies `value`.
    pub fn from_json(value: Json<'_>) -> Self {
        match value {
            Json::Null => OwnedJson::Plain(Json::Null),
            Json::Bool(flag) => OwnedJson::Plain(Json::Bool(flag)),
            Json::Int(number) => OwnedJson::Plain(Json::Int(number)),
            Json::Uint(number) => OwnedJson::Plain(Json::Uint(number)),
            Json::Float(number) => OwnedJson::Plain(Json::Float(number)),
            Json::Str(text) => OwnedJson::Str(text.into()),
            Json::Raw(text) => OwnedJson::Raw(text.into()),
            Json::Array(items) => OwnedJson::Array(items.iter().map(|item| Self::from_json(*item)).collect()),
            Json::Object(members) => {
                OwnedJson::Object(members.iter().map(|(key, value)| ((*key).into(), Self::from_json(*value))).collect())
            }
        }
    }

    /// Borrows the value; the arena holds only the slices, the strings are not copied.
    pub fn borrowed<'a>(&'a self, arena: &'a Bump) -> Json<'a> {
        match self {
            OwnedJson::Plain(value) => *value,
            OwnedJson::Str(text) => Json::Str(text),
            OwnedJson::Raw(text) => Json::Raw(text),
            OwnedJson::Array(items) => {
                Json::Array(arena.alloc_slice_fill_iter(items.iter().map(|item| item.borrowed(arena))))
            }
            OwnedJson::Object(members) => Json::Object(
                arena.alloc_slice_fill_iter(members.iter().map(|(key, value)| (&**key, value.borrowed(arena)))),
            ),
        }
    }
}
