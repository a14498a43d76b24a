//! Files and a stand-in API server, changed while they are watched.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const HEAD: &str = "apiVersion: podgraft.io/v1alpha1\nkind: GraftConfig\n";
const QUICK: Pace = Pace { poll: Duration::from_millis(5), settle: Duration::from_millis(5) };

fn compile() -> Compile {
    Arc::new(|_, _| Err("no modules here".to_owned()))
}

fn watch_path(path: &Path, policies: Option<&Path>) -> Handle {
    let source = Source::Path(path.to_owned());
    start_at(source, policies.map(Path::to_owned), "podgraft".into(), compile(), QUICK)
}

fn graft(queue: &str) -> String {
    format!("{HEAD}queues: {{{queue}: {{}}}}\n")
}

// Whatever is waited for comes when the machine has the time: a limit here would only measure how busy it is.

/// Waits for a load after which the snapshot has these queues; that load's status is there then, too.
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
async fn a_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), graft("a")).unwrap();
    fs::write(folder.path().join("README.md"), "not ours").unwrap();
    let mut handle = watch_path(folder.path(), None);
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    fs::write(folder.path().join("b.yaml"), graft("b")).unwrap();
    has_queues(&mut handle, &["a", "b"]).await;
    let before = handle.status.borrow().loads;
    fs::write(folder.path().join("a.yaml"), "apiVersion: podgraft.io/v1alpha1\nkind: [").unwrap();
    let status = loads(&mut handle, before).await;
    assert_eq!(status.problems.len(), 1);
    has_queues(&mut handle, &["a", "b"]).await;
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    has_queues(&mut handle, &["b"]).await;
    assert_eq!(handle.snapshot.load().generation, handle.status.borrow().generation);
    assert_eq!(handle.snapshot.load().namespace, "podgraft");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_loses_its_last_configuration_keeps_what_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let mut handle = watch_path(folder.path(), None);
    fs::write(folder.path().join("other.yaml"), "a: [b").unwrap();
    let status = loads(&mut handle, 0).await;
    assert!(!*handle.ready.borrow() && status.problems[0].message.starts_with("holds no"));
    fs::write(&file, graft("a")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    fs::rename(&file, folder.path().join("a.yaml.bak")).unwrap();
    let holds_none =
        |status: &Status| status.problems.first().is_some_and(|problem| problem.message.starts_with("holds no"));
    handle.status.wait_for(holds_none).await.unwrap();
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
    assert!(status.problems[0].message.starts_with("no modules here"), "{:?}", status.problems);
}

