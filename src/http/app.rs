//! The composition root of `podgraft serve`: builds its parts, starts them in order and shuts them down in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::http::admin::Admin;
use crate::http::admission::pool::{Limits, Pool};
use crate::http::admission::{Admission, Mutate, Reviewer};
use crate::http::metrics::Metrics;
use crate::http::server::tls::client_verifier::{ClientAuth, ClientVerifier};
use crate::http::server::tls::{CertificatePaths, Certificates, MinTlsVersion};
use crate::http::server::{ADMIN_CONNECTIONS, Server, ShutdownPhase, Timeouts};
use crate::model::snapshot::Snapshot;
use crate::wasm::Engine;
use crate::watch as config;

/// The settings of `podgraft serve`.
#[derive(Debug, Clone)]
pub struct Settings {
    /// address of the webhook's port
    pub listen: SocketAddr,
    /// address of the admin port, which has no TLS
    pub admin_listen: SocketAddr,
    /// files of the serving certificate and its key
    pub files: CertificatePaths,
    /// requirements on client certificates; without them every client may connect
    pub client_auth: Option<ClientAuth>,
    /// lowest TLS version that is accepted
    pub min_tls_version: MinTlsVersion,
    /// maximum open connections of the webhook's port
    pub connections: usize,
    /// folder with further modules
    pub policies: Option<PathBuf>,
    /// source of the configuration
    pub source: Source,
    /// interval at which files are polled
    pub poll: Duration,
    /// time for which a drain still accepts connections
    pub drain_grace: Duration,
    /// time limits for clients
    pub timeouts: Timeouts,
    /// limits of the module threads
    pub limits: Limits,
}

/// The source of the configuration.
#[derive(Debug, Clone)]
pub enum Source {
    /// the ConfigMaps of this namespace
    Cluster(String),
    /// this file or folder; no cluster is used
    Local(PathBuf),
}

/// The watched configuration, as the servers see it.
#[derive(Debug)]
pub struct SharedConfig {
    /// the current snapshot
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// true once a configuration has been loaded
    pub loaded: watch::Receiver<bool>,
}

/// The way in which the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// every request was answered
    Drained,
    /// a second signal dropped the in-flight requests
    Forced,
}

/// The running servers: the webhook's and the admin port's.
#[derive(Debug)]
pub struct App {
    /// bound address of the webhook's port
    pub address: SocketAddr,
    /// bound address of the admin port
    pub admin_address: SocketAddr,
    phase: watch::Sender<ShutdownPhase>,
    webhook: JoinHandle<()>,
    /// a phase of its own: probes and scrapes are answered until the webhook's last request is
    admin_phase: watch::Sender<ShutdownPhase>,
    admin: JoinHandle<()>,
}

/// Serves until a signal, then drains.
///
/// # Errors
/// The configuration, the certificate, a port or a thread cannot be had at the start.
pub async fn serve(settings: Settings) -> anyhow::Result<Shutdown> {
    let mut signals = Signals::listen()?;
    install_panic_hook();
    raise_open_file_limit();
    let metrics = Arc::new(Metrics::default());
    let watched = start_config_watch(&settings, &metrics).await?;
    let config = SharedConfig { snapshot: Arc::clone(&watched.snapshot), loaded: watched.ready.clone() };
    let app = App::start(&settings, config, Arc::new(Mutate), metrics).await?;
    signals.next().await;
    info!(grace_s = settings.drain_grace.as_secs(), "draining: not ready, still serving");
    tokio::select! {
        () = app.drain(settings.drain_grace) => {
            info!("drained: all requests are answered");
            Ok(Shutdown::Drained)
        }
        () = signals.next() => {
            warn!("second signal: in-flight requests are dropped");
            Ok(Shutdown::Forced)
        }
    }
}

