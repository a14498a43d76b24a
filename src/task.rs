//! What a pod says of itself.

/// A queue's name as the agent's label spells it.
pub fn canonical_queue_name(name: &str) -> String {
    name.to_owned()
}
