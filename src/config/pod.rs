//! Decodes pod templates into fragments, and validates them by the Pod schema and the API server's rules.

pub(crate) mod claims;
pub(crate) mod field_rules;
pub(crate) mod file_mounts;
pub(crate) mod fragment_part;
pub(crate) mod metadata;
pub(crate) mod mounts;
pub(crate) mod pod_template;
pub(crate) mod pod_values;
pub(crate) mod resources;
