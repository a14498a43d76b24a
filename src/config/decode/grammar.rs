//! What is wrong with a text by the rule of its field. Used at load, and again where a placeholder was filled for a
//! pod, when the text may come from somebody's task: no sentence quotes it.

use crate::k8s::schema::is_quantity;
use crate::k8s::validation::{is_dns_label, is_label_text, is_object_name};
use crate::k8s::warnings;

/// The grammar of a field, or of each element of its list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// one of these
    Words(&'static [&'static str]),
    /// the name of a volume or a container
    Label,
    /// the name of an API object
    Name,
    /// the same, or nothing: Helm's way to leave a field out, and of a storage class the word for none
    NameOrNothing,
    /// the name of a port
    PortName,
    /// a port's number, or its name
    Port,
    /// an environment variable's name
    EnvName,
    /// `name` or `prefix/name`
    Key,
    /// the same of a node's label
    NodeKey,
    /// a path below something
    Relative,
    /// a path from the root
    Absolute,
    /// a path in a container
    MountPath,
    /// the same of a file of `fileMounts`
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
    /// text that is not empty
    Filled,
}

/// Said of what earns a warning of the API server.
pub(crate) const WARNS: &str = "the API server warns of it, and the ClearML agent fails a task at any warning";

pub(crate) const NO_DNS_LABEL: &str = "is not a DNS label (lower-case letters, digits and -, at most 63)";
pub(crate) const NO_OBJECT_NAME: &str = "is not the name of an object (lower-case letters, digits, - and .)";
pub(crate) const NO_LABEL_VALUE: &str = "is not a label value (at most 63 letters, digits, -, _ and .)";
pub(crate) const NO_PORT_NAME: &str =
    "is not the name of a port (at most 15 lower-case letters, digits and -, one letter at least)";

/// Kubernetes' directive in strategic merge patches: `delete` or `replace` an element instead of merging it.
pub(crate) const PATCH: &str = "$patch";

/// What [`PATCH`] may say.
pub(crate) const DIRECTIVES: &[&str] = &["delete", "replace"];

/// What is said of [`PATCH`] where a layer has nothing of the pod's under it.
pub(crate) const NO_PATCH: &str = "`$patch` takes something of a pod away, and here is nothing of a pod";

const EMPTY: &str = "must not be empty";

/// What is said of a text that a field with this rule, or an entry of a map with this rule, cannot have.
pub(crate) fn text_error(text: &str, rule: Rule) -> Option<String> {
    let climbs = || climbs(text);
    let named = matches!(
        rule,
        Rule::Name | Rule::Label | Rule::PortName | Rule::Port | Rule::EnvName | Rule::MountPath | Rule::Filled
    );
    let what = match rule {
        _ if named && text.is_empty() => EMPTY,
        Rule::Words(words) if !words.contains(&text) => return Some(one_of_text(words)),
        Rule::Label if !is_dns_label(text) => NO_DNS_LABEL,
        Rule::Name if !is_object_name(text) => NO_OBJECT_NAME,
        Rule::NameOrNothing if !text.is_empty() && !is_object_name(text) => NO_OBJECT_NAME,
        Rule::PortName | Rule::Port if !is_port_name(text) => NO_PORT_NAME,
        Rule::Key | Rule::NodeKey if !text.is_empty() && !is_qualified_name(text) => {
            "is not a key that Kubernetes takes (`name` or `prefix/name`)"
        }
        Rule::NodeKey => return warnings::deprecated_label(text).map(|said| format!("is {said}: {WARNS}")),
        // newer clusters take spaces too, older ones less than this
        Rule::EnvName if text.bytes().any(|c| !c.is_ascii_graphic() || c == b'=') => {
            "must be ASCII without spaces and ="
        }
        Rule::Relative if text.starts_with('/') || climbs() => "must be a relative path without ..",
        Rule::Absolute if !text.starts_with('/') || climbs() => "must be a path from the root (/) without ..",
        Rule::MountPath if text.contains(':') => "must be a path without :",
        Rule::FilePath if !is_folder(text) => NO_FOLDER,
        Rule::FilePath if matches!(text.rsplit('/').next(), Some("" | ".")) => "must end with the name of a file",
        Rule::Ip if text.parse::<core::net::IpAddr>().is_err() => "is not an IP address",
        Rule::Labels | Rule::NodeLabels if !is_label_text(text) => NO_LABEL_VALUE,
        _ => return None,
    };
    Some(what.to_owned())
}

fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// A folder that `fileMounts` may name.
pub(crate) fn is_folder(path: &str) -> bool {
    path.starts_with('/') && !path.contains(':') && !climbs(path)
}

pub(crate) const NO_FOLDER: &str = "must be a path from the root (/) without .. and :";

pub(crate) const NO_QUANTITY: &str = "is not a quantity, like 2, 500m, 16Gi";

/// The same of a quantity.
pub(crate) fn quantity_error(text: &str) -> Option<&'static str> {
    match text {
        _ if !is_quantity(text) => Some(NO_QUANTITY),
        _ if text.starts_with('-') => Some("must not be negative"),
        _ => None,
    }
}

/// `must be A or B`; the empty word is not worth naming.
pub(crate) fn one_of_text(words: &[&str]) -> String {
    let named: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    format!("must be {}", named.join(" or "))
}

/// What names a port.
pub(crate) fn is_port_name(text: &str) -> bool {
    let fine = is_dns_label(text) && text.len() <= 15 && !text.contains("--");
    fine && text.bytes().any(|c| c.is_ascii_alphabetic())
}

/// The key of a label, an annotation or a node label: `name` or `prefix/name`.
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
