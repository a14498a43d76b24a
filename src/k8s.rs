//! Kubernetes' rules for pods: the schema, quantities, patches, managed fields, validation, warnings, Pod Security.

pub mod defaults;
pub mod labels;
pub mod managed_fields;
pub mod patch;
pub mod pod_security;
pub mod quantity;
pub mod schema;
pub mod validation;
pub mod warnings;
