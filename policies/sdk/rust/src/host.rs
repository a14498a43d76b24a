//! The functions of the host.

use std::panic;

use serde::de::DeserializeOwned;
use serde_json::Value;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::{config_get, log};

use crate::bindings::podgraft::template::host::Level;
#[cfg(target_arch = "wasm32")]
use crate::bindings::podgraft::template::host::{config_get, log};
use crate::error::read;
use crate::{Error, Result};

/// Reads a value of the task's configuration: `config::<Nfs>("nfs")`, `config::<String>("nfs.server.ip")`.
///
/// The path is dotted; `"a.b"` in quotes is one element of it. Missing and null are `None`; a value that does not
/// have the form of `T` is an error that names the path.
pub fn config<T: DeserializeOwned>(path: &str) -> Result<Option<T>> {
    config_get(path).map_or(Ok(None), |text| read(&text, &format!("task_config {path}")))
}

/// Reads a value of the task's configuration as text. Numbers and booleans become text; lists and maps are an error.
pub fn config_text(path: &str) -> Result<Option<String>> {
    match config::<Value>(path)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(_)) => Err(Error::new(format!("task_config {path} is a list, text is expected"))),
        Some(Value::Object(_)) => Err(Error::new(format!("task_config {path} is a map, text is expected"))),
        Some(scalar) => Ok(Some(scalar.to_string())),
    }
}

/// Logs a line for the module's author.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// Logs a line that is worth reading.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Logs a problem that does not deny the pod.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// Logs the reason of an imminent failure.
pub fn error(message: &str) {
    log(Level::Error, message);
}

/// Logs panics: a panic becomes a trap, whose text is the host's, so that the panic's message would not be seen.
#[doc(hidden)]
pub fn start() {
    panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
