//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager, without
//! nodes.
//!
//! The cluster tests and `make run` share it. Everything that it writes is in one temporary folder,
//! and its programs die with the process that started them, however that ends.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Read, Seek, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::certificates::{Authority, new_key};
use crate::process::{PATIENCE, Program, Scratch, Spawner, log_file, log_tail, wait_until};

/// The controllers that the tests need; with all of them the start takes four seconds longer. No
/// Deployment controller: nothing could run a Deployment's pods here.
const CONTROLLERS: &[&str] = &[
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller", // without it the roles admin, edit and view are empty
    "namespace-controller",
    "garbage-collector-controller",
    "resourcequota-controller",
    "job-controller",
    "replicaset-controller",
    "ephemeral-volume-controller",
    "persistentvolume-binder-controller",
    "persistentvolume-protection-controller",
    "persistentvolumeclaim-protection-controller",
];

/// The folder of the hostpath provisioner's volumes; the controller manager has no flag for it.
const HOSTPATH_VOLUMES: &str = "/tmp/hostpath_pv";

const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  verbs: [create, update, patch, delete]
  resources: [{group: '', resources: [pods]}, {group: batch, resources: [jobs]}]
- level: None
";

const STORAGE_CLASS: &str = "\
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: 'true'}
provisioner: kubernetes.io/host-path
";

/// The folder that holds `etcd`, `kube-apiserver`, `kube-controller-manager` and `kubectl`.
#[derive(Clone, Debug)]
pub struct ProgramDir(pub PathBuf);

impl ProgramDir {
    /// The folder that `PODGRAFT_CLUSTER_BIN` names, or else the one that `build.sh` finds or makes.
    pub fn find() -> Result<Self, String> {
        if let Some(folder) = env::var_os("PODGRAFT_CLUSTER_BIN") {
            return Ok(Self(folder.into()));
        }
        let script = crate::root().join("tests/cluster/build.sh");
        let output = Command::new(&script)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{}: {error}", script.display()))?;
        if !output.status.success() {
            return Err(format!("{}: {}", script.display(), output.status));
        }
        let folder = String::from_utf8_lossy(&output.stdout);
        Ok(Self(folder.trim_end().into()))
    }
}

/// The options of a control plane; the default is for most tests.
#[derive(Debug, Default)]
pub struct Options {
    /// The programs; [`ProgramDir::find`] when absent.
    pub programs: Option<ProgramDir>,
    /// Controllers beside those that always run, by their names in `--controllers`.
    pub extra_controllers: Vec<String>,
    /// Flags of the API server beside (and after) its own.
    pub extra_apiserver_flags: Vec<String>,
}

/// The result of a `kubectl` call.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// Its stdout; bytes that are no UTF-8 are replaced.
    pub stdout: String,
    /// Its stderr; bytes that are no UTF-8 are replaced.
    pub stderr: String,
}

