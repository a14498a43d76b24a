//! A value that owns its parts, for a snapshot: what is worked out once and laid over many pods.

use bumpalo::Bump;

use super::Json;

/// A value as [`Json`] has it, members in their order: a `serde_json::Value` would sort them, and a patch that was made
/// from it would list its operations in another order.
#[derive(Debug, Clone, PartialEq)]
pub enum Frozen {
    /// `null`, a flag or a number
    Plain(Json<'static>),
    /// a string
    Str(Box<str>),
    /// a list
    Array(Box<[Frozen]>),
    /// the members
    Object(Box<[(Box<str>, Frozen)]>),
    /// text that nobody needed to open
    Raw(Box<str>),
}

impl Frozen {
    /// A copy of `value`.
    pub fn of(value: Json<'_>) -> Self {
        match value {
            Json::Null => Frozen::Plain(Json::Null),
            Json::Bool(flag) => Frozen::Plain(Json::Bool(flag)),
            Json::Int(number) => Frozen::Plain(Json::Int(number)),
            Json::Uint(number) => Frozen::Plain(Json::Uint(number)),
            Json::Float(number) => Frozen::Plain(Json::Float(number)),
            Json::Str(text) => Frozen::Str(text.into()),
            Json::Raw(text) => Frozen::Raw(text.into()),
            Json::Array(items) => Frozen::Array(items.iter().map(|item| Self::of(*item)).collect()),
            Json::Object(members) => {
                Frozen::Object(members.iter().map(|(key, value)| ((*key).into(), Self::of(*value))).collect())
            }
        }
    }

    /// Borrows it; the arena holds only the slices, the strings stay where they are.
    pub fn lift<'a>(&'a self, arena: &'a Bump) -> Json<'a> {
        match self {
            Frozen::Plain(value) => *value,
            Frozen::Str(text) => Json::Str(text),
            Frozen::Raw(text) => Json::Raw(text),
            Frozen::Array(items) => Json::Array(arena.alloc_slice_fill_iter(items.iter().map(|item| item.lift(arena)))),
            Frozen::Object(members) => Json::Object(
                arena.alloc_slice_fill_iter(members.iter().map(|(key, value)| (&**key, value.lift(arena)))),
            ),
        }
    }
}
