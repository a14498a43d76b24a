//! Template modules for podgraft in Rust.
//!
//! A module is one function from a task pod to what the pod should get. This one is complete (`crate-type =
//! ["cdylib"]`, built for `wasm32-unknown-unknown` and wrapped by `componentize`):
//!
//! ```
//! use podgraft_sdk::{Fragment, Input, Outcome, Result, serde::Deserialize};
//!
//! #[derive(Deserialize)]
//! #[serde(crate = "podgraft_sdk::serde")]
//! struct Request<'a> {
//!     queue_name: &'a str,
//! }
//!
//! fn update_template(input: Input<'_>) -> Result<Outcome> {
//!     let request: Request = input.request()?;
//!     Ok(Fragment::new().env("QUEUE", request.queue_name).into())
//! }
//!
//! podgraft_sdk::hook!(update_template);
//! # fn main() {}
//! ```
//!
//! It pays to describe only what is read: unknown fields are skipped, and a template that nobody asks for is never
//! parsed (a fragment from partial structs takes 14 µs a call, a whole template through `serde_json::Value` 40).

mod bump;
mod fragment;
mod host;

pub use fragment::Fragment;
pub use host::{config, debug, error, info, warn};
pub use serde;
pub use serde_json;

use serde::Deserialize;

#[doc(hidden)]
#[expect(clippy::pedantic, reason = "generated from policies/wit")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "template-module",
        pub_export_macro: true,
        default_bindings_module: "podgraft_sdk::bindings",
    });
}

pub use bindings::exports::podgraft::template::hook::Outcome;

/// What a hook's functions return. The error's text refuses the pod and is shown to whoever submitted it.
pub type Result<T> = core::result::Result<T, String>;

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

    /// The hook's arguments beside the template: `queue`, `queue_name`, `task_data`, `providers_info`, `worker`,
    /// `params`, `environment`, `namespace`, `dry_run`; those that `T` names.
    ///
    /// A `&str` in `T` costs nothing, but holds only text without escapes; use `String` or `Cow` for free text.
    pub fn request<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_str(self.request).map_err(|error| format!("request: {error}"))
    }

    /// The module's `params` of the configuration.
    pub fn params<T: Deserialize<'a>>(&self) -> Result<T> {
        #[derive(Deserialize)]
        struct Request<T> {
            params: T,
        }
        serde_json::from_str::<Request<T>>(self.request)
            .map(|request| request.params)
            .map_err(|error| format!("params: {error}"))
    }

    /// The pod after podgraft's layers, as far as `T` describes it.
    pub fn template<T: Deserialize<'a>>(&self) -> Result<T> {
        serde_json::from_str(self.template).map_err(|error| format!("template: {error}"))
    }
}

/// Makes `fn(Input<'_>) -> Result<Outcome>` the module's hook.
#[macro_export]
macro_rules! hook {
    ($update_template:path) => {
        #[doc(hidden)]
        struct Hook;

        impl $crate::bindings::exports::podgraft::template::hook::Guest for Hook {
            fn update_template(request: String, template: String) -> $crate::Result<$crate::Outcome> {
                $crate::start();
                $update_template($crate::Input::new(&request, &template))
            }
        }

        $crate::bindings::export!(Hook with_types_in $crate::bindings);
    };
}

#[doc(hidden)]
pub use host::start;
