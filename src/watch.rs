//! The watch of the configuration: turns each change into a new snapshot.
//!
//! ```text
//! --config FILE|DIR, polled  --.
//! the namespace's ConfigMaps --+--> files --debounced--> Builder (blocking thread) --> ArcSwap, log, metrics
//! --policies DIR, polled     --'
//!
//! all Namespaces' labels --> Levels, which all snapshots share
//! ```
//! The [`Builder`] finds the errors. The watch never removes a snapshot: while the API server is away or a file cannot
//! be read, the last one serves.

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

/// The compiler of modules: takes a module's name and bytes, returns its hook or an error.
pub type Compile = Arc<dyn Fn(&str, &[u8]) -> Result<Arc<dyn Hook>, String> + Send + Sync>;

/// The source of the configuration.
pub enum Source {
    /// a file, or a folder of files
    Path(PathBuf),
    /// all ConfigMaps of a namespace
    Cluster {
        /// client of the API server
        client: Client,
        /// podgraft's own namespace
        namespace: String,
    },
}

/// The result of the last load, for metrics.
#[derive(Debug, Clone)]
pub struct Status {
    /// generation of the current snapshot; 0 before the first
    pub generation: u64,
    /// all errors of the newest configuration
    pub errors: Arc<[Diagnostic]>,
    /// end of the last load
    pub loaded_at: Option<SystemTime>,
    /// number of loads so far, with and without a change
    pub loads: u64,
}

/// A running watch; dropping it ends it.
pub struct Handle {
    /// the current snapshot
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// true once a load found no malformed file. A replica that starts with a malformed file does not know the units in
    /// it, so it leaves the requests to the replicas that do.
    pub ready: watch::Receiver<bool>,
    /// result of the last load
    pub status: watch::Receiver<Status>,
    /// sources that can be read, and errors of those that cannot
    pub sources: watch::Receiver<SourceStatus>,
    _tasks: JoinSet<()>,
}

/// The files and modules of one source.
#[derive(Clone, Default, PartialEq)]
struct Content {
    files: Vec<File>,
    wasm: Vec<Wasm>,
}

/// The contents of all sources; `None` for a source that has not been read yet.
type Contents = watch::Sender<Vec<Option<Content>>>;

/// The interval of polling, and the time without a change after which changes are loaded.
#[derive(Clone, Copy)]
struct Intervals {
    poll: Duration,
    settle: Duration,
}

/// Time without a change after which changes are loaded: a `kubectl apply` of several ConfigMaps is one load.
const SETTLE: Duration = Duration::from_millis(100);

/// Number of waits for changes to settle before they are loaded all the same.
const MAX_ROUNDS: u32 = 10;

/// Starts a watch on the current tokio runtime. Files are polled every `poll`.
pub fn start(source: Source, policies: Option<PathBuf>, namespace: String, compile: Compile, poll: Duration) -> Handle {
    start_with(source, policies, namespace, compile, Intervals { poll, settle: SETTLE.min(poll) })
}

