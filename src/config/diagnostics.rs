//! Errors and notices about a configuration, with their positions.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::config::decode::ast::Position;

/// One error or notice about a configuration. Its message names keys, never the values of env or vaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// the file, or `<ConfigMap>/<key>`; empty without one
    #[serde(serialize_with = "as_str")]
    pub file: Arc<str>,
    /// line, from 1; 0 is the whole file
    pub line: u32,
    /// column in characters, from 1; 0 is the whole line
    pub column: u32,
    /// a path in the configuration (`queues.pvc-test.templateOverrides.env[0].value`), or a unit
    pub path: String,
    /// one sentence
    pub message: String,
}

fn as_str<S: Serializer>(file: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(file)
}

impl Diagnostic {
    /// Creates the diagnostic of a position.
    pub fn new(file: &str, at: Position, path: &str, message: impl Into<String>) -> Self {
        let (file, path) = (file.into(), path.to_owned());
        Self { file, line: at.line, column: at.column, path, message: message.into() }
    }
}

impl fmt::Display for Diagnostic {
    /// Writes `queue.yaml:12:7: queues.pvc-test.mode: …`, as compilers do, without the unknown parts.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.file)?;
        for number in [self.line, self.column].into_iter().filter(|number| *number > 0) {
            write!(formatter, ":{number}")?;
        }
        let separator = if self.file.is_empty() { "" } else { ": " };
        formatter.write_str(separator)?;
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// The collector of the errors and notices of one unit. A unit without errors is valid.
pub(crate) struct Diagnostics {
    pub(crate) file: Arc<str>,
    errors: RefCell<Vec<Diagnostic>>,
    notices: RefCell<Vec<Diagnostic>>,
}

impl Diagnostics {
    pub(crate) fn new(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), errors: RefCell::default(), notices: RefCell::default() }
    }

    /// Adds an error.
    pub(crate) fn error(&self, at: Position, path: &str, message: impl Into<String>) {
        self.push(&self.errors, at, path, message.into());
    }

    /// Adds a notice.
    pub(crate) fn notice(&self, at: Position, path: &str, message: impl Into<String>) {
        self.push(&self.notices, at, path, message.into());
    }

    fn push(&self, list: &RefCell<Vec<Diagnostic>>, at: Position, path: &str, message: String) {
        let file = Arc::clone(&self.file);
        let diagnostic = Diagnostic { file, line: at.line, column: at.column, path: path.to_owned(), message };
        let mut list = list.borrow_mut();
        // an anchor that is used twice has each error once
        if !list.contains(&diagnostic) {
            list.push(diagnostic);
        }
    }

    pub(crate) fn take_notices(&self) -> Vec<Diagnostic> {
        self.notices.take()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Returns the errors in the order of their positions.
    pub(crate) fn into_errors(self) -> Vec<Diagnostic> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| (error.line, error.column));
        errors
    }
}
