//! podgraft: a Kubernetes mutating admission webhook for ML task pods.

// core: pure, synchronous
pub mod config;
pub mod json;
pub mod mutate;
pub mod render;
pub mod schema;
pub mod snapshot;
pub mod task;
