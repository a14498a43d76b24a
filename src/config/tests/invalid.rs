//! Invalid input and the full texts of its errors. Each input begins with two more lines, `apiVersion` and `kind`.

mod files;
mod keys;
mod templates;
mod units;

use super::*;

fn check(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        assert_eq!(error_texts(&build(text)), *expected, "{text}");
    }
}

/// Returns `queues: {q: {templateOverrides: …}}`, with the keys at line 6, column 7.
fn overrides(text: &str) -> String {
    format!("queues:\n  q:\n    templateOverrides:\n      {text}\n")
}
