//! The types of a request: the review, its task, the snapshot of the configuration, a module's hook, a denial.

pub mod condition;
pub mod denial;
pub mod hook;
pub mod placeholder;
pub mod pod;
pub mod queue_name;
pub mod review;
pub mod snapshot;
pub mod system;
pub mod task;
pub mod task_systems;
