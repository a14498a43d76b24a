//! The error with which a hook denies a pod.

use std::fmt;

/// The result of a hook; an [`Error`] denies the pod.
pub type Result<T> = core::result::Result<T, Error>;

/// The sentence with which a hook denies a pod. The task's submitter reads it, so it says what is missing or wrong and
/// names its key; podgraft prepends the module's name and replaces secrets by `***`.
///
/// ```
/// # use podgraft_sdk::{Error, Result};
/// fn port(text: &str) -> Result<u16> {
///     text.parse().map_err(|_| Error::new("params.port is no port"))
/// }
/// assert_eq!(port("http").unwrap_err().to_string(), "params.port is no port");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// Creates an error from one sentence, without a full stop.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl From<&str> for Error {
    fn from(sentence: &str) -> Self {
        Self(sentence.to_owned())
    }
}

impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.0
    }
}

/// Denies the pod with a sentence if there is no value: `config("nfs.mountPath")?.or_deny("task_config nfs.mountPath
/// is missing")?`.
///
/// ```
/// # use podgraft_sdk::OrDeny;
/// assert_eq!(Some(1).or_deny("there is none"), Ok(1));
/// assert_eq!("x".parse::<u8>().or_deny("params.count").unwrap_err().to_string(), "params.count: invalid digit found in string");
/// ```
pub trait OrDeny<T> {
    /// Returns the value, or an [`Error`] with this sentence, followed by a colon and the other error if there is one.
    fn or_deny(self, sentence: &str) -> Result<T>;
}

impl<T> OrDeny<T> for Option<T> {
    fn or_deny(self, sentence: &str) -> Result<T> {
        self.ok_or_else(|| sentence.into())
    }
}

impl<T, E: fmt::Display> OrDeny<T> for core::result::Result<T, E> {
    fn or_deny(self, sentence: &str) -> Result<T> {
        self.map_err(|error| format!("{sentence}: {error}").into())
    }
}

/// Parses JSON. An error names `place`, which the author knows, and not line and column of text that podgraft
/// generated.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(text: &'a str, place: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
        format!("{place}: {what}").into()
    })
}
