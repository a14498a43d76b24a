//! Prepares the call of one module: a configuration with only this module, and the AdmissionReview of one pod.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use serde_json::{Value, json};

use super::{name_of, read};
use crate::cli::manifests::{self, SendArgs};
use crate::config::{Builder, Diagnostic, File, Input, Wasm};
use crate::k8s::labels::QUEUE;
use crate::model::hook::{Budget, Hook};
use crate::model::pod::Pod;
use crate::model::queue_name::canonical_queue_name;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::task::Task;
use crate::model::task_systems;
use crate::wasm::{Engine, RecordingModule};

/// The flags that name a module and its arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// The module's file
    #[arg(value_name = "FILE.wasm")]
    module: PathBuf,
    /// Pod or Job (YAML or JSON), or an AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|JOB|REVIEW")]
    filename: PathBuf,
    #[command(flatten)]
    sender: SendArgs,
    /// The module's `params`: a map as JSON or YAML, or @ and a file
    #[arg(long, value_name = "MAP|@FILE")]
    params: Option<String>,
    /// The task configuration for `config-get`: a map, or @ and a file
    #[arg(long, value_name = "MAP|@FILE")]
    task_config: Option<String>,
    /// The request's `providers_info`: a map, or @ and a file
    #[arg(long, value_name = "MAP|@FILE")]
    providers: Option<String>,
    /// The pod's queue, instead of the one in its labels
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Let the module remove fields and elements (`mayRemove`)
    #[arg(long)]
    may_remove: bool,
    /// Time limit of a call (`budget.time`) [default: 200ms]
    #[arg(long, value_name = "DURATION")]
    budget_time: Option<String>,
    /// Memory limit of a call (`budget.memory`) [default: 64Mi]
    #[arg(long, value_name = "QUANTITY")]
    budget_memory: Option<String>,
}

/// The prepared call of a module.
pub(super) struct Prepared {
    /// the module's name
    pub(super) name: String,
    /// the module, which records its calls
    pub(super) recording: Arc<RecordingModule>,
    /// the configuration with the module
    pub(super) snapshot: Arc<Snapshot>,
    /// the AdmissionReview, JSON
    pub(super) body: Vec<u8>,
    /// the limits of one call
    pub(super) budget: Budget,
}

impl Subject {
    /// Reads the module's file.
    pub(super) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.module)
    }

    /// Prepares the call.
    ///
    /// # Errors
    /// A file or flag is invalid, or the pod names no queue.
    pub(super) fn prepare(&self, engine: &Engine) -> anyhow::Result<Prepared> {
        let bytes = self.bytes()?;
        let name = name_of(&self.module);
        let recording = engine.compile_recording(&name, &bytes).map_err(anyhow::Error::msg)?;
        let (queue, body) = self.review()?;
        let map = |flag: &str, given: &Option<String>| given.as_ref().map_or(Ok(json!({})), |text| map(flag, text));
        let budget = [("time", &self.budget_time), ("memory", &self.budget_memory)];
        let budget: Value = budget.into_iter().filter_map(|(key, given)| Some((key, given.as_deref()?))).collect();
        let config = json!({
            "modules": {&name: {
                "wasm": "module.wasm",
                "params": map("--params", &self.params)?,
                "mayRemove": self.may_remove,
                "budget": budget,
            }},
            "queues": {queue: {"modules": [&name]}},
            "taskConfig": [{"config": map("--task-config", &self.task_config)?}],
            "providersInfo": [{"info": map("--providers", &self.providers)?}],
        });
        let wasm = Wasm { name: "module.wasm".to_owned(), origin: "the command line".to_owned(), bytes: bytes.into() };
        let snapshot = configuration(config, vec![wasm], Some(&recording))?;
        let spec = snapshot.queues.by_name.values().chain(snapshot.queues.by_id.values());
        let module = spec.filter_map(|unit| unit.last_valid.as_ref()).find_map(|queue| queue.spec.modules.first());
        let budget = module.map_or_else(Budget::default, |module| module.budget);
        Ok(Prepared { name, recording, snapshot, body, budget })
    }

    /// Returns the pod's queue and its AdmissionReview.
    fn review(&self) -> anyhow::Result<(String, Vec<u8>)> {
        let stock = configuration(json!({}), Vec::new(), None)?;
        let manifests = manifests::read(std::slice::from_ref(&self.filename), &self.sender, &stock)?;
        let [manifest] = manifests.as_slice() else {
            bail!("{} holds {} pods; a module runs over one", self.filename.display(), manifests.len());
        };
        let arena = Bump::new();
        let review =
            Review::parse(&manifest.body, &arena).map_err(|error| anyhow::anyhow!("{}: {error}", manifest.label))?;
        let task = Task::from_pod(&Pod::from_review(&review), &review, &stock)
            .map_err(|denial| anyhow::anyhow!(denial.message))?;
        let own = task.and_then(|task| task.queue_name.or(task.queue_id));
        let Some(queue) = self.queue.as_deref().or(own) else {
            bail!("{}: the pod names no queue, so no module runs: name one with --queue NAME", manifest.label);
        };
        let body = match &self.queue {
            Some(queue) => with_queue(&manifest.body, &review, own, queue)?,
            None => manifest.body.clone(),
        };
        Ok((queue.to_owned(), body))
    }
}

