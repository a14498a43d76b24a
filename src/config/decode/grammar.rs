//! Checks a string by the grammar of its field: at load, and again when a placeholder was filled for a pod. Then the
//! string may come from a user's task, so no message quotes it.

use crate::k8s::schema::is_quantity;
use crate::k8s::validation::{is_dns_label, is_label_text, is_object_name};
use crate::k8s::warnings;

/// The grammar of a field, or of each element of its list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// one of these words
    Words(&'static [&'static str]),
    /// the name of a volume or a container
    Label,
    /// the name of an API object
    Name,
    /// the name of an API object or empty: in Helm an empty name is absent, and an empty storage class means none
    NameOrNothing,
    /// the name of a port
    PortName,
    /// the number or the name of a port
    Port,
    /// the name of an environment variable
    EnvName,
    /// `name` or `prefix/name`
    Key,
    /// the key of a node label
    NodeKey,
    /// a relative path without `..`
    Relative,
    /// an absolute path without `..`
    Absolute,
    /// the path of a mount in a container
    MountPath,
    /// the path of a file of `fileMounts` in a container
    FilePath,
    /// a whole number in this range
    Whole(i64, i64),
    /// a file mode
    Mode,
    /// an IP address
    Ip,
    /// labels
    Labels,
    /// labels of a node
    NodeLabels,
    /// annotations
    Annotations,
    /// quantities by resource
    Resources,
    /// a string that is not empty
    NonEmpty,
}

/// The reason why a value with an API server warning is an error.
pub(crate) const CAUSES_WARNING: &str =
    "the API server warns about it, and the ClearML agent fails a task at any warning";

pub(crate) const NOT_A_DNS_LABEL: &str = "is not a DNS label (lower-case letters, digits and -, at most 63)";
pub(crate) const NOT_AN_OBJECT_NAME: &str = "is not a valid object name (lower-case letters, digits, - and .)";
pub(crate) const NOT_A_LABEL_VALUE: &str = "is not a valid label value (at most 63 letters, digits, -, _ and .)";
pub(crate) const NOT_A_PORT_NAME: &str =
    "is not a valid port name (at most 15 lower-case letters, digits and -, at least one letter)";

/// The key of a directive in strategic merge patches, which deletes or replaces instead of merging.
pub(crate) const PATCH: &str = "$patch";

/// The values of [`PATCH`].
pub(crate) const DIRECTIVES: &[&str] = &["delete", "replace"];

/// The error for [`PATCH`] outside of a pod template.
pub(crate) const PATCH_NOT_ALLOWED: &str = "`$patch` is allowed in pod templates only";

const EMPTY: &str = "must not be empty";

/// Returns the error of a string in a field, or in an entry of a map, with this rule.
pub(crate) fn text_error(text: &str, rule: Rule) -> Option<String> {
    let has_dot_dot = || has_dot_dot(text);
    let needs_text = matches!(
        rule,
        Rule::Name | Rule::Label | Rule::PortName | Rule::Port | Rule::EnvName | Rule::MountPath | Rule::NonEmpty
    );
    let message = match rule {
        _ if needs_text && text.is_empty() => EMPTY,
        Rule::Words(words) if !words.contains(&text) => return Some(one_of_text(words)),
        Rule::Label if !is_dns_label(text) => NOT_A_DNS_LABEL,
        Rule::Name if !is_object_name(text) => NOT_AN_OBJECT_NAME,
        Rule::NameOrNothing if !text.is_empty() && !is_object_name(text) => NOT_AN_OBJECT_NAME,
        Rule::PortName | Rule::Port if !is_port_name(text) => NOT_A_PORT_NAME,
        Rule::Key | Rule::NodeKey if !text.is_empty() && !is_qualified_name(text) => {
            "is not a valid key (`name` or `prefix/name`)"
        }
        Rule::NodeKey => {
            return warnings::deprecated_label(text).map(|warning| format!("is {warning}: {CAUSES_WARNING}"));
        }
        // newer clusters allow spaces too, older ones allow fewer characters than this
        Rule::EnvName if text.bytes().any(|c| !c.is_ascii_graphic() || c == b'=') => {
            "must be ASCII without spaces and ="
        }
        Rule::Relative if text.starts_with('/') || has_dot_dot() => "must be a relative path without ..",
        Rule::Absolute if !text.starts_with('/') || has_dot_dot() => "must be a path from the root (/) without ..",
        Rule::MountPath if text.contains(':') => "must be a path without :",
        Rule::FilePath if !is_folder(text) => NOT_A_FOLDER,
        Rule::FilePath if matches!(text.rsplit('/').next(), Some("" | ".")) => "must end with a file name",
        Rule::Ip if text.parse::<core::net::IpAddr>().is_err() => "is not an IP address",
        Rule::Labels | Rule::NodeLabels if !is_label_text(text) => NOT_A_LABEL_VALUE,
        _ => return None,
    };
    Some(message.to_owned())
}

fn has_dot_dot(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// Returns true for a folder path that `fileMounts` may have.
pub(crate) fn is_folder(path: &str) -> bool {
    path.starts_with('/') && !path.contains(':') && !has_dot_dot(path)
}

pub(crate) const NOT_A_FOLDER: &str = "must be a path from the root (/) without .. and :";

pub(crate) const NOT_A_QUANTITY: &str = "is not a quantity, like 2, 500m, 16Gi";

/// Returns the error of a string in a quantity field.
pub(crate) fn quantity_error(text: &str) -> Option<&'static str> {
    match text {
        _ if !is_quantity(text) => Some(NOT_A_QUANTITY),
        _ if text.starts_with('-') => Some("must not be negative"),
        _ => None,
    }
}

/// Formats `must be A or B`, without the empty word.
pub(crate) fn one_of_text(words: &[&str]) -> String {
    let named: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    format!("must be {}", named.join(" or "))
}

/// Returns true for a valid port name.
pub(crate) fn is_port_name(text: &str) -> bool {
    let valid = is_dns_label(text) && text.len() <= 15 && !text.contains("--");
    valid && text.bytes().any(|c| c.is_ascii_alphabetic())
}

/// Returns true for a valid key of a label, annotation or node label: `name` or `prefix/name`.
pub(crate) fn is_qualified_name(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    is_label_text(name)
        && !name.is_empty()
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualified_names_have_at_most_one_prefix() {
        assert!(is_qualified_name("gke-gcsfuse/volumes") && is_qualified_name("a.b/C_d.e"));
        assert!(!is_qualified_name("a/b/c") && !is_qualified_name("") && !is_qualified_name("-a"));
    }
}