impl Output {
    /// True if the call succeeded.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// A running control plane. Dropping it ends its programs and removes its files.
pub struct ControlPlane {
    kubectl: PathBuf,
    ports: Ports,
    etcd: Program,
    apiserver: Program,
    controllers: Program,
    ready_times: Vec<(&'static str, Duration)>,
    kubeconfigs: AtomicUsize,
    spawner: Spawner,
    // Last, as fields are dropped in this order: the folder goes when no program writes there any more.
    scratch: Scratch,
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves: the default `ServiceAccount` exists.
    pub fn start(options: Options) -> Result<Self, String> {
        let programs = options.programs.map_or_else(ProgramDir::find, Ok)?.0;
        let scratch = Scratch::new()?;
        let ports = Ports::free().map_err(|error| format!("free ports: {error}"))?;
        let dir = &scratch.path;
        write_files(dir, &ports)?;

        let server = |name, flags| Program::new(&programs, dir, name, flags);
        let mut apiserver_flags = apiserver_flags(dir, &ports);
        apiserver_flags.extend(options.extra_apiserver_flags);
        let mut cluster = Self {
            kubectl: programs.join("kubectl"),
            etcd: server("etcd", etcd_flags(dir, &ports)),
            apiserver: server("kube-apiserver", apiserver_flags),
            controllers: server("kube-controller-manager", controllers_flags(dir, &ports, &options.extra_controllers)),
            ports,
            ready_times: Vec::new(),
            kubeconfigs: AtomicUsize::new(0),
            spawner: Spawner::new(),
            scratch,
        };
        cluster.timed("etcd", Self::start_etcd)?;
        cluster.timed("kube-apiserver", Self::start_apiserver)?;
        cluster.timed("kube-controller-manager", Self::start_controllers)?;
        Ok(cluster)
    }

    fn timed(&mut self, name: &'static str, start: impl Fn(&Self) -> Result<(), String>) -> Result<(), String> {
        let started = Instant::now();
        start(self)?;
        self.ready_times.push((name, started.elapsed()));
        Ok(())
    }

    /// The time that each program took to become ready, in the order of their start.
    pub fn ready_times(&self) -> &[(&'static str, Duration)] {
        &self.ready_times
    }

    /// The folder of everything that belongs to this control plane; gone when it is.
    pub fn dir(&self) -> &Path {
        &self.scratch.path
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        self.ports.apiserver_url()
    }

    /// The PEM file of the authority that signed the API server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.dir().join("ca.crt")
    }

    /// A kubeconfig whose user may do everything (group `system:masters`).
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("admin.kubeconfig")
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_stdin_as(&self.kubeconfig(), arguments, "")
    }

    /// Runs `kubectl` as the administrator and gives it `stdin`.
    pub fn kubectl_stdin(&self, arguments: &[&str], stdin: &str) -> Output {
        self.kubectl_stdin_as(&self.kubeconfig(), arguments, stdin)
    }

    /// Runs `kubectl` as the user of `kubeconfig`.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        self.kubectl_stdin_as(kubeconfig, arguments, "")
    }

    /// Runs `kubectl` as the user of `kubeconfig` and gives it `stdin`.
    pub fn kubectl_stdin_as(&self, kubeconfig: &Path, arguments: &[&str], stdin: &str) -> Output {
        self.run_kubectl(kubeconfig, arguments, stdin).expect("kubectl can be run")
    }