/// Puts the pod of a review into another queue: sets the label that names its queue, or podgraft's label.
fn with_queue(body: &[u8], review: &Review<'_>, own: Option<&str>, queue: &str) -> anyhow::Result<Vec<u8>> {
    let pod = Pod::from_review(review);
    let label = task_systems::selecting_labels().find(|label| own.is_some() && pod.label(label) == own);
    let mut review: Value = serde_json::from_slice(body)?;
    let metadata = &mut review["request"]["object"]["metadata"];
    if !metadata["labels"].is_object() {
        metadata["labels"] = json!({});
    }
    metadata["labels"][label.unwrap_or(QUEUE)] = canonical_queue_name(queue).into();
    Ok(serde_json::to_vec(&review)?)
}

/// Builds a configuration with these keys.
fn configuration(
    keys: Value,
    wasm: Vec<Wasm>,
    recording: Option<&Arc<RecordingModule>>,
) -> anyhow::Result<Arc<Snapshot>> {
    let mut config = json!({"apiVersion": "podgraft.io/v1alpha1", "kind": "GraftConfig"});
    if let (Value::Object(config), Value::Object(keys)) = (&mut config, keys) {
        config.extend(keys);
    }
    let file = File { name: "the command line".to_owned(), text: config.to_string() };
    let input = Input { files: vec![file], wasm, namespace: String::new() };
    let built = Builder::default().build(&input, &|_, _| match recording {
        Some(recording) => Ok(Arc::clone(recording) as Arc<dyn Hook>),
        None => Err("is not there".to_owned()),
    });
    match built.errors.first() {
        None => Ok(built.snapshot),
        Some(error) => bail!(flag_error(error)),
    }
}

/// The path in the configuration of each flag.
const FLAGS: [(&str, &str); 4] = [
    (".budget.time", "--budget-time"),
    (".budget.memory", "--budget-memory"),
    (".params", "--params"),
    ("queues", "--queue"),
];

/// Names the flag of an error instead of the path in the configuration.
fn flag_error(error: &Diagnostic) -> String {
    let Diagnostic { path, message, .. } = error;
    match FLAGS.iter().find(|(part, _)| path.contains(part)) {
        Some((_, flag)) => format!("{flag}: {message}"),
        None => format!("{path}: {message}"),
    }
}

/// Parses the map of a flag, which is text or `@` and the name of a file.
fn map(flag: &str, value: &str) -> anyhow::Result<Value> {
    let text = match value.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).with_context(|| format!("{flag}: {file} cannot be read"))?,
        None => value.to_owned(),
    };
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| anyhow::anyhow!("{flag} is neither JSON nor YAML: {error}"))?;
    if !value.is_object() {
        bail!("{flag} must be a map, such as {{\"key\": \"value\"}}, or @ and the name of a file");
    }
    Ok(value)
}
