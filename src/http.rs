//! Everything that serves: the webhook's and the admin's listeners, TLS, admission, metrics, start and shutdown.

pub mod admin;
pub mod admission;
pub mod app;
mod log_throttle;
pub mod metrics;
pub mod server;
