//! Redacts secrets in the log lines and error texts of modules.
//!
//! A module gets env values and configuration, and may put them into a log line or an error text. Both reach people
//! and log stores that may not see them: every such string of [`MIN_SECRET_CHARS`] characters or more becomes `***`,
//! as it is or as JSON spells it.

use std::collections::BTreeSet;

use bumpalo::Bump;
use serde_json::Value;

use crate::json::Json;
use crate::model::hook::LogLine;
use crate::model::review::truncate;

/// Characters of the shortest secret. Replacing shorter strings (`true`, `0`, `dev`) would garble every sentence.
const MIN_SECRET_CHARS: usize = 6;

/// Bytes of the pieces in which a secret is searched, so that a truncated one is found too.
const MAX_PIECE_BYTES: usize = 64;

/// Bytes of a text that are kept. The host truncates log lines here, and a text of this length may end within a
/// secret.
pub const MAX_TEXT_BYTES: usize = 2048;

/// Replaces secrets in texts.
#[derive(Default)]
pub struct Redactor<'a> {
    /// the longest first
    secrets: Vec<&'a str>,
}

impl<'a> Redactor<'a> {
    /// Gathers the secrets from the pods' env and arguments and from the trees.
    pub fn new(pods: &[Json<'a>], trees: &[&'a Value], arena: &'a Bump) -> Self {
        let mut found = BTreeSet::new();
        for pod in pods {
            for list in ["containers", "initContainers", "ephemeralContainers"] {
                for container in pod.get_path(&["spec", list]).map_or(&[][..], |list| list.items()) {
                    for entry in container.get("env").map_or(&[][..], |env| env.items()) {
                        collect(entry.get("value").unwrap_or(Json::Null), arena, &mut found);
                    }
                    for argv in ["command", "args"] {
                        collect(container.get(argv).map_or(Json::Null, |argv| argv.open(arena)), arena, &mut found);
                    }
                }
            }
        }
        for tree in trees {
            collect(Json::borrowed(tree, arena), arena, &mut found);
        }
        let mut secrets: Vec<&str> = found.into_iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// Returns `text` with its secrets replaced.
    pub fn text(&self, text: &str) -> String {
        // Truncation goes before a character that crosses the limit: up to three bytes early.
        let is_truncated = text.len() + 3 >= MAX_TEXT_BYTES;
        let kept = truncate(text, MAX_TEXT_BYTES);
        let present = self.secrets.iter().filter(|secret| kept.contains(**secret));
        let clean = present.fold(kept.to_owned(), |text, secret| text.replace(secret, "***"));
        if is_truncated {
            format!("{}...", truncate(&clean, clean.len().saturating_sub(MAX_PIECE_BYTES)))
        } else {
            clean
        }
    }

    /// Returns a log line with its secrets replaced.
    pub fn log(&self, log: &LogLine) -> LogLine {
        LogLine { message: self.text(&log.message), level: log.level }
    }
}

fn collect<'a>(value: Json<'a>, arena: &'a Bump, found: &mut BTreeSet<&'a str>) {
    match value {
        Json::Str(text) => collect_pieces(text, found),
        Json::Array(items) => items.iter().for_each(|item| collect(*item, arena, found)),
        Json::Object(members) => members.iter().for_each(|(_, member)| collect(*member, arena, found)),
        // Account numbers and PINs are numbers.
        Json::Int(_) | Json::Uint(_) | Json::Float(_) => {
            collect_pieces(arena.alloc_str(&value.to_string()), found);
        }
        _ => {}
    }
}

/// Splits a secret into parts that every spelling of it contains: JSON escapes quotes, backslashes and control
/// characters, and leaves the text between them as it is.
fn collect_pieces<'a>(text: &'a str, found: &mut BTreeSet<&'a str>) {
    for part in text.split(|c: char| c.is_control() || c == '"' || c == '\\') {
        // The pieces have nearly one size: a short last piece would not count as a secret, and pieces may not overlap.
        let size = part.len().div_ceil(part.len().div_ceil(MAX_PIECE_BYTES).max(1));
        let mut rest = part;
        while rest.len() > size {
            let (piece, more) = rest.split_at(rest.ceil_char_boundary(size));
            found.insert(piece);
            rest = more;
        }
        if rest.chars().count() >= MIN_SECRET_CHARS {
            found.insert(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn redacted(secret: &str, text: &str) -> String {
        let arena = Bump::new();
        let pod = json!({"spec": {"containers": [{"env": [{"name": "X", "value": secret}]}]}});
        Redactor::new(&[Json::borrowed(&pod, &arena)], &[], &arena).text(text)
    }

    #[test]
    fn a_secret_is_found_as_it_is_and_as_json_spells_it() {
        let key = "-----BEGIN-----\nline-one\n\"quoted\"\\end-of-it";
        assert_eq!(redacted("plain-value", "it was plain-value, twice plain-value"), "it was ***, twice ***");
        let spelled = serde_json::to_string(key).unwrap();
        for text in [key, &spelled] {
            let clean = redacted(key, text);
            for canary in ["BEGIN", "line-one", "quoted", "end-of"] {
                assert!(!clean.contains(canary), "{canary} in {clean}");
            }
        }
        assert_eq!(redacted("short", "short words stay"), "short words stay");
    }

    #[test]
    fn numbers_are_secrets_too() {
        let arena = Bump::new();
        let tree = json!({"account": 987_654_321, "port": 443});
        let redactor = Redactor::new(&[], &[&tree], &arena);
        assert_eq!(redactor.text("987654321 on 443"), "*** on 443");
    }

    #[test]
    fn a_truncated_secret_is_found_too() {
        let secret = "CANARY".repeat(400);
        let line = format!("{}{secret}", "x".repeat(30));
        assert!(!redacted(&secret, truncate(&line, MAX_TEXT_BYTES)).contains("CANARY"));
        for length in MAX_PIECE_BYTES..4 * MAX_PIECE_BYTES {
            let numbers: String = (100..200).map(|n| n.to_string()).collect();
            let secret = &numbers[..length];
            let clean = redacted(secret, secret);
            assert!(clean.trim_matches('*').is_empty(), "{length}: {clean}");
        }
        let early = format!("{}SECRET\u{1F600}", "x".repeat(MAX_TEXT_BYTES - 8));
        assert_eq!(truncate(&early, MAX_TEXT_BYTES).len(), MAX_TEXT_BYTES - 2, "the character does not fit");
        assert!(!redacted("SECRET\u{1F600}SECRET", truncate(&early, MAX_TEXT_BYTES)).contains("SECRET"));
        let at_the_end = format!("{}{}", "x".repeat(MAX_TEXT_BYTES - 10), "SECRETSECRET");
        assert!(!redacted("SECRETSECRET", truncate(&at_the_end, MAX_TEXT_BYTES)).contains("SECRET"));
    }
}
