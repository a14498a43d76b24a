//! Changes one task pod: layers, modules, dependent fields, the difference, and the checks before a patch leaves.
//!
//! [`mutate`] is a function of a review and a snapshot. Its steps hand on one value, `Applied`: `apply_layers` makes
//! it, `modules` runs the hooks on it, `finish` turns it into a patch.

mod answer;
mod applied;
mod apply_layers;
mod context;
mod finish;
pub mod guards;
pub mod hook_view;
mod modules;
mod mutation;
pub mod normalize;
mod placeholder_check;
pub mod plan;
pub mod provenance;
pub mod redact;
mod run;
pub mod task_config;

pub use self::answer::{Answer, Outcome, Verdict, answer, deny, malformed};
pub use self::modules::ModuleRun;
pub use self::mutation::{LayerMode, MutateError, MutateFailure, Mutation};
pub use self::run::mutate;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
