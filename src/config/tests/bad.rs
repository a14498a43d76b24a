//! Bad input and the full text of what is said about it. Two lines stand in front of each: `apiVersion`, `kind`.

mod files;
mod keys;
mod templates;
mod units;

use super::*;

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(texts(&build(text)), *expected, "{text}");
    }
}

/// `queues: {q: {templateOverrides: …}}`, its keys at line 6, column 7.
fn overrides(text: &str) -> String {
    format!("queues:\n  q:\n    templateOverrides:\n      {text}\n")
}
