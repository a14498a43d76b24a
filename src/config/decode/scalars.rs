//! Decodes scalars that have a grammar: quantities, durations, names.

use std::time::Duration;

use crate::config::decode::ast::Tree;
use crate::config::decode::cursor::Cursor;
use crate::config::decode::grammar::{NOT_A_DNS_LABEL, NOT_A_QUANTITY, NOT_AN_OBJECT_NAME, quantity_error};
use crate::k8s::quantity;
use crate::k8s::schema::is_quantity;
pub(crate) use crate::k8s::validation::{is_dns_label, is_object_name};

/// Decodes a Kubernetes quantity to the string that the API server expects: `2` is "2", `0.5` is "500m".
pub(crate) fn quantity(cursor: &Cursor<'_>) -> Option<String> {
    let text = match &cursor.node.tree {
        Tree::Number(number) => quantity::from_number(number),
        Tree::Text(text) if cursor.has_placeholder() => {
            cursor.check_placeholders();
            return Some(text.clone());
        }
        Tree::Text(text) => Some(text.clone()),
        _ => None,
    };
    let Some(message) = text.as_deref().map_or(Some(NOT_A_QUANTITY), quantity_error) else { return text };
    let near = text.as_deref().map(near_quantities).unwrap_or_default();
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) };
    cursor.error(format!("{message}{hint}"));
    None
}

/// Returns quantities that `8gb` may mean: Kubernetes' units have no B and distinguish 1000 from 1024.
fn near_quantities(text: &str) -> Vec<String> {
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if is_quantity(&compact) {
        return if compact == text { Vec::new() } else { vec![compact] };
    }
    let (number, unit) = compact.split_at(compact.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(compact.len()));
    let unit = unit.to_ascii_lowercase();
    let Some(letter) = unit.chars().next().filter(|letter| "kmgtpe".contains(*letter)) else { return Vec::new() };
    let binary = format!("{number}{}i", letter.to_ascii_uppercase());
    let decimal = if letter == 'k' { format!("{number}k") } else { format!("{number}{}", letter.to_ascii_uppercase()) };
    let near = match &unit[1..] {
        "" | "b" => vec![decimal, binary],
        "i" | "ib" => vec![binary],
        _ => Vec::new(),
    };
    near.into_iter().filter(|near| is_quantity(near)).collect()
}

/// Decodes a duration above zero in Go's spelling: `200ms`, `1s`, `1m30s`.
pub(crate) fn duration(cursor: &Cursor<'_>) -> Option<Duration> {
    if let Tree::Number(number) = &cursor.node.tree {
        cursor.error(format!("is a number without a unit: write {number}ms or {number}s"));
        return None;
    }
    let parsed = cursor.text().map(parse_duration)?;
    let found = parsed.filter(|duration| !duration.is_zero());
    if found.is_none() {
        cursor.error("is not a duration above zero, like 200ms, 1.5s, 1m");
    }
    found
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let seconds = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = next;
    }
    Some(total)
}

/// Decodes a number of bytes above zero from a quantity.
pub(crate) fn bytes(cursor: &Cursor<'_>) -> Option<u64> {
    let found = quantity(cursor).as_deref().map(parse_bytes)?;
    if found.is_none() {
        cursor.error("is not an amount of memory, like 64Mi");
    }
    found
}

fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|bytes| *bytes > 0)
}

/// Decodes a DNS label, the name of a volume, container or namespace.
pub(crate) fn dns_label<'a>(cursor: &Cursor<'a>) -> Option<&'a str> {
    let text = cursor.name()?;
    if is_dns_label(text) {
        return Some(text);
    }
    let fixed = kebab(text);
    let hint = if is_dns_label(&fixed) { format!("; for example `{fixed}`") } else { String::new() };
    cursor.error(format!("`{text}` {NOT_A_DNS_LABEL}{hint}"));
    None
}

/// Decodes a list of namespaces.
pub(crate) fn namespaces(cursor: &Cursor<'_>) -> Vec<String> {
    cursor.list().iter().filter_map(dns_label).map(str::to_owned).collect()
}

/// Converts `initVol_1` to `init-vol-1`.
fn kebab(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_uppercase() && !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        match c {
            c if c.is_ascii_alphanumeric() => name.push(c.to_ascii_lowercase()),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    name.trim_matches('-').to_owned()
}

/// Decodes the name of an API object: DNS labels with dots.
pub(crate) fn object_name<'a>(cursor: &Cursor<'a>) -> Option<&'a str> {
    let text = cursor.name()?;
    if is_object_name(text) {
        return Some(text);
    }
    cursor.error(NOT_AN_OBJECT_NAME);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_recognized() {
        for valid in ["1", "1.5Gi", "500m", "+3", "1e3", "12E6", "2E", ".5"] {
            assert!(is_quantity(valid), "{valid}");
        }
        for invalid in ["", "1gb", "16GB", "1 Gi", "1.2.3", "m", "1mi", "Gi", "."] {
            assert!(!is_quantity(invalid), "{invalid}");
        }
    }

    #[test]
    fn near_quantities_have_kubernetes_units() {
        for (text, near) in [
            ("8gb", &["8G", "8Gi"][..]),
            ("16GB", &["16G", "16Gi"]),
            ("1.5 Gi", &["1.5Gi"]),
            ("512 mib", &["512Mi"]),
            ("1mi", &["1Mi"]),
            ("64KB", &["64k", "64Ki"]),
            ("64K", &["64k", "64Ki"]),
            ("2 cores", &[]),
            ("gb", &[]),
            ("", &[]),
            ("8 \u{1f600}", &[]),
        ] {
            assert_eq!(near_quantities(text), near, "{text}");
        }
    }

    #[test]
    fn durations_are_spelled_as_in_go() {
        assert_eq!(parse_duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_duration("1m1.5s"), Some(Duration::from_millis(61_500)));
        for invalid in ["200", "1 s", "-1s", "1d", "ms", "1e9h", "99999999999999999999h"] {
            assert_eq!(parse_duration(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn invalid_names_are_converted_to_valid_ones() {
        assert_eq!(kebab("initVol_1"), "init-vol-1");
        assert_eq!(kebab("NFS--Data"), "n-f-s-data");
    }
}