fn start_with(
    source: Source,
    policies: Option<PathBuf>,
    namespace: String,
    compile: Compile,
    intervals: Intervals,
) -> Handle {
    let path = match &source {
        Source::Path(path) => Some(path.clone()),
        Source::Cluster { .. } => None,
    };
    let policies = distinct_folder(policies, path.as_deref());
    let contents: Contents = watch::Sender::new(vec![None; 1 + usize::from(policies.is_some())]);
    let changes = contents.subscribe();
    let (source_status, sources) = watch::channel(SourceStatus::default());
    let reporter = |source| source_status::StatusReporter { source, status: source_status.clone() };
    let mut tasks = JoinSet::new();
    if let Some(policies) = policies {
        let folder = files::Folder { path: policies, only_modules: true };
        tasks.spawn(files::poll(folder, reporter(ConfigSource::Policies), contents.clone(), 1, intervals.poll));
    }
    let levels = Levels::default();
    match source {
        Source::Path(path) => {
            tracing::info!("no cluster: the Pod Security levels of namespaces are not checked");
            let folder = files::Folder { path, only_modules: false };
            tasks.spawn(files::poll(folder, reporter(ConfigSource::Config), contents, 0, intervals.poll));
        }
        Source::Cluster { client, namespace } => {
            tasks.spawn(cluster::watch_namespaces(client.clone(), reporter(ConfigSource::Namespaces), levels.clone()));
            tasks.spawn(cluster::watch(client, reporter(ConfigSource::ConfigMaps), namespace, contents, 0));
        }
    }
    let empty = Snapshot { namespace: namespace.clone(), ..Snapshot::default() };
    let snapshot = Arc::new(ArcSwap::from_pointee(empty));
    let (ready, is_ready) = watch::channel(false);
    let status = Status { generation: 0, errors: Arc::default(), loaded_at: None, loads: 0 };
    let (status, last_status) = watch::channel(status);
    let builder = Arc::new(Mutex::new(Builder::with_pod_security(levels)));
    let loader = Loader { builder, compile, path, namespace, snapshot: Arc::clone(&snapshot), ready, status };
    tasks.spawn(loader.run(changes, intervals.settle));
    Handle { snapshot, ready: is_ready, status: last_status, sources, _tasks: tasks }
}

/// Loads a file or folder once, for `podgraft render` and `podgraft check`.
///
/// # Errors
/// A file or folder cannot be read. Errors of the configuration are in [`Built::errors`].
pub fn load_once(
    path: &Path,
    policies: Option<&Path>,
    namespace: &str,
    compile: &config::Compile<'_>,
) -> anyhow::Result<Built> {
    let mut input = Input { namespace: namespace.to_owned(), ..Input::default() };
    let policies = distinct_folder(policies.map(Path::to_owned), Some(path));
    for (path, only_modules) in [(Some(path), false), (policies.as_deref(), true)] {
        let Some(path) = path else { continue };
        let folder = files::Folder { path: path.to_owned(), only_modules };
        let content = folder.read().with_context(|| format!("cannot read {}", path.display()))?.0;
        input.files.extend(content.files);
        input.wasm.extend(content.wasm);
    }
    if has_no_config(&input) {
        return Ok(built_nothing(path, &input, Arc::default()));
    }
    Ok(build(&mut Builder::default(), &input, Some(path), compile))
}

/// Checks at the start that a path exists, because a mistyped one would be waited for silently. A path that vanishes
/// later is waited for.
///
/// # Errors
/// The path does not exist or cannot be read.
pub fn must_exist(flag: &str, path: &Path) -> anyhow::Result<()> {
    std::fs::metadata(path).with_context(|| format!("{flag} {}: cannot be read", path.display()))?;
    Ok(())
}

/// Returns the modules' folder, unless it is the configuration's folder, which is read anyway.
fn distinct_folder(policies: Option<PathBuf>, path: Option<&Path>) -> Option<PathBuf> {
    let real = |path: &Path| path.canonicalize().ok();
    policies.filter(|policies| path.is_none_or(|path| real(path).is_none() || real(path) != real(policies)))
}

/// Returns true if no file can be a GraftConfig. An empty namespace is valid; a path that was given by name and holds no
/// configuration is a mistake, and must not replace the last valid configuration.
fn has_no_config(input: &Input) -> bool {
    input.files.iter().all(|file| !file.text.contains("GraftConfig") && !file.text.contains("podgraft.io/"))
}

/// Returns the result for a path without configuration: the current snapshot stays, with an error.
fn built_nothing(path: &Path, input: &Input, current: Arc<Snapshot>) -> Built {
    let errors = vec![no_config_error(path, input)];
    Built { snapshot: current, errors, notices: Vec::new(), changed: false, parsed: false, files: 0 }
}

fn no_config_error(path: &Path, input: &Input) -> Diagnostic {
    let Position { line, column } = Position::default();
    let expected =
        "a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`";
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let error = match input.files.as_slice() {
        [] => "contains no *.yaml",
        [only] if only.text.lines().all(is_blank) => "is empty",
        // bytes that were not UTF-8 have been replaced
        [only] if only.text.contains(['\0', '\u{fffd}']) => "is not UTF-8 text",
        [_] => "contains no configuration",
        _ => "contains no configuration in its *.yaml",
    };
    let message = format!("{error}: {expected}");
    Diagnostic { file: path.display().to_string().into(), line, column, path: String::new(), message }
}

