//! Files and a stand-in API server, changed while they are watched.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
const QUICK: Intervals = Intervals { poll: Duration::from_millis(5), settle: Duration::from_millis(5) };

fn compile() -> Compile {
    Arc::new(|_, _| Err("no modules here".to_owned()))
}

fn watch_path(path: &Path, policies: Option<&Path>) -> Handle {
    let source = Source::Path(path.to_owned());
    start_with(source, policies.map(Path::to_owned), "podgraft".into(), compile(), QUICK)
}

fn config_of(queue: &str) -> String {
    format!("{HEAD}queues: {{{queue}: {{}}}}\n")
}

// No wait has a limit, which would only measure how busy the machine is.

/// Waits for a load after which the snapshot has these queues, and for that load's status.
async fn has_queues(handle: &mut Handle, queues: &[&str]) {
    let snapshot = Arc::clone(&handle.snapshot);
    // the snapshot changes before the status does
    let there = |status: &Status| {
        let snapshot = snapshot.load();
        let names = snapshot.queues.by_name.keys().map(String::as_str);
        status.generation == snapshot.generation && names.eq(queues.iter().copied())
    };
    handle.status.wait_for(there).await.unwrap();
}

async fn is_ready(handle: &mut Handle) {
    handle.ready.wait_for(|ready| *ready).await.unwrap();
}

