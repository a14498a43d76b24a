//! `when:` conditions (CEL).

/// A compiled condition.
#[derive(Debug)]
pub struct When {
    /// as it was written
    pub text: String,
}
