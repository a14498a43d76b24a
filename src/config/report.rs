//! What is wrong with a configuration, and where.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::node::Position;

/// One thing that is wrong. Its text names keys and places, never the values of env or vaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// file, or `<ConfigMap>/<key>`
    pub file: Arc<str>,
    /// from 1; 0 when it concerns the whole file
    pub line: u32,
    /// from 1
    pub column: u32,
    /// `queues.pvc-test.templateOverrides.env[0].value`
    pub path: String,
    /// one sentence
    pub message: String,
}

impl fmt::Display for Diagnostic {
    /// `queue.yaml:12:7: queues.pvc-test.mode: …`, as compilers write it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file)?;
        if self.line > 0 {
            write!(formatter, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(formatter, ": {}", self.path)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Collects the problems of one unit, which is sound when there are none.
pub(crate) struct Report {
    pub(crate) file: Arc<str>,
    errors: RefCell<Vec<Diagnostic>>,
    notices: RefCell<Vec<Diagnostic>>,
}

impl Report {
    pub(crate) fn new(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), errors: RefCell::default(), notices: RefCell::default() }
    }

    pub(crate) fn add(&self, at: Position, path: &str, message: impl Into<String>) {
        self.push(&self.errors, at, path, message.into());
    }

    /// What is worth knowing and not wrong.
    pub(crate) fn notice(&self, at: Position, path: &str, message: impl Into<String>) {
        self.push(&self.notices, at, path, message.into());
    }

    fn push(&self, list: &RefCell<Vec<Diagnostic>>, at: Position, path: &str, message: String) {
        let file = Arc::clone(&self.file);
        let problem = Diagnostic { file, line: at.line, column: at.column, path: path.to_owned(), message };
        let mut list = list.borrow_mut();
        // an anchor that is used twice is wrong once
        if !list.contains(&problem) {
            list.push(problem);
        }
    }

    pub(crate) fn take_notices(&self) -> Vec<Diagnostic> {
        self.notices.take()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// The problems in the order in which they stand in the file.
    pub(crate) fn into_errors(self) -> Vec<Diagnostic> {
        let mut problems = self.errors.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }
}
