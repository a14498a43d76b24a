//! From configuration that changes to the snapshot that serves.
//!
//! ```text
//! --config FILE|DIR, polled  --.
//! the namespace's ConfigMaps --+--> parts --debounced--> Builder (blocking thread) --> ArcSwap, log, metrics
//! --policies DIR, polled     --'
//!
//! all Namespaces' labels --> Levels, which all snapshots share
//! ```
//! What is wrong is the [`Builder`]'s to judge; nothing here ever takes a snapshot away: with the API server gone or
//! a file unreadable, the last one serves.

mod cluster;
mod files;
mod source_status;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use arc_swap::ArcSwap;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{self, Builder, Built, Diagnostic, File, Input, Position, Wasm};
use crate::k8s::pod_security::Levels;
use crate::model::hook::Hook;
use crate::model::snapshot::Snapshot;

pub use source_status::{ConfigSource, SourceStatus};

/// Turns a module's bytes into code.
pub type Compile = Arc<dyn Fn(&str, &[u8]) -> Result<Arc<dyn Hook>, String> + Send + Sync>;

/// Where the configuration is.
pub enum Source {
    /// a file, or a folder of files
    Path(PathBuf),
    /// all ConfigMaps of a namespace
    Cluster {
        /// for the API server
        client: Client,
        /// podgraft's own namespace
        namespace: String,
    },
}

/// What the last load gave, for metrics and `/configz`.
#[derive(Debug, Clone)]
pub struct Status {
    /// of the snapshot that serves; 0 before the first
    pub generation: u64,
    /// everything that is wrong
    pub problems: Arc<[Diagnostic]>,
    /// when the last load ended
    pub loaded_at: Option<SystemTime>,
    /// loads so far, whether they changed something or not
    pub loads: u64,
}

/// A running watch; dropping it ends it.
pub struct Handle {
    /// what serves
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// true from the first load on in which every file could be taken apart. A replica that starts while a file is
    /// torn would not know what it misses, so it leaves the traffic to those that do.
    pub ready: watch::Receiver<bool>,
    /// what the last load gave
    pub status: watch::Receiver<Status>,
    /// what can be read just now
    pub readings: watch::Receiver<SourceStatus>,
    _tasks: JoinSet<()>,
}

/// What one origin holds.
#[derive(Clone, Default, PartialEq)]
struct Part {
    files: Vec<File>,
    wasm: Vec<Wasm>,
}

/// All origins; none is read yet.
type Parts = watch::Sender<Vec<Option<Part>>>;

/// How often is looked, and how long changes may settle.
#[derive(Clone, Copy)]
struct Pace {
    poll: Duration,
    settle: Duration,
}

/// `kubectl apply` of several ConfigMaps is one change when it takes less than this.
const SETTLE: Duration = Duration::from_millis(100);

/// Changes that do not settle are taken as they are after this many rounds.
const MAX_ROUNDS: u32 = 10;

/// Watches from now on; to be called inside a runtime. Files are looked at every `poll`.
pub fn start(source: Source, policies: Option<PathBuf>, namespace: String, compile: Compile, poll: Duration) -> Handle {
    start_at(source, policies, namespace, compile, Pace { poll, settle: SETTLE.min(poll) })
}

