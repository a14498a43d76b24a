//! `resources`: which names a container can ask for, and how much.

use super::cursor::Cursor;
use super::node::Tree;
use super::rules::WARNS;
use super::scalars::is_qualified_name;
use super::spell;
use super::typed::PATCH;

/// What every node has.
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// The names in `limits` or `requests`, and what their amounts must be.
pub(crate) fn check_names(cursor: &Cursor<'_>) {
    // a directive is refused as what it is
    for (name, amount) in cursor.set_entries().filter(|(name, _)| *name != PATCH) {
        let known = STANDARD.contains(&name) || name.starts_with("hugepages-");
        if !known && !(name.contains('/') && is_qualified_name(name)) {
            // who writes gpu does not mean cpu
            let hint = if name.contains("gpu") { String::new() } else { spell::hint(name, STANDARD) };
            amount.error(format!(
                "is not a resource: cpu, memory, ephemeral-storage, hugepages-<size>, or with a domain, like \
                 nvidia.com/gpu{hint}"
            ));
            continue;
        }
        let Some(value) = value_of(&amount) else { continue };
        let whole = (value - value.round()).abs() < f64::EPSILON;
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
        let (Some(asked), Some(allowed)) = (value_of(&request), value_of(&limit)) else { continue };
        let more = asked > allowed * (1.0 + f64::EPSILON);
        let less = asked < allowed * (1.0 - f64::EPSILON);
        if more {
            request.error("is more than the limit");
        } else if less && (name.contains('/') || name.starts_with("hugepages-")) {
            request.error(format!("must be what the limit is: {name} cannot be overcommitted"));
        }
    }
}

/// A claim's `storage`.
pub(crate) fn check_storage(cursor: &Cursor<'_>) {
    let Some(value) = value_of(cursor) else { return };
    if value == 0.0 {
        cursor.error("must be more than nothing");
    } else if (value - value.round()).abs() >= f64::EPSILON {
        cursor.error(format!("is a fraction of a byte (m is a thousandth, M a million): {WARNS}"));
    }
}

/// A quantity's amount; what is no quantity, or a negative one, is told elsewhere.
fn value_of(cursor: &Cursor<'_>) -> Option<f64> {
    let found = match &cursor.node.tree {
        Tree::Number(number) => number.as_f64(),
        Tree::Text(text) if crate::schema::is_quantity(text) => amount(text),
        _ => None,
    };
    found.filter(|amount| *amount >= 0.0)
}

/// Near enough to compare: quantities have at most 15 digits that count.
fn amount(text: &str) -> Option<f64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        _ => 10f64.powi(suffix.get(1..)?.parse().ok()?),
    };
    // a division is exact where a product is not: 1500m is 1.5
    Some(if factor < 1.0 { number / (1.0 / factor).round() } else { number * factor })
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn amounts_compare() {
        for (text, value) in
            [("1500m", 1.5), ("2", 2.0), ("1Ki", 1024.0), ("1e3", 1000.0), (".5", 0.5), ("2E", 2e18), ("100m", 0.1)]
        {
            assert_eq!(amount(text), Some(value), "{text}");
        }
    }
}
