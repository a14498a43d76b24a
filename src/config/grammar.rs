//! What is wrong with a text by the rule of its field. Used at load, and again where a placeholder was filled for a
//! pod, when the text may come from somebody's task: no sentence quotes it.

use super::rules::{Rule, WARNS};
use super::scalars::{NO_DNS_LABEL, NO_LABEL_VALUE, NO_OBJECT_NAME, NO_PORT_NAME, is_port_name, is_qualified_name};
use crate::k8s::schema::is_quantity;
use crate::k8s::validation::{is_dns_label, is_label_text, is_object_name};
use crate::k8s::warnings;

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