/// Starts watching the configuration, and the tasks that keep its metrics up to date.
async fn start_config_watch(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<config::Handle> {
    let engine = Engine::new().context("cannot start the module engine")?;
    let compile: config::Compile = Arc::new(move |name, bytes| engine.compile(name, bytes));
    let (source, namespace) = match &settings.source {
        Source::Local(path) => (config::Source::Path(path.clone()), String::new()),
        Source::Cluster(namespace) => {
            let client = kube::Client::try_default().await.context(
                "cannot connect to the API server: --namespace needs a pod's service account or a KUBECONFIG; without a cluster use --config",
            )?;
            (config::Source::Cluster { client, namespace: namespace.clone() }, namespace.clone())
        }
    };
    let handle = config::start(source, settings.policies.clone(), namespace, compile, settings.poll);
    let (mut sources, source_metrics) = (handle.sources.clone(), Arc::clone(metrics));
    tokio::spawn(async move {
        while sources.changed().await.is_ok() {
            for (source, error) in sources.borrow_and_update().iter() {
                source_metrics.config_source(*source, error.is_none());
            }
        }
    });
    let (mut status, metrics) = (handle.status.clone(), Arc::clone(metrics));
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let (generation, errors) = {
                let status = status.borrow_and_update();
                (status.generation, status.errors.len())
            };
            metrics.config_loaded(generation, errors);
        }
    });
    Ok(handle)
}

// === impl App ===

impl App {
    /// Binds both ports and serves. The certificate is read first, so that no port is bound with an invalid one.
    ///
    /// # Errors
    /// The certificate or the client CA is invalid, or a port or a thread cannot be had.
    pub async fn start(
        settings: &Settings,
        config: SharedConfig,
        reviewer: Arc<dyn Reviewer>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let certificates = Certificates::load(settings.files.clone(), Arc::clone(&metrics))?;
        let clients =
            settings.client_auth.clone().map(|auth| ClientVerifier::load(auth, Arc::clone(&metrics))).transpose()?;
        let pool = Pool::start(settings.limits).context("cannot start the module threads")?;
        let listener = bind("--listen", settings.listen).await?;
        let admin_listener = bind("--admin-listen", settings.admin_listen).await?;
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);

        let (phase, webhook_phase) = watch::channel(ShutdownPhase::Serving);
        let webhook = Server {
            router: Admission::new(reviewer, config.snapshot, pool, Arc::clone(&metrics)).routes(),
            tls: Some(certificates.server_config(settings.min_tls_version, clients.as_ref())?),
            timeouts: settings.timeouts,
            connections: settings.connections,
            metrics: Arc::clone(&metrics),
            phase: webhook_phase.clone(),
        };
        let admin =
            Admin { loaded: config.loaded, phase: webhook_phase, metrics: Arc::clone(&metrics), certificates, clients };
        let (admin_phase, own_phase) = watch::channel(ShutdownPhase::Serving);
        let admin = Server {
            router: admin.routes(),
            tls: None,
            timeouts: settings.timeouts,
            connections: ADMIN_CONNECTIONS,
            metrics,
            phase: own_phase,
        };
        info!(%address, %admin_address, "listening");
        Ok(Self {
            address,
            admin_address,
            phase,
            webhook: tokio::spawn(webhook.run(listener)),
            admin_phase,
            admin: tokio::spawn(admin.run(admin_listener)),
        })
    }

    /// Drains: fails readiness, serves with `Connection: close` for the grace period, stops accepting, waits for
    /// in-flight requests. The admin port stops last.
    pub async fn drain(self, grace: Duration) {
        self.phase.send_replace(ShutdownPhase::Draining);
        sleep(grace).await;
        self.phase.send_replace(ShutdownPhase::Closing);
        log_join_error("webhook", self.webhook.await);
        self.admin_phase.send_replace(ShutdownPhase::Closing);
        log_join_error("admin", self.admin.await);
    }
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: cannot listen"))
}

fn log_join_error(server: &str, result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result {
        error!(server, %error, "accept loop failed");
    }
}

// === Signals ===

/// SIGTERM from the kubelet and SIGINT from a terminal; both shut down.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot receive signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Raises the limit of open files to the hard limit. Container runtimes give a soft limit of 1024, which the
/// connections alone would need.
fn raise_open_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, current = limit.current, "cannot raise the limit of open files");
    }
}

/// Logs panics by their source location only, because a panic's message may quote a pod.
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(location, thread = thread::current().name(), "panic: this is a bug in podgraft, please report it");
    }));
}