    fn run_kubectl(&self, kubeconfig: &Path, arguments: &[&str], stdin: &str) -> io::Result<Output> {
        // A file, not a pipe: it need not be fed while the output is read.
        let mut input = tempfile::tempfile_in(self.dir())?;
        input.write_all(stdin.as_bytes())?;
        input.rewind()?;
        let output = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(arguments)
            // kubectl keeps a cache and reads preferences there.
            .env("HOME", self.dir())
            .stdin(input)
            .output()?;
        Ok(Output {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs `kubectl` as the administrator and gives its stdout; panics when it fails.
    #[track_caller]
    pub fn kubectl_ok(&self, arguments: &[&str]) -> String {
        expect_success(arguments, self.kubectl(arguments))
    }

    /// Applies the objects of a YAML text (server-side with `--server-side` is the caller's own
    /// call) and gives kubectl's stdout; panics when it fails.
    #[track_caller]
    pub fn apply(&self, yaml: &str) -> String {
        let arguments = ["apply", "-f", "-"];
        expect_success(&arguments, self.kubectl_stdin(&arguments, yaml))
    }

    /// Runs `kubectl get … -o json` and parses what it prints; panics when it fails.
    #[track_caller]
    pub fn get_json(&self, arguments: &[&str]) -> Value {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        let text = expect_success(&arguments, self.kubectl(&arguments));
        serde_json::from_str(&text).expect("kubectl -o json gives JSON")
    }

    /// Creates a namespace and waits until pods can be created there: its default `ServiceAccount`
    /// exists; panics when that fails.
    #[track_caller]
    pub fn create_namespace(&self, name: &str) {
        self.kubectl_ok(&["create", "namespace", name]);
        self.await_default_service_account(name).expect("a default ServiceAccount");
    }

    /// Makes a default `StorageClass` `standard`, whose volumes are folders of this machine.
    #[track_caller]
    pub fn create_storage_class(&self) {
        self.apply(STORAGE_CLASS);
    }

    /// Writes a kubeconfig with a token of a `ServiceAccount`, as `kubectl create token` gives it;
    /// panics when that fails.
    #[track_caller]
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        self.token_kubeconfig(namespace, name, &[])
    }

    /// Writes a kubeconfig with a token of a `ServiceAccount` that is bound to a pod, as a kubelet gives it to the pod.
    #[track_caller]
    pub fn pod_kubeconfig(&self, namespace: &str, name: &str, pod: &str) -> PathBuf {
        self.token_kubeconfig(namespace, name, &["--bound-object-kind=Pod", "--bound-object-name", pod])
    }

    #[track_caller]
    fn token_kubeconfig(&self, namespace: &str, name: &str, arguments: &[&str]) -> PathBuf {
        let token = self.kubectl_ok(&[&["create", "token", "-n", namespace, name], arguments].concat());
        let number = self.kubeconfigs.fetch_add(1, Ordering::Relaxed);
        let path = self.dir().join(format!("{namespace}-{name}-{number}.kubeconfig"));
        let text = kubeconfig_text(self.dir(), &self.url(), name, token.trim());
        fs::write(&path, text).expect("the kubeconfig can be written");
        path
    }

    /// The events that the API server audited: requests that change pods and Jobs, at level Request, with the
    /// annotations of webhooks. An event is written when its answer is, so wait for it.
    pub fn audit_events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.audit_log()).unwrap_or_default();
        // The last line may be half written.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The PEM file of the authority that signed the certificate which the API server shows webhooks.
    pub fn webhook_clients_file(&self) -> PathBuf {
        self.dir().join("webhook-clients.crt")
    }

    /// The file with one audit event a line.
    pub fn audit_log(&self) -> PathBuf {
        self.dir().join("audit.log")
    }

    /// The last lines that a program (`etcd`, `kube-apiserver`, `kube-controller-manager`) logged.
    pub fn log_tail(&self, program: &str) -> String {
        log_tail(&log_file(self.dir(), program))
    }

    /// Ends etcd as a crash does (asked politely, it waits seconds for the API server to leave). The
    /// API server stays and fails.
    pub fn stop_etcd(&self) {
        self.etcd.kill();
    }

    /// Lets etcd stand still: it keeps its connections and answers nothing.
    pub fn freeze_etcd(&self) -> Result<(), String> {
        self.etcd.signal("STOP")
    }

    /// Lets etcd go on, and waits until it is healthy.
    pub fn thaw_etcd(&self) -> Result<(), String> {
        self.etcd.signal("CONT")?;
        let address = loopback(self.ports.etcd);
        self.etcd.await_ready(|| etcd_is_healthy(address))
    }

    /// Starts etcd with the data it had, and waits until it is healthy.
    pub fn start_etcd(&self) -> Result<(), String> {
        self.etcd.start(&self.spawner)?;
        let address = loopback(self.ports.etcd);
        self.etcd.await_ready(|| etcd_is_healthy(address))
    }

    /// Ends the API server.
    pub fn stop_apiserver(&self) {
        self.apiserver.stop();
    }

    /// Starts the API server at the address it had, and waits until it is ready. Informers of
    /// others (the controller manager's too) may need some seconds more to come back.
    pub fn start_apiserver(&self) -> Result<(), String> {
        self.apiserver.start(&self.spawner)?;
        let address = loopback(self.ports.apiserver);
        self.apiserver.await_ready(|| {
            // Cheap, and most of the time spent waiting: kubectl is 50 ms of CPU a call.
            TcpStream::connect(address).map_err(|error| error.to_string())?;
            self.get_raw("/readyz").map(drop)
        })
    }

    fn start_controllers(&self) -> Result<(), String> {
        self.controllers.start(&self.spawner)?;
        self.controllers.await_ready(|| self.get_raw(DEFAULT_SERVICE_ACCOUNT).map(drop))
    }

    fn await_default_service_account(&self, namespace: &str) -> Result<(), String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        wait_until(&path, PATIENCE, || self.get_raw(&path).map(|_| Some(())))
    }

