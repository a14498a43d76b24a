//! Decodes the parts of a pod template into a fragment, and checks them by the Pod schema and the API server's rules.

pub(crate) mod claims;
pub(crate) mod field_rules;
pub(crate) mod file_mounts;
pub(crate) mod metadata;
pub(crate) mod mounts;
pub(crate) mod piece;
pub(crate) mod pod_template;
pub(crate) mod pod_values;
pub(crate) mod resources;