fn start_at(source: Source, policies: Option<PathBuf>, namespace: String, compile: Compile, pace: Pace) -> Handle {
    let path = match &source {
        Source::Path(path) => Some(path.clone()),
        Source::Cluster { .. } => None,
    };
    let policies = other_folder(policies, path.as_deref());
    let parts: Parts = watch::Sender::new(vec![None; 1 + usize::from(policies.is_some())]);
    let changes = parts.subscribe();
    let (readings, last_readings) = watch::channel(SourceStatus::default());
    let reader = |origin| source_status::StatusReporter { origin, readings: readings.clone() };
    let mut tasks = JoinSet::new();
    if let Some(policies) = policies {
        let folder = files::Folder { path: policies, only_modules: true };
        tasks.spawn(files::poll(folder, reader(ConfigSource::Policies), parts.clone(), 1, pace.poll));
    }
    let levels = Levels::default();
    match source {
        Source::Path(path) => {
            tracing::info!("no cluster: pods are not held to the Pod Security levels of their namespaces");
            let folder = files::Folder { path, only_modules: false };
            tasks.spawn(files::poll(folder, reader(ConfigSource::Config), parts, 0, pace.poll));
        }
        Source::Cluster { client, namespace } => {
            tasks.spawn(cluster::watch_namespaces(client.clone(), reader(ConfigSource::Namespaces), levels.clone()));
            tasks.spawn(cluster::watch(client, reader(ConfigSource::ConfigMaps), namespace, parts, 0));
        }
    }
    let empty = Snapshot { namespace: namespace.clone(), ..Snapshot::default() };
    let snapshot = Arc::new(ArcSwap::from_pointee(empty));
    let (ready, is_ready) = watch::channel(false);
    let status = Status { generation: 0, problems: Arc::default(), loaded_at: None, loads: 0 };
    let (status, last_status) = watch::channel(status);
    let builder = Arc::new(Mutex::new(Builder::with_pod_security(levels)));
    let loader = Loader { builder, compile, path, namespace, snapshot: Arc::clone(&snapshot), ready, status };
    tasks.spawn(loader.run(changes, pace.settle));
    Handle { snapshot, ready: is_ready, status: last_status, readings: last_readings, _tasks: tasks }
}

/// Loads a file or folder once, as `podgraft render` and `podgraft check` do.
///
/// # Errors
/// Something cannot be read at all; what is wrong inside is in [`Built::errors`].
pub fn load_once(
    path: &Path,
    policies: Option<&Path>,
    namespace: &str,
    compile: &config::Compile<'_>,
) -> anyhow::Result<Built> {
    let mut input = Input { namespace: namespace.to_owned(), ..Input::default() };
    let policies = other_folder(policies.map(Path::to_owned), Some(path));
    for (path, only_modules) in [(Some(path), false), (policies.as_deref(), true)] {
        let Some(path) = path else { continue };
        let folder = files::Folder { path: path.to_owned(), only_modules };
        let part = folder.read().with_context(|| format!("cannot read {}", path.display()))?.0;
        input.files.extend(part.files);
        input.wasm.extend(part.wasm);
    }
    if names_nothing(&input) {
        return Ok(nothing(path, &input, Arc::default()));
    }
    Ok(build(&mut Builder::default(), &input, Some(path), compile))
}

/// Refuses a path that does not exist: whoever started with it mistyped it, and waiting would look like working. What
/// vanishes later is waited for.
///
/// # Errors
/// There is nothing there, or it may not be read.
pub fn must_exist(flag: &str, path: &Path) -> anyhow::Result<()> {
    std::fs::metadata(path).with_context(|| format!("{flag} {}: cannot be read", path.display()))?;
    Ok(())
}

/// Modules' folder, if it is another than the configuration's, in which they have been found already.
fn other_folder(policies: Option<PathBuf>, path: Option<&Path>) -> Option<PathBuf> {
    let real = |path: &Path| path.canonicalize().ok();
    policies.filter(|policies| path.is_none_or(|path| real(path).is_none() || real(path) != real(policies)))
}

/// Whether no file can be a GraftConfig. An empty namespace is a beginning; a path that was given by name and holds
/// nothing is a mistake, and must not take away what served before.
fn names_nothing(input: &Input) -> bool {
    input.files.iter().all(|file| !file.text.contains("GraftConfig") && !file.text.contains("podgraft.io/"))
}

/// What comes of such a path: what served goes on.
fn nothing(path: &Path, input: &Input, serving: Arc<Snapshot>) -> Built {
    let problems = vec![holds_nothing(path, input)];
    Built { snapshot: serving, errors: problems, notices: Vec::new(), changed: false, parsed: false, files: 0 }
}

fn holds_nothing(path: &Path, input: &Input) -> Diagnostic {
    let Position { line, column } = Position::default();
    let begins = "a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`";
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let what = match input.files.as_slice() {
        [] => "holds no *.yaml",
        [only] if only.text.lines().all(is_blank) => "is empty",
        // what was no UTF-8 has been replaced
        [only] if only.text.contains(['\0', '\u{fffd}']) => "is no text in UTF-8",
        [_] => "holds no configuration",
        _ => "holds no configuration in its *.yaml",
    };
    let message = format!("{what}: {begins}");
    Diagnostic { file: path.display().to_string().into(), line, column, path: String::new(), message }
}