async fn loads(handle: &mut Handle, more_than: u64) -> Status {
    handle.status.wait_for(|status| status.loads > more_than).await.unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_watched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), config_of("a")).unwrap();
    fs::write(folder.path().join("README.md"), "no configuration").unwrap();
    let mut handle = watch_path(folder.path(), None);
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    fs::write(folder.path().join("b.yaml"), config_of("b")).unwrap();
    has_queues(&mut handle, &["a", "b"]).await;
    let before = handle.status.borrow().loads;
    fs::write(folder.path().join("a.yaml"), "apiVersion: podgraft.io/v1alpha1\nkind: [").unwrap();
    let status = loads(&mut handle, before).await;
    assert_eq!(status.errors.len(), 1);
    has_queues(&mut handle, &["a", "b"]).await;
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    has_queues(&mut handle, &["b"]).await;
    assert_eq!(handle.snapshot.load().generation, handle.status.borrow().generation);
    assert_eq!(handle.snapshot.load().namespace, "podgraft");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_without_configuration_keeps_the_last_valid_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let mut handle = watch_path(folder.path(), None);
    fs::write(folder.path().join("other.yaml"), "a: [b").unwrap();
    let status = loads(&mut handle, 0).await;
    assert!(!*handle.ready.borrow() && status.errors[0].message.starts_with("contains no"));
    fs::write(&file, config_of("a")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    fs::rename(&file, folder.path().join("a.yaml.bak")).unwrap();
    let has_no_config =
        |status: &Status| status.errors.first().is_some_and(|error| error.message.starts_with("contains no"));
    handle.status.wait_for(has_no_config).await.unwrap();
    has_queues(&mut handle, &["a"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_for_configuration_and_modules_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.wasm"), "m").unwrap();
    let text = format!("{HEAD}modules: {{m: {{wasm: m.wasm}}}}\nqueues: {{q: {{modules: [m]}}}}\n");
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let policies = folder.path().join(".");
    let compiled: &config::Compile<'_> = &|_, _| Err("compiled".to_owned());
    let built = load_once(folder.path(), Some(&policies), "", compiled).unwrap();
    assert!(built.errors[0].message.starts_with("compiled"), "{:?}", built.errors);
    let mut handle = watch_path(folder.path(), Some(&policies));
    let status = loads(&mut handle, 0).await;
    assert!(status.errors[0].message.starts_with("no modules here"), "{:?}", status.errors);
}

#[test]
fn a_path_that_does_not_exist_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    must_exist("--config", folder.path()).unwrap();
    let missing = folder.path().join("confg");
    let error = must_exist("--config", &missing).unwrap_err();
    assert_eq!(
        format!("{error:#}"),
        format!("--config {}: cannot be read: No such file or directory (os error 2)", missing.display())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configmap_volume_is_watched_through_its_symlinks() {
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    let version = |name: &str, queue: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("graft.yaml"), config_of(queue)).unwrap();
    };
    version("..1", "one");
    symlink("..1", at("..data")).unwrap();
    symlink("..data/graft.yaml", at("graft.yaml")).unwrap();
    let mut folder = watch_path(volume.path(), None);
    let mut file = watch_path(&at("graft.yaml"), None);
    has_queues(&mut folder, &["one"]).await;
    has_queues(&mut file, &["one"]).await;
    // both texts have one length, and maybe one modification time: only the inode differs
    for (name, queue) in [("..2", "two"), ("..3", "six")] {
        version(name, queue);
        symlink(name, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        has_queues(&mut folder, &[queue]).await;
        has_queues(&mut file, &[queue]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_path_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.yaml");
    let mut handle = watch_path(&path, None);
    fs::write(&path, config_of("q")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["q"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_with_a_malformed_file_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, format!("{HEAD}queues: [")).unwrap();
    let mut handle = watch_path(&path, None);
    assert_eq!(loads(&mut handle, 0).await.errors.len(), 1);
    assert!(!*handle.ready.borrow());
    fs::write(&path, config_of("q")).unwrap();
    is_ready(&mut handle).await;
    // once ready, always ready: the last valid version serves
    let before = handle.status.borrow().loads;
    fs::write(&path, format!("{HEAD}queues: [")).unwrap();
    loads(&mut handle, before).await;
    assert!(*handle.ready.borrow());
    has_queues(&mut handle, &["q"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_are_read_from_the_policies_folder_too() {
    let (folder, policies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = format!("{HEAD}modules: {{m: {{wasm: m.wasm}}}}\n");
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let mut handle = watch_path(folder.path(), Some(policies.path()));
    let status = loads(&mut handle, 0).await;
    assert_eq!(status.errors[0].to_string(), "a.yaml:3:21: modules.m.wasm: there is no file `m.wasm`");
    fs::write(policies.path().join("m.wasm"), "code").unwrap();
    fs::write(policies.path().join("ignored.yaml"), config_of("q")).unwrap();
    let compiled = |status: &Status| status.errors[0].to_string().ends_with("modules.m.wasm: no modules here");
    handle.status.wait_for(compiled).await.unwrap();
    let once = load_once(folder.path(), Some(policies.path()), "ns", &*compile()).unwrap();
    assert_eq!(once.errors.len(), 1);
}

#[test]
fn loading_a_path_without_configuration_is_an_error_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let expected =
        "a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`";
    let assert_error = |path: &Path, error: &str| {
        let built = load_once(path, None, "ns", &*compile()).unwrap();
        assert_eq!(texts(&built), [format!("{}: {error}: {expected}", path.display())]);
    };
    assert_error(folder.path(), "contains no *.yaml");
    for (bytes, error) in [
        (&b""[..], "is empty"),
        (b"# later\n\n", "is empty"),
        (b"\x7fELF\x02\x01\0\0\xff", "is not UTF-8 text"),
        (b"\xff\xfek\0i\0n\0d\0", "is not UTF-8 text"),
        (b"kind: Pod\n", "contains no configuration"),
    ] {
        fs::write(&file, bytes).unwrap();
        assert_error(&file, error);
    }
    fs::write(folder.path().join("b.yaml"), "").unwrap();
    assert_error(folder.path(), "contains no configuration in its *.yaml");
    let error = load_once(&folder.path().join("no.yaml"), None, "ns", &*compile()).err().unwrap();
    assert!(format!("{error:#}").contains("no.yaml: No such file"), "{error:#}");
}

fn texts(built: &Built) -> Vec<String> {
    built.errors.iter().map(ToString::to_string).collect()
}

type Answers = &'static [(u16, &'static str)];

/// A client of a fake API server, which answers requests for ConfigMaps and for Namespaces with these answers in turn,
/// and never answers the rest.
fn client(config_maps: Answers, namespaces: Answers) -> Client {
    let requests = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let service = tower::service_fn(move |request: hyper::Request<kube::client::Body>| {
        let is_namespaces = request.uri().path() == "/api/v1/namespaces";
        let accepts = request.headers().get("accept").and_then(|kinds| kinds.to_str().ok()).unwrap_or_default();
        assert_eq!(accepts.contains("PartialObjectMetadata"), is_namespaces, "only metadata of Namespaces is read");
        let answers = if is_namespaces { namespaces } else { config_maps };
        let number = requests[usize::from(is_namespaces)].fetch_add(1, Ordering::SeqCst) as usize;
        async move {
            let Some((status, body)) = answers.get(number) else { return std::future::pending().await };
            let response = hyper::Response::builder().status(*status).header("content-type", "application/json");
            Ok::<_, std::io::Error>(response.body(kube::client::Body::from(body.as_bytes().to_vec())).unwrap())
        }
    });
    Client::new(service, "podgraft")
}

const FORBIDDEN: &str =
    r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}"#;

const NO_CONFIG_MAPS: &str =
    r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configmaps_are_watched_through_errors() {
    const LIST: &str = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"kube-root-ca.crt"},"data":{"ca.crt":"x"}},
        {"metadata":{"name":"graft"},"data":{"q.yaml":"apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {q: {modules: [m]}}\nmodules: {m: {wasm: m.wasm}}"},"binaryData":{"m.wasm":"b2s="}}]}"#;
    const EVENTS: &str = concat!(
        r#"{"type":"ADDED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"more","resourceVersion":"2"},"data":{"r.yml":"apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\nqueues: {r: {}}"}}}"#,
        "\n",
        r#"{"type":"DELETED","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"graft","resourceVersion":"3"}}}"#,
        "\n"
    );
    let client = client(&[(403, FORBIDDEN), (200, LIST), (200, EVENTS)], &[]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_with(source, None, "podgraft".into(), compile(), QUICK);
    assert!(!*handle.ready.borrow());
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["r"]).await;
}

/// Waits until the source can be read, or cannot.
async fn has_status(handle: &mut Handle, source: ConfigSource, is_up: bool) {
    let reached = |status: &SourceStatus| status.get(&source).is_some_and(|error| error.is_none() == is_up);
    handle.sources.wait_for(reached).await.unwrap();
}

/// A watch that resumes emits no event until an object changes.
#[tokio::test]
async fn configmaps_can_be_read_again_before_any_changes() {
    let log = CapturedLog::default();
    let _guard = log.capture();
    let client = client(&[(200, NO_CONFIG_MAPS), (403, FORBIDDEN), (200, "")], &[]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_with(source, None, "podgraft".into(), compile(), QUICK);
    assert!(handle.sources.borrow().is_empty(), "no source has been read yet");
    // the first successful read is overwritten too soon to be seen
    for is_up in [false, true] {
        has_status(&mut handle, ConfigSource::ConfigMaps, is_up).await;
    }
    assert_eq!(log.count_source("the ConfigMaps"), [1, 1], "{}", log.text());
    assert!(!handle.sources.borrow().contains_key(&ConfigSource::Namespaces), "they have not been answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_configuration_is_ready() {
    let source = Source::Cluster { client: client(&[(200, NO_CONFIG_MAPS)], &[]), namespace: "podgraft".into() };
    let mut handle = start_with(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    assert_eq!(handle.status.borrow().errors.len(), 0);
}

/// Waits until the current snapshot has these policies for these namespaces.
async fn has_levels(handle: &Handle, expected: &[(&str, Option<&str>)]) {
    let reached = || {
        let snapshot = handle.snapshot.load();
        let policy = |namespace: &str| snapshot.pod_security.for_namespace(namespace).map(|policy| policy.to_string());
        expected.iter().all(|(namespace, wanted)| policy(namespace).as_deref() == *wanted)
    };
    while !reached() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_of_namespaces_change_without_a_new_snapshot() {
    const LIST: &str = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"ml","labels":{"pod-security.kubernetes.io/warn":"baseline"}}},
        {"metadata":{"name":"gone","labels":{"pod-security.kubernetes.io/warn":"restricted"}}},
        {"metadata":{"name":"free","labels":{"pod-security.kubernetes.io/warn":"restricted"}}},
        {"metadata":{"name":"plain"}}]}"#;
    const EVENTS: &str = concat!(
        r#"{"type":"MODIFIED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"ml","resourceVersion":"2","labels":{"pod-security.kubernetes.io/warn":"restricted","pod-security.kubernetes.io/warn-version":"v1.30"}}}}"#,
        "\n",
        r#"{"type":"MODIFIED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"free","resourceVersion":"3"}}}"#,
        "\n",
        r#"{"type":"DELETED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"gone","resourceVersion":"4"}}}"#,
        "\n"
    );
    let client = client(&[(200, NO_CONFIG_MAPS)], &[(200, LIST), (200, EVENTS)]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_with(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    has_levels(&handle, &[("ml", Some("restricted:v1.30")), ("free", None), ("gone", None), ("plain", None)]).await;
    assert_eq!((loads(&mut handle, 0).await.loads, handle.snapshot.load().generation), (1, 1));
}

/// The log lines of one thread.
#[derive(Clone, Default)]
struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    /// Captures this thread's log until both values are dropped. The second one discards its lines: with one subscriber
    /// only, a line that another test's thread without subscriber reaches first would be disabled for all threads.
    fn capture(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let writer = self.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
        (tracing::subscriber::set_default(lines), second)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Counts the lines that say that a source of the cluster cannot be read, and that it can be again.
    fn count_source(&self, source: &str) -> [usize; 2] {
        let text = self.text();
        ["failed to read from the cluster", "reading from the cluster works again"]
            .map(|message| text.lines().filter(|line| line.contains(message) && line.contains(source)).count())
    }
}

#[tokio::test]
async fn a_load_and_its_notices_are_logged() {
    let (log, folder) = (CapturedLog::default(), tempfile::tempdir().unwrap());
    let _guard = log.capture();
    let file = folder.path().join("a.yaml");
    fs::write(&file, format!("{HEAD}queues: [\n")).unwrap();
    let mut handle = watch_path(folder.path(), None);
    loads(&mut handle, 0).await;
    assert!(log.text().contains(NOT_READY) && !log.text().contains("configuration loaded"), "{}", log.text());
    fs::write(&file, format!("{HEAD}createQueues: true\nqueues: {{a: {{}}}}\n")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    assert!(log.text().contains("configuration loaded"), "{}", log.text());
    let notice = "a.yaml:3:1: createQueues: is a key of the ClearML agent: podgraft ignores it";
    assert_eq!(log.text().matches(notice).count(), 1, "{}", log.text());
}

#[tokio::test]
async fn forbidden_namespaces_are_logged_once_and_do_not_delay_readiness() {
    const LIST: &str = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"ml","labels":{"pod-security.kubernetes.io/warn":"baseline"}}}]}"#;
    let log = CapturedLog::default();
    let _guard = log.capture();
    let client = client(&[(200, NO_CONFIG_MAPS)], &[(403, FORBIDDEN), (403, FORBIDDEN), (200, LIST)]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_with(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    has_levels(&handle, &[("ml", None)]).await;
    // the permission is granted
    has_levels(&handle, &[("ml", Some("baseline:latest"))]).await;
    assert_eq!(log.count_source("the Namespaces"), [1, 1], "{}", log.text());
}