/// Builds a snapshot. A path without configuration that was given by name is an error, an empty namespace is not.
fn build(builder: &mut Builder, input: &Input, path: Option<&Path>, compile: &config::Compile<'_>) -> Built {
    let mut built = builder.build(input, compile);
    if let Some(path) = path.filter(|_| built.files == 0 && built.parsed) {
        built.errors.push(no_config_error(path, input));
    }
    built
}

/// Log message for a first configuration with a malformed file.
const NOT_READY: &str = "not ready: a file of the first configuration is malformed, and its units are not known";

/// The task that turns the sources' contents into snapshots.
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
    async fn run(self, mut changes: watch::Receiver<Vec<Option<Content>>>, settle: Duration) {
        let mut logged = BTreeSet::new();
        // the first load does not wait for changes to settle
        let mut first = true;
        while changes.changed().await.is_ok() {
            for _ in 0..if first { 0 } else { MAX_ROUNDS } {
                if !changes_within(&mut changes, settle).await {
                    break;
                }
            }
            let contents = changes.borrow_and_update().iter().cloned().collect::<Option<Vec<_>>>();
            let Some(contents) = contents else { continue };
            first = false;
            if let Some(built) = self.build(contents).await {
                self.publish(&built, &mut logged);
            }
        }
    }

    /// Builds on a blocking thread, because compiling modules takes long. Returns `None` if the build panicked; the
    /// current snapshot then stays.
    async fn build(&self, contents: Vec<Content>) -> Option<Built> {
        let mut input = Input { namespace: self.namespace.clone(), ..Input::default() };
        for content in contents {
            input.files.extend(content.files);
            input.wasm.extend(content.wasm);
        }
        if let Some(path) = self.path.as_deref().filter(|_| has_no_config(&input)) {
            return Some(built_nothing(path, &input, self.snapshot.load_full()));
        }
        let (builder, compile, path) = (Arc::clone(&self.builder), Arc::clone(&self.compile), self.path.clone());
        let built = tokio::task::spawn_blocking(move || {
            let mut builder = builder.lock().unwrap_or_else(PoisonError::into_inner);
            build(&mut builder, &input, path.as_deref(), &|name, bytes| compile(name, bytes))
        });
        built.await.inspect_err(|error| tracing::error!(%error, "failed to load the configuration")).ok()
    }

    fn publish(&self, built: &Built, logged: &mut BTreeSet<String>) {
        let errors: BTreeSet<String> = built.errors.iter().map(ToString::to_string).collect();
        for error in errors.difference(logged) {
            tracing::warn!(%error, "configuration error");
        }
        let notices: BTreeSet<String> = built.notices.iter().map(ToString::to_string).collect();
        for notice in notices.difference(logged) {
            tracing::info!(%notice, "configuration notice");
        }
        *logged = errors.into_iter().chain(notices).collect();
        if built.changed {
            self.snapshot.store(Arc::clone(&built.snapshot));
            let (generation, digest) = (built.snapshot.generation, built.snapshot.digest.as_str());
            let errors = built.errors.len();
            if built.parsed || *self.ready.borrow() {
                tracing::info!(generation, digest, errors, "configuration loaded");
            } else {
                tracing::warn!(generation, digest, errors, "{NOT_READY}");
            }
        }
        if built.parsed {
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        self.status.send_modify(|status| {
            status.generation = built.snapshot.generation;
            status.errors = built.errors.as_slice().into();
            status.loaded_at = Some(SystemTime::now());
            status.loads += 1;
        });
    }
}

/// Returns true if a change comes within `time`.
async fn changes_within(changes: &mut watch::Receiver<Vec<Option<Content>>>, time: Duration) -> bool {
    matches!(tokio::time::timeout(time, changes.changed()).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests;
