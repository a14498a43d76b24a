//! Parts that the targets share: a configuration, a module that returns a given result, and the checks of every answer.
#![allow(dead_code, reason = "each target includes this file and uses a part of it")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bumpalo::Bump;
use podgraft::config::{Builder, File, Input, Wasm};
use podgraft::model::hook::{Execution, Hook, HookError, HookOutput, HookRequest, HookResponse, LogLine};
use podgraft::model::snapshot::Snapshot;
use podgraft::mutate::{self, Answer, Outcome as Happened, Verdict};
use serde_json::Value;

/// The result of every module.
pub static RETURNED: Mutex<Option<HookOutput>> = Mutex::new(None);

/// A module that returns [`RETURNED`].
#[derive(Debug)]
struct Returns;

impl Hook for Returns {
    fn call(&self, _call: &HookRequest<'_>) -> HookResponse {
        let result = match &*RETURNED.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(HookOutput::Template(text)) => Ok(HookOutput::Template(text.clone())),
            Some(HookOutput::Fragment(text)) => Ok(HookOutput::Fragment(text.clone())),
            _ => Ok(HookOutput::Unchanged),
        };
        HookResponse { result, logs: Vec::<LogLine>::new(), elapsed: Duration::ZERO }
    }
}

/// A module that denies, with its request as the message.
#[derive(Debug)]
struct Denies;

impl Hook for Denies {
    fn call(&self, call: &HookRequest<'_>) -> HookResponse {
        HookResponse {
            result: Err(HookError::Denied(call.request.to_owned())),
            logs: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }
}

/// Returns the hook of a module: its bytes name it.
pub fn compile(_key: &str, bytes: &[u8]) -> Result<Arc<dyn Hook>, String> {
    match bytes {
        b"returns" => Ok(Arc::new(Returns)),
        b"denies" => Ok(Arc::new(Denies)),
        _ => Err("is no component".to_owned()),
    }
}

/// These files, with the modules that [`compile`] knows.
pub fn input(files: &[(&str, &str)]) -> Input {
    let wasm = ["returns", "denies", "broken"].map(|name| Wasm {
        name: format!("{name}.wasm"),
        origin: "fuzz".into(),
        bytes: Arc::from(name.as_bytes()),
    });
    let files = files.iter().map(|(name, text)| File { name: (*name).into(), text: (*text).into() });
    Input { files: files.collect(), wasm: wasm.into(), namespace: "podgraft".into() }
}

/// The configuration that a target starts from; it must be valid.
pub fn snapshot(text: &str) -> Arc<Snapshot> {
    let built = Builder::default().build(&input(&[("rich.yaml", text)]), &compile);
    assert!(built.errors.is_empty(), "{:#?}", built.errors);
    // all checks apply to every pod
    built.snapshot.pod_security.set_everywhere("restricted".parse().ok());
    built.snapshot
}

/// Answers a review.
pub fn answer(body: &[u8], snapshot: &Snapshot) -> Answer {
    let left = || Duration::from_secs(3600);
    match mutate::answer(body, snapshot, Execution::Pooled(&left), &Bump::new()) {
        Verdict::Done(answer) => answer,
        Verdict::NeedsPool(module) => panic!("module {module} is too slow although it is pooled"),
    }
}

/// Checks an answer; returns the review with the patched pod, if there is a patch.
pub fn check(body: &[u8], answer: &Answer) -> Option<Vec<u8>> {
    if answer.status != 200 {
        assert!((400..500).contains(&answer.status), "status {}", answer.status);
        assert!(answer.body.len() < 4096, "a long answer to a body that is no review");
        return None;
    }
    assert_ne!(answer.reason, Some("Internal"), "{:?}", answer.message);
    let reply: Value = serde_json::from_slice(&answer.body).expect("the reply is JSON");
    let response = &reply["response"];
    assert_eq!(response["uid"], answer.uid.as_str());
    assert_eq!(response["patch"].is_string(), response["patchType"] == "JSONPatch");
    assert_eq!(response["allowed"], answer.outcome != Happened::Denied);
    let patch = BASE64_STANDARD.decode(response["patch"].as_str()?).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("the patch is RFC 6902");
    // serde_json cannot read numbers that no double holds; podgraft copies them as text
    let mut review: Value = serde_json::from_slice(body).ok()?;
    json_patch::patch(&mut review["request"]["object"], &patch).expect("the patch applies");
    Some(review.to_string().into_bytes())
}

/// Answers, checks, and answers once more for the pod that came back, which must need nothing.
pub fn twice(body: &[u8], snapshot: &Snapshot) {
    let first = answer(body, snapshot);
    let Some(again) = check(body, &first) else { return };
    let second = answer(&again, snapshot);
    check(&again, &second);
    let message = second.message.as_deref().unwrap_or_default();
    assert_eq!(second.outcome, Happened::Unchanged, "{message}\n{}", String::from_utf8_lossy(&second.body));
}
