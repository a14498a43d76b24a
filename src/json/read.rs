//! Reads JSON text into the arena.
//!
//! Written by hand, because parsing is the largest cost of a request: the wanted tree is known, so nothing goes through
//! a visitor, every slice is allocated once and in its final size, and raw parts are scanned without building anything.
//! Rare cases are left to `serde_json`: `\u` escapes, and numbers that are not plain counts. A test checks that both
//! accept the same texts and read the same values.

use std::fmt;

use bumpalo::Bump;

use super::{Json, Member, Shape};

/// Levels to which a document may nest; the limit of `serde_json`.
const MAX_DEPTH: usize = 127;

/// Initial capacity for the members or elements of all open objects or lists; enough for most reviews.
const SCRATCH: usize = 64;

/// A parse error. It never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: &'static str,
    /// line and column, from 1
    line: usize,
    column: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl std::error::Error for Error {}

/// Parses `text` and returns also the length of the largest parsed object or list.
pub(super) fn read<'a>(text: &'a str, shape: &'static Shape, arena: &'a Bump) -> Result<(Json<'a>, usize), Error> {
    let mut reader = Reader {
        text,
        at: 0,
        arena,
        members: Vec::with_capacity(SCRATCH),
        items: Vec::with_capacity(SCRATCH),
        depth: 0,
        largest: 0,
    };
    let value = reader.value(shape).filter(|_| reader.peek().is_none());
    value.map(|value| (value, reader.largest)).ok_or_else(|| reader.error())
}

impl Shape {
    fn member(&'static self, key: &str) -> &'static Shape {
        match self {
            Shape::But(members) => {
                members.iter().find(|(name, _)| *name == key).map_or(&Shape::All, |(_, shape)| shape)
            }
            _ => &Shape::All,
        }
    }

    fn element(&'static self) -> &'static Shape {
        if let Shape::Each(shape) = self { shape } else { &Shape::All }
    }
}

/// A position in a text. A method that fails returns `None` and leaves the error's position in `at`.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    arena: &'a Bump,
    /// members of all open objects, the innermost last
    members: Vec<Member<'a>>,
    /// elements of all open lists, the innermost last
    items: Vec<Json<'a>>,
    depth: usize,
    largest: usize,
}

impl<'a> Reader<'a> {
    fn error(&self) -> Error {
        let (before, rest) = self.text.as_bytes().split_at(self.at.min(self.text.len()));
        let what = match rest {
            _ if self.depth > MAX_DEPTH => "it nests too deeply",
            [] => "it ends too early",
            _ => "syntax error",
        };
        let line = before.split(|byte| *byte == b'\n').count();
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + usize::from(!rest.is_empty());
        Error { what, line, column }
    }

    /// Skips white space and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Consumes `byte` if it comes next.
    fn consume(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, shape: &'static Shape) -> Option<Json<'a>> {
        let first = self.peek()?;
        if matches!(shape, Shape::Skip) {
            let begin = self.at;
            self.skip()?;
            return Some(Json::Raw(&self.text[begin..self.at]));
        }
        match first {
            b'"' => self.string().map(Json::Str),
            b'{' => self.object(shape),
            b'[' => self.list(shape),
            b'0'..=b'9' | b'-' => self.number(),
            _ => self.literal(),
        }
    }

    fn object(&mut self, shape: &'static Shape) -> Option<Json<'a>> {
        let outer = self.members.len();
        let mut more = self.open(b'}')?;
        while more {
            let key = self.key()?;
            let value = self.value(shape.member(key))?;
            self.members.push((key, value));
            more = self.comma_or_close(b'}')?;
        }
        let members = self.arena.alloc_slice_copy(&self.members[outer..]);
        self.members.truncate(outer);
        self.largest = self.largest.max(members.len());
        Some(Json::Object(members))
    }

    fn list(&mut self, shape: &'static Shape) -> Option<Json<'a>> {
        let outer = self.items.len();
        let mut more = self.open(b']')?;
        while more {
            let value = self.value(shape.element())?;
            self.items.push(value);
            more = self.comma_or_close(b']')?;
        }
        let items = self.arena.alloc_slice_copy(&self.items[outer..]);
        self.items.truncate(outer);
        self.largest = self.largest.max(items.len());
        Some(Json::Array(items))
    }

    /// Consumes the opening bracket of an object or list, and the closing one if it is empty. Returns true if it is not
    /// empty.
    fn open(&mut self, close: u8) -> Option<bool> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let is_empty = self.consume(close);
        self.depth -= usize::from(is_empty);
        Some(!is_empty)
    }

    /// Consumes a comma or the closing bracket of an object or list. Returns true for the comma.
    fn comma_or_close(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        if byte != b',' {
            (byte == close).then_some(())?;
            self.depth -= 1;
        }
        self.at += 1;
        Some(byte == b',')
    }

    /// Reads a member's name and the colon.
    fn key(&mut self) -> Option<&'a str> {
        let key = (self.peek()? == b'"').then(|| self.string())??;
        self.consume(b':').then_some(key)
    }

    /// Skips a value without building it.
    fn skip(&mut self) -> Option<()> {
        let open = self.peek()?;
        let close = match open {
            b'"' => return self.skip_string().map(|_| ()),
            b'{' => b'}',
            b'[' => b']',
            b'0'..=b'9' | b'-' => return self.number().map(|_| ()),
            _ => return self.literal().map(|_| ()),
        };
        let mut more = self.open(close)?;
        while more {
            if open == b'{' {
                (self.peek()? == b'"').then(|| self.skip_string())??;
                self.consume(b':').then_some(())?;
            }
            self.skip()?;
            more = self.comma_or_close(close)?;
        }
        Some(())
    }

    /// Reads a string: borrowed, unless it has escapes.
    fn string(&mut self) -> Option<&'a str> {
        let begin = self.at;
        let is_plain = self.skip_string()?;
        let quoted = &self.text[begin..self.at];
        if is_plain {
            return Some(&quoted[1..quoted.len() - 1]);
        }
        let text = unescaped(quoted, self.arena);
        if text.is_none() {
            self.at = begin; // the error's position: half of a surrogate pair
        }
        text
    }

