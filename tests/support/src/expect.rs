//! Assertions that return an error, for tests that clean up behind themselves.

use std::fmt::Debug;

use serde_json::Value;
use similar::TextDiff;

use crate::Outcome;
use crate::control_plane::Output;

/// Fails with this text unless it holds.
pub fn expect(holds: bool, or_else: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(or_else()) }
}

/// Fails unless both are the same.
#[expect(clippy::needless_pass_by_value, reason = "as with assert_eq, callers have values as often as references")]
pub fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    expect(found == expected, || {
        let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
        if !found.contains('\n') && !expected.contains('\n') {
            return format!("{what}: found {found}, expected {expected}");
        }
        let difference = TextDiff::from_lines(&expected, &found);
        format!("{what}:\n{}", difference.unified_diff().header("expected", "found"))
    })
}

/// Fails unless the text holds this.
pub fn says(text: &str, expected: &str) -> Outcome {
    expect(text.contains(expected), || format!("{expected:?} is not in {text:?}"))
}

/// A call that succeeded and said nothing on stderr, which fails a ClearML task; its stdout.
pub fn quiet(output: &Output) -> Outcome<&str> {
    expect(output.success() && output.stderr.is_empty(), || {
        format!("kubectl: {}, on stderr: {:?}", output.status, output.stderr)
    })?;
    Ok(&output.stdout)
}

/// Parses the stdout of a call with `-o json` that succeeded and said nothing on stderr.
pub fn as_json(output: &Output) -> Outcome<Value> {
    serde_json::from_str(quiet(output)?).map_err(|error| error.to_string())
}