#[test]
fn a_path_that_does_not_exist_is_said_at_once() {
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
async fn a_configmap_volume_is_followed_through_its_symlinks() {
    let volume = tempfile::tempdir().unwrap();
    let at = |name: &str| volume.path().join(name);
    let version = |name: &str, queue: &str| {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("graft.yaml"), graft(queue)).unwrap();
    };
    version("..1", "one");
    symlink("..1", at("..data")).unwrap();
    symlink("..data/graft.yaml", at("graft.yaml")).unwrap();
    let mut folder = watch_path(volume.path(), None);
    let mut file = watch_path(&at("graft.yaml"), None);
    has_queues(&mut folder, &["one"]).await;
    has_queues(&mut file, &["one"]).await;
    // both texts have the same length, and maybe the same time: it is the inode that tells
    for (name, queue) in [("..2", "two"), ("..3", "six")] {
        version(name, queue);
        symlink(name, at("..new")).unwrap();
        fs::rename(at("..new"), at("..data")).unwrap();
        has_queues(&mut folder, &[queue]).await;
        has_queues(&mut file, &[queue]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later.yaml");
    let mut handle = watch_path(&path, None);
    fs::write(&path, graft("q")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["q"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_on_a_torn_file_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    fs::write(&path, format!("{HEAD}queues: [")).unwrap();
    let mut handle = watch_path(&path, None);
    assert_eq!(loads(&mut handle, 0).await.problems.len(), 1);
    assert!(!*handle.ready.borrow());
    fs::write(&path, graft("q")).unwrap();
    is_ready(&mut handle).await;
    // once ready, always ready: the last good version serves
    let before = handle.status.borrow().loads;
    fs::write(&path, format!("{HEAD}queues: [")).unwrap();
    loads(&mut handle, before).await;
    assert!(*handle.ready.borrow());
    has_queues(&mut handle, &["q"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_read_beside_the_configuration() {
    let (folder, policies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = format!("{HEAD}modules: {{m: {{wasm: m.wasm}}}}\n");
    fs::write(folder.path().join("a.yaml"), text).unwrap();
    let mut handle = watch_path(folder.path(), Some(policies.path()));
    let status = loads(&mut handle, 0).await;
    assert_eq!(status.problems[0].to_string(), "a.yaml:3:21: modules.m.wasm: there is no file `m.wasm`");
    fs::write(policies.path().join("m.wasm"), "code").unwrap();
    fs::write(policies.path().join("ignored.yaml"), graft("q")).unwrap();
    let compiled = |status: &Status| status.problems[0].to_string().ends_with("modules.m.wasm: no modules here");
    handle.status.wait_for(compiled).await.unwrap();
    let once = load_once(folder.path(), Some(policies.path()), "ns", &*compile()).unwrap();
    assert_eq!(once.problems.len(), 1);
}

#[test]
fn loading_once_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    let begins = "a configuration is YAML that begins with `apiVersion: podgraft.io/v1alpha1` and `kind: GraftConfig`";
    let said = |path: &Path, what: &str| {
        let built = load_once(path, None, "ns", &*compile()).unwrap();
        assert_eq!(texts(&built), [format!("{}: {what}: {begins}", path.display())]);
    };
    said(folder.path(), "holds no *.yaml");
    for (bytes, what) in [
        (&b""[..], "is empty"),
        (b"# later\n\n", "is empty"),
        (b"\x7fELF\x02\x01\0\0\xff", "is no text in UTF-8"),
        (b"\xff\xfek\0i\0n\0d\0", "is no text in UTF-8"),
        (b"kind: Pod\n", "holds no configuration"),
    ] {
        fs::write(&file, bytes).unwrap();
        said(&file, what);
    }
    fs::write(folder.path().join("b.yaml"), "").unwrap();
    said(folder.path(), "holds no configuration in its *.yaml");
    let error = load_once(&folder.path().join("no.yaml"), None, "ns", &*compile()).err().unwrap();
    assert!(format!("{error:#}").contains("no.yaml: No such file"), "{error:#}");
}

fn texts(built: &Built) -> Vec<String> {
    built.errors.iter().map(ToString::to_string).collect()
}

type Answers = &'static [(u16, &'static str)];

/// A stand-in for the API server: answers each request for ConfigMaps, and each for Namespaces, with the next line,
/// then stays silent.
fn client(config_maps: Answers, namespaces: Answers) -> Client {
    let asked = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let service = tower::service_fn(move |request: hyper::Request<kube::client::Body>| {
        let of_namespaces = request.uri().path() == "/api/v1/namespaces";
        let accepts = request.headers().get("accept").and_then(|kinds| kinds.to_str().ok()).unwrap_or_default();
        assert_eq!(accepts.contains("PartialObjectMetadata"), of_namespaces, "of Namespaces the metadata is enough");
        let answers = if of_namespaces { namespaces } else { config_maps };
        let number = asked[usize::from(of_namespaces)].fetch_add(1, Ordering::SeqCst) as usize;
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
async fn configmaps_are_followed_through_errors() {
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
    let mut handle = start_at(source, None, "podgraft".into(), compile(), QUICK);
    assert!(!*handle.ready.borrow());
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["r"]).await;
}

/// Waits until this can be read, or cannot.
async fn is_read(handle: &mut Handle, origin: ConfigSource, expected: bool) {
    let is_up = |readings: &SourceStatus| readings.get(&origin).is_some_and(|error| error.is_none() == expected);
    handle.readings.wait_for(is_up).await.unwrap();
}

/// The watch goes on where it was, and as nothing has changed no event says so.
#[tokio::test]
async fn configmaps_that_can_be_read_again_are_known_to_be_before_any_changes() {
    let said = Said::default();
    let _guard = said.listen();
    let client = client(&[(200, NO_CONFIG_MAPS), (403, FORBIDDEN), (200, "")], &[]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_at(source, None, "podgraft".into(), compile(), QUICK);
    assert!(handle.readings.borrow().is_empty(), "nobody has looked yet");
    // that they could be read at first is gone at once
    for expected in [false, true] {
        is_read(&mut handle, ConfigSource::ConfigMaps, expected).await;
    }
    let text = said.text();
    let counts =
        ["cannot read the ConfigMaps", "can read again: the ConfigMaps"].map(|line| text.matches(line).count());
    assert_eq!(counts, [1, 1], "{text}");
    assert!(!handle.readings.borrow().contains_key(&ConfigSource::Namespaces), "they have not answered yet");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_without_configuration_is_ready() {
    let source = Source::Cluster { client: client(&[(200, NO_CONFIG_MAPS)], &[]), namespace: "podgraft".into() };
    let mut handle = start_at(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    assert_eq!(handle.status.borrow().problems.len(), 0);
}

/// Waits until the snapshot that serves knows these policies of these namespaces.
async fn has_levels(handle: &Handle, expected: &[(&str, Option<&str>)]) {
    let there = || {
        let snapshot = handle.snapshot.load();
        let policy = |namespace: &str| snapshot.pod_security.for_namespace(namespace).map(|policy| policy.to_string());
        expected.iter().all(|(namespace, wanted)| policy(namespace).as_deref() == *wanted)
    };
    while !there() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_levels_are_followed_and_make_no_new_snapshot() {
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
    let mut handle = start_at(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    has_levels(&handle, &[("ml", Some("restricted:v1.30")), ("free", None), ("gone", None), ("plain", None)]).await;
    assert_eq!((loads(&mut handle, 0).await.loads, handle.snapshot.load().generation), (1, 1));
}

/// What is logged, by this thread.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// Listens to this thread until both are dropped. The second one hears nothing: were there only one, a line that
    /// another test's thread, to which nobody listens, comes to first would be switched off for all threads.
    fn listen(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let writer = self.clone();
        let lines = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
        (tracing::subscriber::set_default(lines), second)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[tokio::test]
async fn the_log_says_loaded_when_it_is_and_what_is_the_agents() {
    let (said, folder) = (Said::default(), tempfile::tempdir().unwrap());
    let _guard = said.listen();
    let file = folder.path().join("a.yaml");
    fs::write(&file, format!("{HEAD}queues: [\n")).unwrap();
    let mut handle = watch_path(folder.path(), None);
    loads(&mut handle, 0).await;
    assert!(said.text().contains(NOT_READY) && !said.text().contains("configuration loaded"), "{}", said.text());
    fs::write(&file, format!("{HEAD}createQueues: true\nqueues: {{a: {{}}}}\n")).unwrap();
    is_ready(&mut handle).await;
    has_queues(&mut handle, &["a"]).await;
    assert!(said.text().contains("configuration loaded"), "{}", said.text());
    let notice = "configuration: a.yaml:3:1: createQueues: is a key of the ClearML agent: podgraft ignores it";
    assert_eq!(said.text().matches(notice).count(), 1, "{}", said.text());
}

#[tokio::test]
async fn where_namespaces_may_not_be_read_that_is_said_once_and_nothing_waits_for_it() {
    const LIST: &str = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[
        {"metadata":{"name":"ml","labels":{"pod-security.kubernetes.io/warn":"baseline"}}}]}"#;
    let said = Said::default();
    let _guard = said.listen();
    let client = client(&[(200, NO_CONFIG_MAPS)], &[(403, FORBIDDEN), (403, FORBIDDEN), (200, LIST)]);
    let source = Source::Cluster { client, namespace: "podgraft".into() };
    let mut handle = start_at(source, None, "podgraft".into(), compile(), QUICK);
    is_ready(&mut handle).await;
    has_levels(&handle, &[("ml", None)]).await;
    // the right is given
    has_levels(&handle, &[("ml", Some("baseline:latest"))]).await;
    let text = said.text();
    let counts =
        ["cannot read the Namespaces", "can read again: the Namespaces"].map(|line| text.matches(line).count());
    assert_eq!(counts, [1, 1], "{text}");
}
