//! Validates the names and amounts of `resources`.

use crate::config::decode::ast::Tree;
use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::CAUSES_WARNING;
use crate::config::decode::grammar::PATCH;
use crate::config::decode::grammar::is_qualified_name;
use crate::k8s::quantity::{self, has_fraction};
use crate::k8s::schema::did_you_mean;

/// Resources without a domain that every node has.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Checks the names and amounts of `limits` or `requests`.
pub(crate) fn check_names(cursor: &Cursor<'_>) {
    // a directive is checked elsewhere
    for (name, amount) in cursor.set_entries().filter(|(name, _)| *name != PATCH) {
        let device = name.contains('/') && is_qualified_name(name);
        if !device && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
            // `gpu` does not mean cpu
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
            amount.error("must be a whole number: a device cannot be divided");
        } else if !whole && name != "cpu" {
            amount.error(format!("is a fraction of a byte (m is a thousandth, M a million): {CAUSES_WARNING}"));
        }
    }
}

/// Checks that requests are at most the limits of this layer; for devices they must be equal.
pub(crate) fn check_requests(cursor: &Cursor<'_>) {
    let (Some(requests), Some(limits)) = (cursor.get("requests"), cursor.get("limits")) else { return };
    for (name, request) in requests.set_entries() {
        let Some(limit) = limits.get(name) else { continue };
        let (Some(request_nanos), Some(limit_nanos)) = (nanos_of(&request), nanos_of(&limit)) else { continue };
        if request_nanos > limit_nanos {
            request.error("is more than the limit");
        } else if request_nanos < limit_nanos && (name.contains('/') || name.starts_with("hugepages-")) {
            request.error(format!("must be equal to the limit: {name} cannot be overcommitted"));
        }
    }
}

/// Checks the `storage` of a claim.
pub(crate) fn check_storage(cursor: &Cursor<'_>) {
    let Some(value) = nanos_of(cursor) else { return };
    if value == 0 {
        cursor.error("must be more than 0");
    } else if has_fraction(value) {
        cursor.error(format!("is a fraction of a byte (m is a thousandth, M a million): {CAUSES_WARNING}"));
    }
}

/// Returns a quantity in billionths. Invalid and negative ones are reported elsewhere.
fn nanos_of(cursor: &Cursor<'_>) -> Option<i128> {
    let found = match &cursor.node.tree {
        Tree::Number(number) => quantity::nanos(&quantity::from_number(number)?),
        Tree::Text(text) => quantity::nanos(text),
        _ => None,
    };
    found.filter(|amount| *amount >= 0)
}
