//! Values that the API server derives: the pull policy of an image, the env entries that hide others.

use crate::json::{Json, fast_eq};

/// Number of entries up to which names are compared pairwise; more are sorted.
const FEW: usize = 64;

/// Returns the API server's default pull policy: `Always` for the tag `latest` and without tag and digest, else
/// `IfNotPresent`.
pub fn default_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

/// Returns the names of which an entry hides an earlier one, by the API server's rules: an entry that refers to the
/// earlier one (`PATH=$(PATH):/bin`) does not hide it.
pub fn hidden<'a>(env: &[Json<'a>]) -> Vec<&'a str> {
    let names: Vec<&'a str> = env.iter().map(|entry| entry.text("name")).collect();
    let mut found = Vec::new();
    if !has_duplicate(&names) {
        return found;
    }
    for (index, name) in names.iter().copied().enumerate().skip(1) {
        if names[..index].contains(&name) && hides(&env[index], name) && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn has_duplicate(names: &[&str]) -> bool {
    if names.len() <= FEW {
        return names.iter().enumerate().any(|(index, name)| names[..index].iter().any(|other| fast_eq(name, other)));
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

pub(crate) fn hides(entry: &Json<'_>, name: &str) -> bool {
    let value = entry.text("value");
    let reference = format!("$({name})");
    entry.get("valueFrom").is_some() || value == reference || !value.contains(&reference)
}