    fn get_raw(&self, path: &str) -> Result<String, String> {
        let arguments = ["get", "--request-timeout=5s", "--raw", path];
        let output = self.kubectl(&arguments);
        if output.success() { Ok(output.stdout) } else { Err(output.stderr) }
    }

    /// The hostpath provisioner's folders are outside of ours.
    fn remove_hostpath_volumes(&self) {
        if !Path::new(HOSTPATH_VOLUMES).exists() || !self.apiserver.is_running() {
            return;
        }
        let arguments = [
            "get",
            "persistentvolumes",
            "--request-timeout=5s",
            "-o",
            r#"jsonpath={range .items[*]}{.spec.hostPath.path}{"\n"}{end}"#,
        ];
        let Ok(output) = self.run_kubectl(&self.kubeconfig(), &arguments, "") else {
            return;
        };
        for path in output.stdout.lines().map(Path::new) {
            if path.parent() == Some(Path::new(HOSTPATH_VOLUMES)) {
                let _ = fs::remove_dir_all(path);
            }
        }
        // Stays when another control plane has volumes there.
        let _ = fs::remove_dir(HOSTPATH_VOLUMES);
    }
}

const DEFAULT_SERVICE_ACCOUNT: &str = "/api/v1/namespaces/default/serviceaccounts/default";

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Clients before servers, so that none waits for one that is gone.
        self.controllers.stop();
        self.remove_hostpath_volumes();
        self.apiserver.stop();
        self.etcd.stop();
    }
}

#[track_caller]
fn expect_success(arguments: &[&str], output: Output) -> String {
    assert!(output.success(), "kubectl {}: {}\n{}", arguments.join(" "), output.status, output.stderr.trim());
    output.stdout
}

/// Free ports of loopback, chosen together so that they differ.
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
    controllers: u16,
}

impl Ports {
    fn free() -> io::Result<Self> {
        let listeners = [(); 4].map(|()| TcpListener::bind(loopback(0)));
        let mut ports = [0; 4];
        for (port, listener) in ports.iter_mut().zip(listeners) {
            *port = listener?.local_addr()?.port();
        }
        let [etcd, etcd_peer, apiserver, controllers] = ports;
        Ok(Self { etcd, etcd_peer, apiserver, controllers })
    }

    fn apiserver_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.apiserver)
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Writes the files that the programs read: certificates, keys, tokens, kubeconfigs, the audit policy.
fn write_files(dir: &Path, ports: &Ports) -> Result<(), String> {
    let authority = Authority::new("podgraft test cluster")?;
    let (certificate, key) = authority.issue(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
    let accounts = new_key()?;
    let clients = Authority::new("podgraft test webhook clients")?;
    let (admin, controllers) = (random_token()?, random_token()?);
    let url = ports.apiserver_url();
    let tokens = format!(
        "{admin},admin,admin,system:masters\n\
         {controllers},system:kube-controller-manager,kube-controller-manager\n"
    );
    let files = [
        ("ca.crt", authority.pem()),
        ("apiserver.crt", certificate),
        ("apiserver.key", key),
        ("accounts.pub", accounts.public_key_pem()),
        ("accounts.key", accounts.serialize_pem()),
        ("tokens.csv", tokens),
        ("audit-policy.yaml", AUDIT_POLICY.into()),
        ("webhook-clients.crt", clients.pem()),
        ("admission.yaml", admission_configuration(dir)),
        ("webhooks.kubeconfig", webhook_kubeconfig(&clients)?),
        ("admin.kubeconfig", kubeconfig_text(dir, &url, "admin", &admin)),
        ("controllers.kubeconfig", kubeconfig_text(dir, &url, "kube-controller-manager", &controllers)),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The configuration by which the API server presents a certificate to webhooks.
fn admission_configuration(dir: &Path) -> String {
    let plugin = |name: &str| {
        json!({
            "name": name,
            "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "WebhookAdmissionConfiguration",
                "kubeConfigFile": dir.join("webhooks.kubeconfig"),
            },
        })
    };
    let plugins = ["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"].map(plugin);
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins})
        .to_string()
}

