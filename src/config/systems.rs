//! `systems`, `taskConfig`, `providersInfo`, `unknownQueue`: each serves as a whole or not at all.

use std::sync::Arc;

use super::cursor::Cursor;
use super::keys::{self, Keys};
use crate::model::queue_name::canonical_queue_name;
use crate::model::snapshot::{UnknownQueue, Vault};
use crate::model::system::{System, SystemKind};

/// The service account of the agent's Helm chart in its usual namespace.
const CLEARML_SUBMITTER: &str = "system:serviceaccount:clearml:clearml-agent-sa";

/// The agent's own default.
const CLEARML_PREFIX: &str = "clearml-id-";

/// Of a queue's name whose canonical form is empty.
pub(crate) const NO_LABEL: &str = "no label can carry this name, so pods do not tell it: give the queue's id";

/// `systems.<name>`.
pub(crate) fn system(name: &str, cursor: &Cursor<'_>) -> Option<System> {
    let mut fields = cursor.fields(&keys::SYSTEM)?;
    let kinds = [("ClearML", SystemKind::ClearML), ("Generic", SystemKind::Generic)];
    let later = ["Flyte", "Kueue", "Volcano", "Airflow", "Spark", "Job"];
    let kind = fields.take("type").and_then(|cursor| cursor.one_of(&kinds, &later));
    let mut system = System { name: name.to_owned(), ..stock(kind.unwrap_or(SystemKind::Generic)) };
    if let Some(namespaces) = fields.take("namespaces") {
        system.namespaces = namespaces.namespaces();
    }
    if let Some(prefix) = fields.take("podNamePrefix") {
        if kind == Some(SystemKind::Generic) {
            prefix.error("only pods of type ClearML carry their task's id in their name");
        }
        // empty, it would let every task pod of the agent's account pass for a submitter
        prefix.name().unwrap_or_default().clone_into(&mut system.pod_name_prefix);
    }
    if let Some(submitters) = fields.take("submitters") {
        system.submitters = submitters.texts();
    }
    fields.finish();
    kind.map(|_| system)
}

/// What a type is when nobody says otherwise.
fn stock(kind: SystemKind) -> System {
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

/// Those that are written, and the stock one of each type that is not.
pub(crate) fn with_stock(mut systems: Vec<System>) -> Vec<System> {
    for kind in [SystemKind::ClearML, SystemKind::Generic] {
        let stock = stock(kind);
        if !systems.iter().any(|system| system.kind == kind || system.name == stock.name) {
            systems.push(stock);
        }
    }
    systems.sort_by(|a, b| a.name.cmp(&b.name));
    systems
}

/// `taskConfig` (its trees are called `config`) or `providersInfo` (`info`).
pub(crate) fn vaults(cursor: &Cursor<'_>, tree: &'static str) -> Vec<Vault> {
    let keys = if tree == "info" { &keys::PROVIDERS_INFO } else { &keys::TASK_CONFIG };
    cursor.list().iter().filter_map(|item| vault(item, tree, keys)).collect()
}

fn vault(item: &Cursor<'_>, tree: &'static str, keys: &'static Keys) -> Option<Vault> {
    let mut fields = item.fields(keys)?;
    let (mut namespaces, mut queue, mut user) = (Vec::new(), None, None);
    if let Some(mut fields) = fields.take("match").and_then(|cursor| cursor.fields(&keys::VAULT_MATCH)) {
        if let Some(cursor) = fields.take("namespaces") {
            namespaces = cursor.namespaces();
            check_not_empty(&cursor);
        }
        // an id is its own canonical name
        queue = fields.take("queue").and_then(|cursor| {
            let queue = canonical_queue_name(cursor.name()?);
            if queue.is_empty() {
                cursor.error(NO_LABEL);
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

/// A list of conditions that is empty would match everything where its author meant something.
pub(crate) fn check_not_empty(cursor: &Cursor<'_>) {
    if cursor.node.is_empty() {
        cursor.error("is empty: leave the key out where it does not matter");
    }
}

/// Global < namespace < queue < user; equal ones as they are written.
pub(crate) fn sort_vaults(vaults: &mut [Vault]) {
    vaults.sort_by_key(|vault| (vault.user.is_some(), vault.queue.is_some(), !vault.namespaces.is_empty()));
}

/// `unknownQueue`.
pub(crate) fn unknown_queue(cursor: &Cursor<'_>) -> Option<UnknownQueue> {
    let words = [("Base", UnknownQueue::Base), ("Ignore", UnknownQueue::Ignore), ("Deny", UnknownQueue::Deny)];
    cursor.one_of(&words, &[])
}