/// A build; a path that was given by name and holds nothing is a mistake, an empty namespace is not.
fn build(builder: &mut Builder, input: &Input, path: Option<&Path>, compile: &config::Compile<'_>) -> Built {
    let mut built = builder.build(input, compile);
    if let Some(path) = path.filter(|_| built.files == 0 && built.parsed) {
        built.errors.push(holds_nothing(path, input));
    }
    built
}

/// Said of a first configuration with a file that nobody can take apart.
const NOT_READY: &str =
    "not ready (/readyz): a file of the first configuration cannot be read, and what is in it is not known";

/// The task that turns parts into snapshots.
struct Loader {
    builder: Arc<Mutex<Builder>>,
    compile: Compile,
    path: Option<PathBuf>,
    namespace: String,
    snapshot: Arc<ArcSwap<Snapshot>>,
    ready: watch::Sender<bool>,
    status: watch::Sender<Status>,
}

impl Loader {
    async fn run(self, mut changes: watch::Receiver<Vec<Option<Part>>>, settle: Duration) {
        let mut said = BTreeSet::new();
        // nobody waits for the first load to settle: what is there is there
        let mut first = true;
        while changes.changed().await.is_ok() {
            for _ in 0..if first { 0 } else { MAX_ROUNDS } {
                if !settled(&mut changes, settle).await {
                    break;
                }
            }
            let parts = changes.borrow_and_update().iter().cloned().collect::<Option<Vec<_>>>();
            let Some(parts) = parts else { continue };
            first = false;
            if let Some(built) = self.build(parts).await {
                self.publish(&built, &mut said);
            }
        }
    }

    /// On a thread of its own, as compiling modules takes long. Nothing when the build panicked: then what served
    /// goes on serving.
    async fn build(&self, parts: Vec<Part>) -> Option<Built> {
        let mut input = Input { namespace: self.namespace.clone(), ..Input::default() };
        for part in parts {
            input.files.extend(part.files);
            input.wasm.extend(part.wasm);
        }
        if let Some(path) = self.path.as_deref().filter(|_| names_nothing(&input)) {
            return Some(nothing(path, &input, self.snapshot.load_full()));
        }
        let (builder, compile, path) = (Arc::clone(&self.builder), Arc::clone(&self.compile), self.path.clone());
        let built = tokio::task::spawn_blocking(move || {
            let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
            build(&mut builder, &input, path.as_deref(), &|name, bytes| compile(name, bytes))
        });
        built.await.inspect_err(|error| tracing::error!(%error, "loading the configuration failed")).ok()
    }

    fn publish(&self, built: &Built, said: &mut BTreeSet<String>) {
        let problems: BTreeSet<String> = built.errors.iter().map(ToString::to_string).collect();
        for problem in problems.difference(said) {
            tracing::warn!("configuration: {problem}");
        }
        let notices: BTreeSet<String> = built.notices.iter().map(ToString::to_string).collect();
        for notice in notices.difference(said) {
            tracing::info!("configuration: {notice}");
        }
        *said = problems.into_iter().chain(notices).collect();
        if built.changed {
            self.snapshot.store(Arc::clone(&built.snapshot));
            let (generation, digest) = (built.snapshot.generation, built.snapshot.digest.as_str());
            let problems = built.errors.len();
            if built.parsed || *self.ready.borrow() {
                tracing::info!(generation, digest, problems, "configuration loaded");
            } else {
                tracing::warn!(generation, digest, problems, "{NOT_READY}");
            }
        }
        if built.parsed {
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        self.status.send_modify(|status| {
            status.generation = built.snapshot.generation;
            status.problems = built.errors.as_slice().into();
            status.loaded_at = Some(SystemTime::now());
            status.loads += 1;
        });
    }
}

/// Waits a moment; says whether something changed in it.
async fn settled(changes: &mut watch::Receiver<Vec<Option<Part>>>, settle: Duration) -> bool {
    matches!(tokio::time::timeout(settle, changes.changed()).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests;
