//! Configuration text to checked, normal-form values.

pub mod when;
