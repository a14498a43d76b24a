//! Writes a value as JSON text.

use std::fmt;

use serde::ser::{Error as _, Serialize, Serializer};
use serde_json::value::RawValue;

use super::Json;
use super::read::is_plain;

impl Json<'_> {
    /// Appends the value's text without white space. Raw parts are written unchanged.
    pub fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(true) => out.push_str("true"),
            Json::Bool(false) => out.push_str("false"),
            Json::Int(value) => out.push_str(&value.to_string()),
            Json::Uint(value) => write_count(*value, out),
            Json::Float(value) => out.push_str(&serde_json::to_string(value).unwrap_or_default()),
            Json::Str(text) => write_text(text, out),
            Json::Raw(text) => out.push_str(text),
            Json::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    push_comma(index, out);
                    item.write(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    push_comma(index, out);
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends a number. Most have one or two digits, too few to set up formatting for.
pub fn write_count(number: u64, out: &mut String) {
    if number >= 10 {
        write_count(number / 10, out);
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}

/// Appends the comma that precedes every element but the first.
pub fn push_comma(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

/// Appends a string with its quotes.
pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    write_inner(text, out);
    out.push('"');
}

/// Appends the text between a string's quotes.
pub fn write_inner(text: &str, out: &mut String) {
    if is_plain(text.as_bytes()) {
        out.push_str(text);
        return;
    }
    let quoted = serde_json::to_string(text).unwrap_or_default();
    out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
}

/// JSON text.
impl fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        formatter.write_str(&text)
    }
}

/// Serialization by way of the text, for use outside a request: only `serde_json`'s serializers support it.
impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_string();
        serde_json::from_str::<&RawValue>(&text).map_err(S::Error::custom)?.serialize(serializer)
    }
}