/// A certificate for the API server as a client of every webhook. The user's name is a pattern for the webhook's
/// host, as the API server looks it up.
fn webhook_kubeconfig(clients: &Authority) -> Result<String, String> {
    let (certificate, key) = clients.issue_to_client("kube-apiserver", &[])?;
    let data = |text: String| BASE64_STANDARD.encode(text);
    let user = json!({"client-certificate-data": data(certificate), "client-key-data": data(key)});
    let config = json!({"apiVersion": "v1", "kind": "Config", "users": [{"name": "*", "user": user}]});
    Ok(config.to_string())
}

/// A kubeconfig; JSON is YAML, and quotes itself.
fn kubeconfig_text(dir: &Path, url: &str, user: &str, token: &str) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "podgraft",
        "contexts": [{"name": "podgraft", "context": {"cluster": "podgraft", "user": user}}],
        "clusters": [{
            "name": "podgraft",
            "cluster": {"server": url, "certificate-authority": dir.join("ca.crt")},
        }],
        "users": [{"name": user, "user": {"token": token}}],
    })
    .to_string()
}

/// A bearer token that cannot be guessed: a fresh public key, which is never shown.
fn random_token() -> Result<String, String> {
    let mut token = String::new();
    for byte in &new_key()?.public_key_raw()[1..33] {
        write!(token, "{byte:02x}").map_err(|error| error.to_string())?;
    }
    Ok(token)
}

fn etcd_flags(dir: &Path, ports: &Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        format!("--data-dir={}", dir.join("etcd").display()),
        "--unsafe-no-fsync".into(), // the data need not survive the machine
        "--log-level=warn".into(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

fn apiserver_flags(dir: &Path, ports: &Ports) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".into(),
        // The machine may have no other network than loopback.
        "--advertise-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={}", ports.apiserver),
        file("cert-dir", "apiserver"),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("client-ca-file", "ca.crt"),
        file("token-auth-file", "tokens.csv"),
        "--authorization-mode=RBAC".into(),
        format!("--service-account-issuer={}", ports.apiserver_url()),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        "--allow-privileged=true".into(),
        // Without it, watches hold up the end of the process for up to a minute.
        "--shutdown-watch-termination-grace-period=1s".into(),
        file("audit-policy-file", "audit-policy.yaml"),
        file("admission-control-config-file", "admission.yaml"),
        file("audit-log-path", "audit.log"),
    ]
}

fn controllers_flags(dir: &Path, ports: &Ports, extra: &[String]) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    let mut controllers = CONTROLLERS.join(",");
    for name in extra {
        controllers = controllers + "," + name;
    }
    vec![
        file("kubeconfig", "controllers.kubeconfig"),
        file("authentication-kubeconfig", "controllers.kubeconfig"),
        file("authorization-kubeconfig", "controllers.kubeconfig"),
        "--bind-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.controllers),
        file("cert-dir", "controllers"),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        file("service-account-private-key-file", "accounts.key"),
        file("root-ca-file", "ca.crt"),
        "--enable-hostpath-provisioner".into(),
        // Its own limits are for one cluster of people, not for tests side by side.
        "--kube-api-qps=500".into(),
        "--kube-api-burst=1000".into(),
        format!("--controllers={controllers}"),
    ]
}

fn etcd_is_healthy(address: SocketAddr) -> Result<(), String> {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: io::Error| error.to_string())?;
    if answer.contains(r#""health":"true""#) { Ok(()) } else { Err(answer) }
}
