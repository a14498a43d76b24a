//! Tests of the configuration: text in, snapshot and errors out.

mod forms;
mod head;
mod invalid;
mod keys;
mod last_valid;
mod rules;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::json_schema;
use super::{Builder, Built, File, Input, Wasm};
use crate::model::hook::{Hook, HookOutput, HookRequest, HookResponse};
use crate::model::snapshot::{Queue, Unit};

const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";

/// A hook that changes nothing.
#[derive(Debug)]
struct NoOpHook;

impl Hook for NoOpHook {
    fn call(&self, _: &HookRequest<'_>) -> HookResponse {
        HookResponse { result: Ok(HookOutput::Unchanged), logs: Vec::new(), elapsed: std::time::Duration::ZERO }
    }
}

fn compile(_: &str, bytes: &[u8]) -> Result<Arc<dyn Hook>, String> {
    if bytes.starts_with(b"bad") { Err("is no component".to_owned()) } else { Ok(Arc::new(NoOpHook)) }
}

/// Makes an input of files by name, and adds the two head lines to each.
fn input(files: &[(&str, &str)]) -> Input {
    Input {
        files: files.iter().map(|(name, text)| File { name: (*name).into(), text: format!("{HEAD}{text}") }).collect(),
        wasm: vec![wasm("ok.wasm", "ok"), wasm("bad.wasm", "bad")],
        namespace: "podgraft".into(),
    }
}

fn wasm(name: &str, bytes: &str) -> Wasm {
    Wasm { name: name.into(), origin: "policies".into(), bytes: bytes.as_bytes().into() }
}

fn build(text: &str) -> Built {
    Builder::default().build(&input(&[("c.yaml", text)]), &compile)
}

fn error_texts(built: &Built) -> Vec<String> {
    built.errors.iter().map(ToString::to_string).collect()
}

fn valid(text: &str) -> Built {
    let built = build(text);
    assert_eq!(error_texts(&built), Vec::<String>::new());
    assert_eq!(editor_errors(text), Vec::<String>::new(), "an editor would report an error in a valid configuration");
    built
}

/// Returns the errors that an editor with the JSON schema reports.
fn editor_errors(text: &str) -> Vec<String> {
    static SCHEMA: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::validator_for(&json_schema()).unwrap());
    let file = super::decode::yaml::parse(&format!("{HEAD}{text}")).ok().unwrap().to_json();
    SCHEMA.iter_errors(&file).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn queue<'b>(built: &'b Built, label: &str) -> &'b Unit<Queue> {
    &built.snapshot.queues.by_name[label]
}

/// Returns the fragments of a queue's layers.
fn fragments(built: &Built, label: &str) -> Vec<Value> {
    let queue = queue(built, label).last_valid.as_ref().unwrap();
    queue.spec.layers.iter().map(|layer| layer.fragment.clone()).collect()
}
