//! podgraft: a Kubernetes mutating admission webhook for ML task pods.
//!
//! # The path of a request
//!
//! Off the path, [`watch`] reads ConfigMaps or files, [`config`] decodes them, [`wasm`] compiles their modules, and the
//! result is one immutable [`model::snapshot::Snapshot`]. A request takes the newest snapshot and keeps it to its end.
//!
//! 1. [`http::server`] accepts the connection, does TLS and speaks HTTP/1.1.
//! 2. [`http::admission`] reads the body, works out the deadline, and calls [`mutate::answer()`] on its worker. A request
//!    with a slow module runs again on the module threads ([`http::admission::pool`]).
//! 3. [`model::review`] parses the AdmissionReview once, into the borrowed tree of [`json`].
//! 4. [`model::task`] reads the pod's task system, queue, environment, user and primary container.
//! 5. [`mutate::plan`] chooses the layers and modules of this pod.
//! 6. [`merge`] applies the fragment of one layer after the other; [`model::placeholder`] fills it first.
//! 7. The modules run in order: [`mutate::hook_view`] is the pod as a hook sees it, [`model::hook`] is the call, and the
//!    output goes through the same merge.
//! 8. [`mutate::normalize`] puts dependent fields in order.
//! 9. [`k8s::patch`] compares the submitted pod with the result. [`mutate::guards`], [`k8s::validation`],
//!    [`k8s::warnings`] and [`k8s::pod_security`] check the patch before it leaves.
//! 10. [`mutate::answer()`] writes the reply; [`http::metrics`] and the log count it.
//!
//! [`explain`] runs the same functions without a cluster, and [`cli`] has the verbs of the program.
//!
//! # Core and shell
//!
//! The core is pure and synchronous: without the default feature `webhook` it builds for `wasm32-unknown-unknown`, and
//! none of the shell's dependencies is there. A folder uses only folders to its left: `json`, `k8s`, `merge`, `model`,
//! `config`, `mutate`, `explain`; then the shell: `wasm` and `watch`, `http`, `cli`.

// core
pub mod config;
pub mod explain;
pub mod json;
pub mod k8s;
pub mod merge;
pub mod model;
pub mod mutate;

// shell
#[cfg(feature = "webhook")]
pub mod cli;
#[cfg(feature = "webhook")]
pub mod http;
#[cfg(feature = "webhook")]
pub mod wasm;
#[cfg(feature = "webhook")]
pub mod watch;
