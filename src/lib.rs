//! podgraft: a Kubernetes mutating admission webhook for ML task pods.

// core: pure, synchronous
pub mod account;
pub mod config;
pub mod guards;
pub mod json;
pub mod layers;
pub mod merge;
pub mod mutate;
pub mod normalize;
pub mod offline;
pub mod owners;
pub mod patch;
pub mod placeholder;
pub mod pod_security;
pub mod provenance;
pub mod quantity;
pub mod redact;
pub mod render;
pub mod review;
pub mod schema;
pub mod sidecars;
pub mod snapshot;
pub mod sound;
pub mod task;
pub mod template;
pub mod warnings;
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
