//! `resources`: which names a container can ask for, and how much.

use crate::config::decode::ast::Tree;
use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::PATCH;
use crate::config::decode::grammar::WARNS;
use crate::config::decode::grammar::is_qualified_name;
use crate::k8s::quantity::{self, has_fraction};
use crate::k8s::schema::did_you_mean;

/// What every node has.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The names in `limits` or `requests`, and what their amounts must be.
pub(crate) fn check_names(cursor: &Cursor<'_>) {
    // a directive is refused as what it is
    for (name, amount) in cursor.set_entries().filter(|(name, _)| *name != PATCH) {
        let device = name.contains('/') && is_qualified_name(name);
        if !device && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
            // who writes gpu does not mean cpu
            let hint = if name.contains("gpu") { String::new() } else { did_you_mean(name, STANDARD) };
            amount.error(format!(
                "is not a resource: cpu, memory, ephemeral-storage, hugepages-<size>, or with a domain, like \
                 nvidia.com/gpu{hint}"
            ));
            continue;
        }
        let Some(value) = nanos_of(&amount) else { continue };
        let whole = !has_fraction(value);
        if !whole && name.contains('/') {
            amount.error("must be a whole number: a part of a device cannot be had");
        } else if !whole && name != "cpu" {
            amount.error(format!("is a fraction of a byte (m is a thousandth, M a million): {WARNS}"));
        }
    }
}

/// What one layer asks for must not be more than what it allows; of a device it is the same.
pub(crate) fn check_requests(cursor: &Cursor<'_>) {
    let (Some(requests), Some(limits)) = (cursor.get("requests"), cursor.get("limits")) else { return };
    for (name, request) in requests.set_entries() {
        let Some(limit) = limits.get(name) else { continue };
        let (Some(asked), Some(allowed)) = (nanos_of(&request), nanos_of(&limit)) else { continue };
        if asked > allowed {
            request.error("is more than the limit");
        } else if asked < allowed && (name.contains('/') || name.starts_with("hugepages-")) {
            request.error(format!("must be what the limit is: {name} cannot be overcommitted"));
        }
    }
}

/// A claim's `storage`.
pub(crate) fn check_storage(cursor: &Cursor<'_>) {
    let Some(value) = nanos_of(cursor) else { return };
    if value == 0 {
        cursor.error("must be more than nothing");
    } else if has_fraction(value) {
        cursor.error(format!("is a fraction of a byte (m is a thousandth, M a million): {WARNS}"));
    }
}

/// A quantity's billionths; what is no quantity, or a negative one, is told elsewhere.
fn nanos_of(cursor: &Cursor<'_>) -> Option<i128> {
    let found = match &cursor.node.tree {
        Tree::Number(number) => quantity::nanos(&quantity::from_number(number)?),
        Tree::Text(text) => quantity::nanos(text),
        _ => None,
    };
    found.filter(|amount| *amount >= 0)
}
