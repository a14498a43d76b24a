//! podgraft: a Kubernetes mutating admission webhook for ML task pods.

// core: pure, synchronous
pub mod model;
pub mod k8s;
pub mod account;
pub mod config;
pub mod guards;
pub mod json;
pub mod layers;
pub mod merge;
pub mod mutate;
pub mod normalize;
pub mod offline;
pub mod provenance;
pub mod redact;
pub mod sidecars;
pub mod template;
pub mod yaml;

// shell: I/O
pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod metrics;
pub mod module;
mod seldom;
pub mod server;
pub mod watch;