    /// Skips a string. Returns true if it has no escapes.
    fn skip_string(&mut self) -> Option<bool> {
        let bytes = self.text.as_bytes();
        self.at = plain_end(bytes, self.at + 1);
        if bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Some(true);
        }
        self.skip_escapes().map(|()| false)
    }

    /// Skips the rest of a string from its first backslash on.
    #[inline(never)] // so that the plain strings need not save the registers that this takes
    fn skip_escapes(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        while *bytes.get(self.at)? != b'"' {
            self.at += escape_length(&bytes[self.at..])?;
            self.at = plain_end(bytes, self.at);
        }
        self.at += 1;
        Some(())
    }

    /// Reads a count directly, any other number with `serde_json`.
    fn number(&mut self) -> Option<Json<'a>> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let text = &rest[..length.unwrap_or(rest.len())];
        let is_count = text.len() < 19 && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = if is_count && (text.len() == 1 || !text.starts_with('0')) {
            text.parse().ok().map(Json::Uint)
        } else {
            serde_json::from_str(text).ok().map(|number| Json::number(&number))
        }?;
        self.at += text.len();
        Some(value)
    }

    fn literal(&mut self) -> Option<Json<'a>> {
        let rest = &self.text[self.at..];
        let words = [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)];
        let (word, value) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
        self.at += word.len();
        Some(value)
    }
}

/// Returns the high bit of each of eight bytes that needs an escape in a string: a quote, a backslash, a control
/// character. Bits above the first hit may be false.
fn specials(word: [u8; 8]) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(word);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * u64::from(b' ')) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    (control | quote | backslash) & (ONES << 7)
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..b' ')
}

/// Returns the first position from `at` on of a byte that needs an escape in a string, or the end. Reads eight bytes at
/// a time, as nearly all text is plain.
pub fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let hits = specials(*word);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += size_of::<u64>();
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len())
}

/// Returns true if a text needs no escapes between quotes.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    // the last eight bytes overlap those before, so that no rest must be checked byte by byte
    match (bytes.last_chunk(), bytes.as_chunks().0) {
        (Some(last), words) => words.iter().chain([last]).all(|word| specials(*word) == 0),
        (None, _) => !bytes.iter().any(|byte| is_special(*byte)),
    }
}

/// Returns the length of the escape at the start of a text.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Some(6),
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        _ => None,
    }
}

/// Decodes a string whose escapes are well-formed; `None` for half of a surrogate pair.
fn unescaped<'a>(quoted: &str, arena: &'a Bump) -> Option<&'a str> {
    let mut text = bumpalo::collections::String::with_capacity_in(quoted.len(), arena);
    let mut rest = &quoted[1..quoted.len() - 1];
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return Some(arena.alloc_str(&serde_json::from_str::<String>(quoted).ok()?)),
            itself => char::from(itself),
        });
        rest = &rest[at + 2..];
    }
    text.push_str(rest);
    Some(text.into_bump_str())
}
