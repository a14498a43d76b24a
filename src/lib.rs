//! podgraft: a Kubernetes mutating admission webhook for ML task pods.

// core: pure, synchronous
pub mod explain;
pub mod model;
pub mod k8s;
pub mod config;
pub mod json;
pub mod merge;
pub mod mutate;
pub mod sidecars;

// shell: I/O
pub mod http;
pub mod wasm;
pub mod cli;
pub mod watch;
