//! Reads JSON text into the arena.
//!
//! By hand, because parsing is what a request spends most on: the tree that is wanted is known, so nothing goes
//! through a visitor, every slice is allocated once and in its final size, and parts that stay raw are walked over
//! without building anything. What is rare is left to `serde_json`: `\u` escapes, and numbers that are no plain
//! counts. A test holds that both take the same texts, and see the same in them.

use std::fmt;

use bumpalo::Bump;

use super::{Json, Member, Shape};

/// How deep a document may nest; `serde_json` takes as much.
const MAX_DEPTH: usize = 127;

/// Room for what most reviews have under way at once.
const SCRATCH: usize = 64;

/// Why a text is refused. It never quotes the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    what: &'static str,
    /// both from 1
    line: usize,
    column: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

impl std::error::Error for Error {}

/// The value that `text` spells, and how many members or elements the largest object or list has that was opened.
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

/// How far a text has been read. Whatever its methods find wrong is `None`, and then `at` is where.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    arena: &'a Bump,
    /// of all objects that are under way, the innermost last
    members: Vec<Member<'a>>,
    /// of all lists
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

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Goes past `byte` if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
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
            _ => self.word(),
        }
    }

    fn object(&mut self, shape: &'static Shape) -> Option<Json<'a>> {
        let outer = self.members.len();
        let mut more = self.enter(b'}')?;
        while more {
            let key = self.key()?;
            let value = self.value(shape.member(key))?;
            self.members.push((key, value));
            more = self.goes_on(b'}')?;
        }
        let members = self.arena.alloc_slice_copy(&self.members[outer..]);
        self.members.truncate(outer);
        self.largest = self.largest.max(members.len());
        Some(Json::Object(members))
    }

    fn list(&mut self, shape: &'static Shape) -> Option<Json<'a>> {
        let outer = self.items.len();
        let mut more = self.enter(b']')?;
        while more {
            let value = self.value(shape.element())?;
            self.items.push(value);
            more = self.goes_on(b']')?;
        }
        let items = self.arena.alloc_slice_copy(&self.items[outer..]);
        self.items.truncate(outer);
        self.largest = self.largest.max(items.len());
        Some(Json::Array(items))
    }

    /// Goes past the bracket that opens an object or list, and the one that closes it if there is nothing in it;
    /// whether there is.
    fn enter(&mut self, close: u8) -> Option<bool> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let is_empty = self.takes(close);
        self.depth -= usize::from(is_empty);
        Some(!is_empty)
    }

    /// Goes past a comma, or past what closes an object or list; whether it was the comma.
    fn goes_on(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        if byte != b',' {
            (byte == close).then_some(())?;
            self.depth -= 1;
        }
        self.at += 1;
        Some(byte == b',')
    }

    /// A member's name and the colon.
    fn key(&mut self) -> Option<&'a str> {
        let key = (self.peek()? == b'"').then(|| self.string())??;
        self.takes(b':').then_some(key)
    }

    /// Goes past a value without building it.
    fn skip(&mut self) -> Option<()> {
        let open = self.peek()?;
        let close = match open {
            b'"' => return self.pass_string().map(|_| ()),
            b'{' => b'}',
            b'[' => b']',
            b'0'..=b'9' | b'-' => return self.number().map(|_| ()),
            _ => return self.word().map(|_| ()),
        };
        let mut more = self.enter(close)?;
        while more {
            if open == b'{' {
                (self.peek()? == b'"').then(|| self.pass_string())??;
                self.takes(b':').then_some(())?;
            }
            self.skip()?;
            more = self.goes_on(close)?;
        }
        Some(())
    }

    /// The string that begins here: borrowed, unless it has escapes.
    fn string(&mut self) -> Option<&'a str> {
        let begin = self.at;
        let is_plain = self.pass_string()?;
        let quoted = &self.text[begin..self.at];
        if is_plain {
            return Some(&quoted[1..quoted.len() - 1]);
        }
        let text = unescaped(quoted, self.arena);
        if text.is_none() {
            self.at = begin; // half of a surrogate pair
        }
        text
    }

    /// Goes past a string; whether it has no escapes.
    fn pass_string(&mut self) -> Option<bool> {
        let bytes = self.text.as_bytes();
        self.at = plain_end(bytes, self.at + 1);
        if bytes.get(self.at) == Some(&b'"') {
            self.at += 1;
            return Some(true);
        }
        self.pass_escapes().map(|()| false)
    }

    /// The same from the first backslash on.
    #[inline(never)] // so that the plain strings need not save the registers that this takes
    fn pass_escapes(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        while *bytes.get(self.at)? != b'"' {
            self.at += escape_length(&bytes[self.at..])?;
            self.at = plain_end(bytes, self.at);
        }
        self.at += 1;
        Some(())
    }

    /// A count as it is, anything else as `serde_json` reads it.
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

    fn word(&mut self) -> Option<Json<'a>> {
        let rest = &self.text[self.at..];
        let words = [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)];
        let (word, value) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
        self.at += word.len();
        Some(value)
    }
}

/// The high bit of each of eight bytes that does not stand for itself in a string: a quote, a backslash, a control
/// character. Beyond the first hit there may be false ones.
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

/// The first place from `at` on where a string's text does not stand for itself, or the end. Eight bytes at a time, as
/// nearly all text is plain.
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

/// Whether a text stands for itself between quotes.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    // the last eight bytes overlap those before, so that no rest is left to be looked at one by one
    match (bytes.last_chunk(), bytes.as_chunks().0) {
        (Some(last), words) => words.iter().chain([last]).all(|word| specials(*word) == 0),
        (None, _) => !bytes.iter().any(|byte| is_special(*byte)),
    }
}

/// How long the escape is that a text begins with, if it does.
fn escape_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'\\', b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Some(6),
        [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Some(2),
        _ => None,
    }
}

/// The text of a string with escapes, which have been looked at; `None` is half of a surrogate pair.
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
