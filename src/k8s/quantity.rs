//! Parses and compares Kubernetes quantities: `500m`, `4Gi`, `1e3`.

use std::cmp::Ordering;

use serde_json::Number;

use crate::json::Json;
use crate::k8s::schema::is_quantity;

/// Billionths, the finest resolution of Kubernetes.
const NANO: i128 = 1_000_000_000;

/// Formats a number as a quantity: `2` is "2", `0.5` is "500m"; fractions in thousandths (down to billionths), never
/// with a point. Returns `None` for a number that is too fine or no quantity.
pub fn from_number(number: &Number) -> Option<String> {
    let text = number.to_string();
    let Some((whole, fraction)) = text.split_once('.') else {
        return is_quantity(&text).then_some(text);
    };
    if fraction.contains('e') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let (digits, suffix) = match fraction.len() {
        0 => (0, ""),
        1..=3 => (3, "m"),
        4..=6 => (6, "u"),
        7..=9 => (9, "n"),
        _ => return None,
    };
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |rest| ("-", rest));
    let joined = format!("{whole}{fraction:0<digits$}");
    let digits = joined.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    Some(format!("{sign}{digits}{suffix}"))
}

/// Compares two quantities. Returns `None` if one is invalid or out of range.
pub fn compare(a: Json<'_>, b: Json<'_>) -> Option<Ordering> {
    Some(nanos(&text(a)?)?.cmp(&nanos(&text(b)?)?))
}

/// Returns true if a quantity has a fraction of one, to thousandths as the API server counts.
pub fn is_fractional(value: Json<'_>) -> bool {
    text(value).and_then(|text| nanos(&text)).is_some_and(has_fraction)
}

/// Returns true if an amount in billionths (see [`nanos`]) has a fraction of one, to thousandths.
pub fn has_fraction(nanos: i128) -> bool {
    // Rounded up to thousandths first.
    !nanos.unsigned_abs().div_ceil(1_000_000).is_multiple_of(1000)
}

/// Returns the quantity's text.
pub fn text(value: Json<'_>) -> Option<String> {
    match value {
        Json::Str(text) => Some(text.to_owned()),
        Json::Int(_) | Json::Uint(_) | Json::Float(_) => serde_json::to_string(&value).ok(),
        _ => None,
    }
}

/// Returns a quantity in billionths of its unit, rounded up as the API server does, so that `0.5` and `500m` are equal;
/// `None` if the text is no quantity or out of range.
pub fn nanos(text: &str) -> Option<i128> {
    if !is_quantity(text) {
        return None;
    }
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = whole.bytes().chain(fraction.bytes());
    let shift = |number: i128, digit: u8| number.checked_mul(10)?.checked_add((digit - b'0').into());
    let mantissa = digits.into_iter().try_fold(0, shift)?;
    // The value of one unit of the mantissa, as a fraction.
    let (times, per) = factor(suffix)?;
    let per = per.checked_mul(10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?)?;
    let all = mantissa.checked_mul(NANO)?.checked_mul(times)?;
    Some(sign * (all / per + i128::from(all % per != 0)))
}

fn factor(suffix: &str) -> Option<(i128, i128)> {
    const LETTERS: &str = "kMGTPE";
    if let Some(power) = suffix.strip_prefix(['e', 'E']).filter(|power| !power.is_empty()).filter(|p| *p != "i") {
        let power: i32 = power.parse().ok()?;
        let ten = 10_i128.checked_pow(power.unsigned_abs())?;
        return Some(if power < 0 { (1, ten) } else { (ten, 1) });
    }
    match suffix {
        "" => Some((1, 1)),
        "m" => Some((1, 1000)),
        "u" => Some((1, 1_000_000)),
        "n" => Some((1, NANO)),
        _ => {
            let (letter, binary) = suffix.strip_suffix('i').map_or((suffix, false), |letter| (letter, true));
            let letter = if binary && letter == "K" { "k" } else { letter };
            let power = u32::try_from(LETTERS.find(letter)? + 1).ok()?;
            Some((if binary { 1 << (10 * power) } else { 1000_i128.checked_pow(power)? }, 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_as_the_api_server_does() {
        let number = |value: f64| Number::from_f64(value).and_then(|number| from_number(&number));
        assert_eq!(from_number(&2.into()), Some("2".into()));
        assert_eq!(number(0.5), Some("500m".into()));
        assert_eq!(number(1.25), Some("1250m".into()));
        assert_eq!(number(2.0), Some("2".into()));
        assert_eq!(number(-0.1), Some("-100m".into()));
        assert_eq!(number(0.000_25), Some("250u".into()));
        assert_eq!(number(1e-12), Some("1e-12".into()));
    }

    #[test]
    fn quantities_compare_by_value() {
        let table = [
            ("1", "1000m", Ordering::Equal),
            ("1Gi", "1024Mi", Ordering::Equal),
            ("1G", "1Gi", Ordering::Less),
            ("1.5Gi", "1Gi", Ordering::Greater),
            ("1e3", "1k", Ordering::Equal),
            ("12E6", "12M", Ordering::Equal),
            ("1e-3", "1m", Ordering::Equal),
            ("-1", "0", Ordering::Less),
            ("2E", "2Ei", Ordering::Less),
            ("+3", "3", Ordering::Equal),
            (".5", "500m", Ordering::Equal),
        ];
        for (a, b, expected) in table {
            assert_eq!(compare(Json::Str(a), Json::Str(b)), Some(expected), "{a} {b}");
        }
        assert_eq!(compare(Json::Uint(2), Json::Str("2000m")), Some(Ordering::Equal));
        assert_eq!(compare(Json::Str("x"), Json::Str("1")), None);
        assert_eq!(compare(Json::Str("1e999"), Json::Str("1")), None);
    }

    #[test]
    fn fractions_of_a_byte_are_found() {
        for (text, fractional) in [("1Gi", false), ("1.5Gi", false), ("100m", true), ("1.0001", true), ("1n", true)] {
            assert_eq!(is_fractional(Json::Str(text)), fractional, "{text}");
        }
    }

    #[test]
    fn spellings_of_one_value_are_equal() {
        let same = [
            ("0.5", "500m"),
            ("1Gi", "1024Mi"),
            ("2", "2000m"),
            ("1e3", "1k"),
            ("+1.50", "1500m"),
            ("0", "00Gi"),
            ("-.5", "-500m"),
        ];
        for (a, b) in same {
            assert!(nanos(a).is_some() && nanos(a) == nanos(b), "{a} {b}");
        }
        assert_ne!(nanos("1G"), nanos("1Gi"));
        assert_eq!(nanos("8Ei"), Some((8 << 60) * 1_000_000_000));
        for text in ["", "x", "1e99", "Gi", "1kM", "1ki"] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }
}
