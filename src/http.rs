//! The servers of `podgraft serve`: webhook and admin listeners, TLS, admission, metrics, start and graceful shutdown.

pub mod admin;
pub mod admission;
pub mod app;
mod log_throttle;
pub mod metrics;
pub mod server;
