//! What the host offers.

use std::panic;

use serde::de::DeserializeOwned;

use crate::Result;
use crate::bindings::podgraft::template::host::{Level, config_get, log};

/// Looks into the task's configuration: `config::<Nfs>("nfs")`, `config::<String>("nfs.server.ip")`.
///
/// The path is dotted, `"a.b"` in quotes is one element of it. Missing and null are `None`; a value of another
/// form than `T` is an error that names the path.
pub fn config<T: DeserializeOwned>(path: &str) -> Result<Option<T>> {
    match config_get(path) {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text).map_err(|error| format!("task_config {path}: {error}")),
    }
}

/// Logs a line for whoever writes the module.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// Logs a line that is worth reading.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Logs that something is off, though the pod goes on.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// Logs why the module is about to fail.
pub fn error(message: &str) {
    log(Level::Error, message);
}

/// A panic becomes a trap, whose text is the host's: what the panic says is only seen when it is logged here.
#[doc(hidden)]
pub fn start() {
    panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}
