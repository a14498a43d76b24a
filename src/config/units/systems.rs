//! Decodes `systems`, `taskConfig`, `providersInfo` and `unknownQueue`. Each of them is valid or invalid as a whole.

use std::sync::Arc;

use crate::config::decode::cursor::Cursor;
use crate::config::decode::scalars;
use crate::config::keys::{self, Keys};
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{UnknownQueue, Vault};
use crate::model::system::{System, SystemKind};

/// The service account of the agent's Helm chart in its usual namespace.
const CLEARML_SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";

/// The agent's default for `--pod-name-prefix`.
const CLEARML_PREFIX: &str = "clearml-id-";

/// The error of a queue's name whose canonical form is empty.
pub(crate) const NOT_A_QUEUE_LABEL: &str = "this name cannot be written as a pod label: use the queue's id";

/// Decodes `systems.<name>`.
pub(crate) fn system(name: &str, cursor: &Cursor<'_>) -> Option<System> {
    let mut fields = cursor.fields(&keys::SYSTEM)?;
    let kinds = [("ClearML", SystemKind::ClearML), ("Generic", SystemKind::Generic)];
    let later = ["Flyte", "Kueue", "Volcano", "Airflow", "Spark", "Job"];
    let kind = fields.take("type").and_then(|cursor| cursor.one_of(&kinds, &later));
    let mut system = System { name: name.to_owned(), ..default_system(kind.unwrap_or(SystemKind::Generic)) };
    if let Some(namespaces) = fields.take("namespaces") {
        system.namespaces = scalars::namespaces(&namespaces);
    }
    if let Some(prefix) = fields.take("podNamePrefix") {
        if kind == Some(SystemKind::Generic) {
            prefix.error("is allowed for type ClearML only");
        }
        // with an empty prefix every task pod of the agent's service account would count as a submitter
        prefix.name().unwrap_or_default().clone_into(&mut system.pod_name_prefix);
    }
    if let Some(submitters) = fields.take("submitters") {
        system.submitters = submitters.texts();
    }
    fields.finish();
    kind.map(|_| system)
}

/// Returns the system of a type that is not configured.
fn default_system(kind: SystemKind) -> System {
    match kind {
        SystemKind::ClearML => System {
            name: "clearml".to_owned(),
            kind,
            namespaces: Vec::new(),
            pod_name_prefix: CLEARML_PREFIX.to_owned(),
            submitters: vec![CLEARML_SUBMITTER.to_owned()],
        },
        SystemKind::Generic => System {
            name: "generic".to_owned(),
            kind,
            namespaces: Vec::new(),
            pod_name_prefix: String::new(),
            submitters: Vec::new(),
        },
    }
}

/// Adds the default system of each type that is not configured.
pub(crate) fn with_defaults(mut systems: Vec<System>) -> Vec<System> {
    for kind in [SystemKind::ClearML, SystemKind::Generic] {
        let default = default_system(kind);
        if !systems.iter().any(|system| system.kind == kind || system.name == default.name) {
            systems.push(default);
        }
    }
    systems.sort_by(|a, b| a.name.cmp(&b.name));
    systems
}

/// Decodes `taskConfig` (`tree` is `config`) or `providersInfo` (`tree` is `info`).
pub(crate) fn vaults(cursor: &Cursor<'_>, tree: &'static str) -> Vec<Vault> {
    let keys = if tree == "info" { &keys::PROVIDERS_INFO } else { &keys::TASK_CONFIG };
    cursor.list().iter().filter_map(|item| vault(item, tree, keys)).collect()
}

fn vault(item: &Cursor<'_>, tree: &'static str, keys: &'static Keys) -> Option<Vault> {
    let mut fields = item.fields(keys)?;
    let (mut namespaces, mut queue, mut user) = (Vec::new(), None, None);
    if let Some(mut fields) = fields.take("match").and_then(|cursor| cursor.fields(&keys::VAULT_MATCH)) {
        if let Some(cursor) = fields.take("namespaces") {
            namespaces = scalars::namespaces(&cursor);
            check_not_empty(&cursor);
        }
        // the canonical form of an id is the id
        queue = fields.take("queue").and_then(|cursor| {
            let queue = canonical_queue_name(cursor.name()?);
            if queue.is_empty() {
                cursor.error(NOT_A_QUEUE_LABEL);
            }
            Some(queue)
        });
        user = fields.take("user").and_then(|cursor| cursor.name().map(str::to_owned));
        fields.finish();
    }
    let config = fields.take(tree).map(|cursor| {
        if cursor.members().is_none() {
            return serde_json::Value::Null;
        }
        cursor.node.to_json()
    });
    fields.finish();
    Some(Vault { namespaces, queue, user, config: Arc::new(config?) })
}

/// Adds an error for an empty condition, which would match everything.
pub(crate) fn check_not_empty(cursor: &Cursor<'_>) {
    if cursor.node.is_empty() {
        cursor.error("must not be empty: remove the key to match everything");
    }
}

/// Sorts by precedence: global < namespace < queue < user; equal ones stay in order.
pub(crate) fn sort_vaults(vaults: &mut [Vault]) {
    vaults.sort_by_key(|vault| (vault.user.is_some(), vault.queue.is_some(), !vault.namespaces.is_empty()));
}

/// Decodes `unknownQueue`.
pub(crate) fn unknown_queue(cursor: &Cursor<'_>) -> Option<UnknownQueue> {
    let words = [("Base", UnknownQueue::Base), ("Ignore", UnknownQueue::Ignore), ("Deny", UnknownQueue::Deny)];
    cursor.one_of(&words, &[])
}
