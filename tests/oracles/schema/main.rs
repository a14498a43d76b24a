//! Schemas against independent readers of them.
//!
//! [`pod_schema`] generates the table of a pod's fields from k8s-openapi and compares it with k8s-openapi's types.
//! [`editor_schema`] validates every configuration of the repository against the JSON schema for editors.
//!
//! `UPDATE=1 cargo test --test schema` writes what the tests find out of date.

mod editor_schema;
mod pod_schema;
