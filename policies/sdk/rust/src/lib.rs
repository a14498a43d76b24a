//! The SDK for podgraft's template modules in Rust.
//!
//! A module is one function from a task pod to a change of the pod. This one is complete: `crate-type =
//! ["cdylib"]`, built by `podgraft module build` (`podgraft module new` writes the whole crate).
//!
//! ```
//! use podgraft_sdk::serde::Deserialize;
//! use podgraft_sdk::{Fragment, Input, OrDeny, Outcome, Result, config_text};
//!
//! /// The fields of the hook's arguments that this module reads; the others are skipped.
//! #[derive(Deserialize)]
//! #[serde(crate = "podgraft_sdk::serde")]
//! struct Request<'a> {
//!     queue_name: Option<&'a str>,
//! }
//!
//! /// `modules.<name>.params`.
//! #[derive(Deserialize)]
//! #[serde(crate = "podgraft_sdk::serde")]
//! struct Params {
//!     claim: String,
//! }
//!
//! fn update_template(input: Input<'_>) -> Result<Outcome> {
//!     let Some(path) = config_text("cache.mountPath")? else {
//!         return Ok(Outcome::Unchanged); // this task has no cache
//!     };
//!     let queue = input.request::<Request>()?.queue_name.or_deny("the pod names no queue")?;
//!     let claim = input.params::<Params>()?.claim;
//!     Ok(Fragment::new().claim("cache", &claim).mount("cache", &path).env("CACHE", &path).label("queue", queue).into())
//! }
//!
//! podgraft_sdk::hook!(update_template);
//!
//! // a test, without wasm:
//! # fn main() {
//! use podgraft_sdk::{serde_json::json, testing::Call};
//!
//! let call = Call::new().params(json!({"claim": "team-a"})).task_config(json!({"cache": {"mountPath": "/cache"}}));
//! assert_eq!(call.run(update_template).unwrap_err().to_string(), "the pod names no queue");
//! let fragment = call.request("queue_name", json!("train")).run(update_template).unwrap();
//! assert_eq!(fragment["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "team-a");
//! # }
//! ```
//!
//! # Three outcomes
//!
//! [`Outcome::Unchanged`]; a [`Fragment`], which is applied to the pod like a layer (lists are merged by their keys); or
//! [`Outcome::Template`], the whole changed pod, from which podgraft computes the difference. A hook that removes
//! something needs `mayRemove: true` in the module's configuration. An [`Error`] denies the pod.
//!
//! # Idempotence
//!
//! A hook may be called again with the pod that it has changed, and must then change nothing. Set values by name, never
//! by position, and never append.
//!
//! # Speed
//!
//! Describe only the fields that you read: unknown fields are skipped, and a template that the hook does not read is
//! never parsed (a fragment from partial structs takes 14 µs a call, a whole template through `serde_json::Value` 40).
//! Memory is never freed within a call, and each call has an instance of its own.

#![deny(missing_docs)]
#![warn(clippy::pedantic, unreachable_pub)]
#![allow(clippy::missing_errors_doc, clippy::must_use_candidate)]

mod bump;
mod error;
mod fragment;
mod host;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use error::{Error, OrDeny, Result};
pub use fragment::Fragment;
pub use host::{config, config_text, debug, error, info, warn};
pub use serde;
pub use serde_json;

use serde::Deserialize;

#[doc(hidden)]
#[allow(clippy::pedantic, missing_docs, unreachable_pub, reason = "generated from the WIT")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "template-module",
        pub_export_macro: true,
        default_bindings_module: "podgraft_sdk::bindings",
    });
}

pub use bindings::exports::podgraft::template::hook::Outcome;

/// The arguments of one call, not parsed yet.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    request: &'a str,
    template: &'a str,
}

impl<'a> Input<'a> {
    #[doc(hidden)]
    pub fn new(request: &'a str, template: &'a str) -> Self {
        Self { request, template }
    }

    /// Parses the hook's arguments beside the template, those that `T` names:
    ///
    /// | field | content |
    /// |---|---|
    /// | `queue`, `queue_name` | the queue's id, and its name in the configuration; null if unknown |
    /// | `task_data` | `{id, user}`; each null if the pod was not created by a trusted submitter |
    /// | `providers_info` | the identity provider's data about the user; a map |
    /// | `worker` | `{worker_id, namespace, kind}` |
    /// | `params` | see [`params`](Self::params) |
    /// | `environment`, `namespace` | the environment in podgraft's configuration, the pod's namespace |
    /// | `primary_container` | the name of the task's container; null if it cannot be determined |
    /// | `dry_run` | true if the pod will not be stored |
    ///
    /// A `&str` in `T` costs nothing, but holds only text without escapes; use `String` or `Cow` for free text.
    pub fn request<T: Deserialize<'a>>(&self) -> Result<T> {
        error::read(self.request, "request")
    }

    /// Parses the module's `params` of the configuration; an empty map if it has none. With
    /// `#[serde(deny_unknown_fields)]` on `T`, a misspelt key is an error that names it.
    pub fn params<T: Deserialize<'a>>(&self) -> Result<T> {
        #[derive(Deserialize)]
        struct Request<T> {
            params: Option<T>,
        }
        error::read::<Request<T>>(self.request, "params")?.params.map_or_else(|| error::read("{}", "params"), Ok)
    }

    /// Parses the pod after podgraft's layers, as far as `T` describes it. The API server's bookkeeping and the service
    /// account's token volume are removed; `args` and the task system's credentials are replaced by a marker.
    pub fn template<T: Deserialize<'a>>(&self) -> Result<T> {
        error::read(self.template, "template")
    }
}

/// Makes `fn(Input<'_>) -> Result<Outcome>` the module's hook.
#[macro_export]
macro_rules! hook {
    ($update_template:path) => {
        #[doc(hidden)]
        struct Hook;

        impl $crate::bindings::exports::podgraft::template::hook::Guest for Hook {
            fn update_template(
                request: ::std::string::String,
                template: ::std::string::String,
            ) -> ::core::result::Result<$crate::Outcome, ::std::string::String> {
                $crate::start();
                let outcome: $crate::Result<$crate::Outcome> = $update_template($crate::Input::new(&request, &template));
                outcome.map_err(::core::convert::Into::into)
            }
        }

        $crate::bindings::export!(Hook with_types_in $crate::bindings);
    };
}

#[doc(hidden)]
pub use host::start;
