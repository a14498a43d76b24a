//! podgraft: a Kubernetes mutating admission webhook for ML task pods.

// core: pure, synchronous
pub mod config;
pub mod explain;
pub mod json;
pub mod k8s;
pub mod merge;
pub mod model;
pub mod mutate;

// shell: I/O
pub mod cli;
pub mod http;
pub mod wasm;
pub mod watch;
