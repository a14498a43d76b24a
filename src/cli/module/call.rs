//! One module over one pod: a configuration of nothing else, and the review that the webhook would be sent.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bumpalo::Bump;
use serde_json::{Value, json};

use super::{name_of, read};
use crate::cli::input::{self, SendArgs};
use crate::config::{Builder, Diagnostic, File, Input, Wasm};
use crate::k8s::labels::QUEUE;
use crate::model::hook::Budget;
use crate::model::hook::Hook;
use crate::model::pod::Pod;
use crate::model::queue_name::canonical_queue_name;
use crate::model::review::Review;
use crate::model::snapshot::Snapshot;
use crate::model::task::{self, Task};
use crate::wasm::{Engine, RecordingModule};

/// The module and what it is given.
#[derive(Debug, clap::Args)]
pub(super) struct Subject {
    /// The module's file
    #[arg(value_name = "FILE.wasm")]
    module: PathBuf,
    /// Pod or Job (YAML or JSON), or an AdmissionReview (JSON); `-` is standard input
    #[arg(short, long, value_name = "POD|JOB|REVIEW")]
    filename: PathBuf,
    #[command(flatten)]
    sending: SendArgs,
    /// The module's `params`: a map as JSON or YAML, or @ and a file that holds it
    #[arg(long, value_name = "MAP|@FILE")]
    params: Option<String>,
    /// What `config-get` looks into: a map, or @ and a file
    #[arg(long, value_name = "MAP|@FILE")]
    task_config: Option<String>,
    /// `providers_info` of the request: a map, or @ and a file
    #[arg(long, value_name = "MAP|@FILE")]
    providers: Option<String>,
    /// The pod's queue, where another one than its labels say is meant
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Let the module take fields and elements away (`mayRemove`)
    #[arg(long)]
    may_remove: bool,
    /// How long a call may take (`budget.time`) [default: 200ms]
    #[arg(long, value_name = "DURATION")]
    budget_time: Option<String>,
    /// How much memory a call may use (`budget.memory`) [default: 64Mi]
    #[arg(long, value_name = "QUANTITY")]
    budget_memory: Option<String>,
}

/// All that a call needs.
pub(super) struct Prepared {
    /// the module's name
    pub(super) name: String,
    /// the module
    pub(super) trial: Arc<RecordingModule>,
    /// the configuration around it
    pub(super) snapshot: Arc<Snapshot>,
    /// the review
    pub(super) body: Vec<u8>,
    /// what one call may use
    pub(super) budget: Budget,
}

impl Subject {
    /// The module's bytes.
    pub(super) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        read(&self.module)
    }

    /// Reads everything and puts it together.
    pub(super) fn prepare(&self, engine: &Engine) -> anyhow::Result<Prepared> {
        let bytes = self.bytes()?;
        let name = name_of(&self.module);
        let trial = engine.compile_recording(&name, &bytes).map_err(anyhow::Error::msg)?;
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
        let snapshot = configuration(config, vec![wasm], Some(&trial))?;
        let graft = snapshot.queues.by_name.values().chain(snapshot.queues.by_id.values());
        let module = graft.filter_map(|unit| unit.last_valid.as_ref()).find_map(|queue| queue.graft.modules.first());
        let budget = module.map_or_else(Budget::default, |module| module.budget);
        Ok(Prepared { name, trial, snapshot, body, budget })
    }

    /// The pod's queue, and its review.
    fn review(&self) -> anyhow::Result<(String, Vec<u8>)> {
        let stock = configuration(json!({}), Vec::new(), None)?;
        let given = input::read(std::slice::from_ref(&self.filename), &self.sending, &stock)?;
        let [given] = given.as_slice() else {
            bail!("{} holds {} pods; a module is tried on one", self.filename.display(), given.len());
        };
        let arena = Bump::new();
        let review = Review::parse(&given.body, &arena).map_err(|why| anyhow::anyhow!("{}: {why}", given.label))?;
        let task = Task::from_pod(&Pod::of(&review), &review, &stock)
            .map_err(|rejection| anyhow::anyhow!(rejection.message))?;
        let own = task.and_then(|task| task.queue_name.or(task.queue_id));
        let Some(queue) = self.queue.as_deref().or(own) else {
            bail!("{}: the pod names no queue, so no module would run: give one with --queue NAME", given.label);
        };
        let body = match &self.queue {
            Some(queue) => with_queue(&given.body, &review, own, queue)?,
            None => given.body.clone(),
        };
        Ok((queue.to_owned(), body))
    }
}

/// The review of the same pod in another queue: in the label that names its own, or podgraft's.
fn with_queue(body: &[u8], review: &Review<'_>, own: Option<&str>, queue: &str) -> anyhow::Result<Vec<u8>> {
    let pod = Pod::of(&review);
    let label = task::selecting_labels().find(|label| own.is_some() && pod.label(label) == own);
    let mut review: Value = serde_json::from_slice(body)?;
    let metadata = &mut review["request"]["object"]["metadata"];
    if !metadata["labels"].is_object() {
        metadata["labels"] = json!({});
    }
    metadata["labels"][label.unwrap_or(QUEUE)] = canonical_queue_name(queue).into();
    Ok(serde_json::to_vec(&review)?)
}

/// What a configuration of these keys gives.
fn configuration(keys: Value, wasm: Vec<Wasm>, trial: Option<&Arc<RecordingModule>>) -> anyhow::Result<Arc<Snapshot>> {
    let mut config = json!({"apiVersion": "podgraft.io/v1alpha1", "kind": "GraftConfig"});
    if let (Value::Object(config), Value::Object(keys)) = (&mut config, keys) {
        config.extend(keys);
    }
    let file = File { name: "the command line".to_owned(), text: config.to_string() };
    let input = Input { files: vec![file], wasm, namespace: String::new() };
    let built = Builder::default().build(&input, &|_, _| match trial {
        Some(trial) => Ok(Arc::clone(trial) as Arc<dyn Hook>),
        None => Err("is not there".to_owned()),
    });
    match built.errors.first() {
        None => Ok(built.snapshot),
        Some(problem) => bail!(of_flag(problem)),
    }
}

/// What of the configuration each flag became.
const FLAGS: [(&str, &str); 4] = [
    (".budget.time", "--budget-time"),
    (".budget.memory", "--budget-memory"),
    (".params", "--params"),
    ("queues", "--queue"),
];

/// A problem as whoever typed the flags knows it: there is no file and no line.
fn of_flag(problem: &Diagnostic) -> String {
    let Diagnostic { path, message, .. } = problem;
    match FLAGS.iter().find(|(part, _)| path.contains(part)) {
        Some((_, flag)) => format!("{flag}: {message}"),
        None => format!("{path}: {message}"),
    }
}

/// A map that a flag gives, as text or by the name of a file.
fn map(flag: &str, given: &str) -> anyhow::Result<Value> {
    let text = match given.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).with_context(|| format!("{flag}: {file} cannot be read"))?,
        None => given.to_owned(),
    };
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(&text, options)
        .map_err(|error| anyhow::anyhow!("{flag} is neither JSON nor YAML: {error}"))?;
    if !value.is_object() {
        bail!("{flag} must be a map, such as {{\"key\": \"value\"}}, or @ and the name of a file");
    }
    Ok(value)
}
