//! Reads the pods of ClearML's open-source agent (`clearml_agent/glue/k8s.py`).

use super::Pod;
use crate::model::system::System;

/// The label of agents from 4.0 on.
const TASK_ID: &str = "clearml-task-id";

/// Returns the task's id: the label, or else the part after the prefix in the name that the primary container shares
/// with the pod or the Job. Env `CLEARML_TASK_ID` is ignored: the task's user can set it with `-e`.
///
/// # Errors
/// The pod names two different tasks.
pub(super) fn task_id(pod: &Pod<'_>, system: &System) -> Result<Option<String>, String> {
    let named = pod.name().or_else(|| pod.controller_name()).and_then(|name| {
        let id = name.strip_prefix(&system.pod_name_prefix)?;
        Some(without_rank(id))
    });
    let labelled = pod.label(TASK_ID);
    let Some(id) = labelled.or(named) else {
        return Ok(None);
    };
    if let (Some(label), Some(name)) = (labelled, named)
        && label != name
    {
        return Err(format!("the label {TASK_ID} names another task than the pod's name does"));
    }
    match worker_task(pod) {
        Some(other) if other != id => Err("CLEARML_WORKER_ID names another task than the pod's name does".to_owned()),
        _ => Ok(Some(id.to_owned())),
    }
}

/// Strips the rank: a multi-node task's pods are called `<id>-<rank>`.
fn without_rank(id: &str) -> &str {
    match id.rsplit_once('-') {
        Some((id, rank)) if (1..=4).contains(&rank.len()) && rank.bytes().all(|b| b.is_ascii_digit()) => id,
        _ => id,
    }
}

/// Returns the last part of `<worker>:<task id>`, if it looks like an id.
fn worker_task<'a>(pod: &Pod<'a>) -> Option<&'a str> {
    let worker = pod.containers().iter().find_map(|container| Pod::env(container, "CLEARML_WORKER_ID"))?;
    let (_, last) = worker.rsplit_once(':')?;
    let looks_like_an_id = last.len() == 32 && last.bytes().all(|b| b.is_ascii_hexdigit());
    looks_like_an_id.then_some(last)
}
