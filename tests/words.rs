//! Words that are not used: one concept has one word, and a sentence names its subject. The glossary in ARCHITECTURE.md
//! has the words that are.

#![allow(
    clippy::unwrap_used,
    clippy::case_sensitive_file_extension_comparisons,
    reason = "a test that cannot read fails"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Words without a subject, and words that the glossary replaced. In names of functions and files, too.
const WORDS: &[(&str, &str)] = &[
    ("nobody", "name the subject"),
    ("nobodys", "name the subject"),
    ("somebody", "name the subject"),
    ("somebodys", "name the subject"),
    ("whoever", "name the subject"),
    ("everybody", "name the subject"),
    ("anybody", "name the subject"),
    ("whom", "name the subject"),
    ("whomever", "name the subject"),
    ("anyone", "name the subject"),
    ("someone", "name the subject"),
    ("everyone", "name the subject"),
    ("culprit", "the layer or module that changed the field"),
    ("culprits", "the layers or modules that changed the field"),
    ("refuse", "deny"),
    ("refuses", "denies"),
    ("refused", "denied"),
    ("refusing", "denying"),
    ("refusal", "denial"),
    ("refusals", "denials"),
    ("rejection", "denial"),
    ("rejections", "denials"),
    ("lay", "apply"),
    ("lays", "applies"),
    ("laid", "applied"),
    ("torn", "malformed"),
    ("sound", "valid"),
    ("unsound", "invalid"),
    ("misfit", "error"),
    ("misfits", "errors"),
    ("complain", "report an error"),
    ("complains", "reports an error"),
    ("complained", "reported an error"),
    ("complaint", "error, notice"),
    ("complaints", "errors, notices"),
];

/// Phrases, in lower case.
const PHRASES: &[(&str, &str)] = &[
    ("last good", "last valid"),
    ("once sound", "last valid"),
    ("whose word", "submitter"),
    ("turned away", "denied"),
    ("thrown out", "evicted"),
    ("patient pace", "pooled"),
    ("inline pace", "inline"),
    ("left alone", "skipped, unchanged"),
    ("passed over", "skipped"),
    ("on its way out", "shutting down"),
    ("out of every pod's way", "disabled"),
    ("where yaml ends", "logic that YAML cannot express"),
    ("design section", "cite documents of this repository"),
    ("the plan it was", "cite documents of this repository"),
];

/// Names and texts of other programs that have a retired word in them.
const NAMES: [&str; 2] = ["webhook_rejection_count", "connection refused"];

/// A doc comment begins with a verb or a noun.
const BEGINNINGS: [&str; 8] = ["what", "whether", "how", "who", "whose", "why", "where", "when"];

const ROOTS: [&str; 14] = [
    "src",
    "tests",
    "docs",
    "deploy",
    "policies",
    "certs",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "Makefile",
    "Cargo.toml",
    ".deny.toml",
    ".ci",
];

/// Files with other people's words, and this one.
const EXCEPT: [&str; 3] = ["tests/fixtures", "tests/words.rs", "policies/Cargo.lock"];

const ENDINGS: [&str; 10] = ["rs", "md", "yaml", "sh", "toml", "wat", "wit", "go", "txt", "json"];

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if EXCEPT.iter().any(|except| path == root.join(except)) || path.ends_with("target") {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
        return;
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    if ending.is_none_or(|ending| ENDINGS.contains(&ending)) {
        found.push(path.to_owned());
    }
}

/// Calls `check` with the name, line number, previous line and text of every line of every file.
fn every_line(mut check: impl FnMut(&str, usize, &str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for path in ROOTS {
        files(&root.join(path), &mut found);
    }
    found.sort();
    assert!(found.len() > 200, "only {} files were found", found.len());
    for path in found {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let mut previous = "";
        for (index, line) in text.lines().enumerate() {
            check(&name, index + 1, previous, line);
            previous = line;
        }
    }
}

#[test]
fn retired_words_do_not_come_back() {
    let mut report = Vec::new();
    every_line(|name, number, _, line| {
        let lower = NAMES.iter().fold(line.to_lowercase(), |line, name| line.replace(name, ""));
        let words = lower.split(|c: char| !c.is_alphabetic());
        let used = words.filter_map(|word| WORDS.iter().find(|(retired, _)| *retired == word));
        let phrases = PHRASES.iter().filter(|(phrase, _)| lower.contains(phrase));
        report.extend(used.chain(phrases).map(|(word, instead)| format!("{name}:{number}: {word} ({instead})")));
    });
    assert!(report.is_empty(), "{} retired words:\n{}", report.len(), report.join("\n"));
}

#[test]
fn doc_comments_begin_with_a_verb_or_a_noun() {
    let mut report = Vec::new();
    every_line(|name, number, previous, line| {
        let line = line.trim_start();
        let Some(marker) = ["///", "//!"].into_iter().find(|marker| line.starts_with(marker)) else { return };
        if !name.ends_with(".rs") || previous.trim_start().starts_with(marker) {
            return;
        }
        let first = line[marker.len()..].split_whitespace().next().unwrap_or_default().to_lowercase();
        if BEGINNINGS.contains(&first.as_str()) {
            report.push(format!("{name}:{number}: {line}"));
        }
    });
    assert!(report.is_empty(), "{} doc comments begin with a question word:\n{}", report.len(), report.join("\n"));
}
