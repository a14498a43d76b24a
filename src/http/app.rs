//! The composition root of `podgraft serve`: what there is, and in which order it comes up and goes down.

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

/// What `podgraft serve` was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// the webhook's port
    pub listen: SocketAddr,
    /// the plain port
    pub admin_listen: SocketAddr,
    /// certificate and key
    pub files: CertificatePaths,
    /// whose certificates let a client in; without it anybody may connect
    pub trust: Option<ClientAuth>,
    /// the oldest version of TLS
    pub oldest_tls: MinTlsVersion,
    /// open connections of the webhook's port at most
    pub connections: usize,
    /// a directory of modules beside the configuration's own
    pub policies: Option<PathBuf>,
    /// where the configuration is
    pub source: Source,
    /// how often files are looked at
    pub poll: Duration,
    /// how long a drain still accepts
    pub drain_grace: Duration,
    /// how long clients may take
    pub timeouts: Timeouts,
    /// the module threads
    pub limits: Limits,
}

/// Where the configuration is.
#[derive(Debug, Clone)]
pub enum Source {
    /// in the ConfigMaps of this namespace
    Cluster(String),
    /// in this file or directory; no cluster is asked
    Local(PathBuf),
}

/// What whoever watches the configuration gives to the rest.
#[derive(Debug)]
pub struct SharedConfig {
    /// the configuration of the moment
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// true from the first configuration on
    pub loaded: watch::Receiver<bool>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// everybody was answered
    Drained,
    /// a second signal came before that
    Forced,
}

/// A server that serves.
#[derive(Debug)]
pub struct App {
    /// where the webhook listens
    pub address: SocketAddr,
    /// where the plain port is
    pub admin_address: SocketAddr,
    stage: watch::Sender<ShutdownPhase>,
    webhook: JoinHandle<()>,
    /// The plain port outlives the webhook's: probes and scrapes go on until the last request is answered.
    admin_stage: watch::Sender<ShutdownPhase>,
    admin: JoinHandle<()>,
}

/// Serves until a signal says otherwise and everybody is answered.
pub async fn serve(settings: Settings) -> anyhow::Result<Shutdown> {
    let mut signals = Signals::listen()?;
    report_panics();
    raise_open_files();
    let metrics = Arc::new(Metrics::default());
    let config = start_config_watch(&settings, &metrics).await?;
    let world = SharedConfig { snapshot: Arc::clone(&config.snapshot), loaded: config.ready.clone() };
    let app = App::start(&settings, world, Arc::new(Mutate), metrics).await?;
    signals.next().await;
    info!(grace_s = settings.drain_grace.as_secs(), "draining: not ready from now on, still serving");
    tokio::select! {
        () = app.drain(settings.drain_grace) => {
            info!("drained, everybody is answered");
            Ok(Shutdown::Drained)
        }
        () = signals.next() => {
            warn!("second signal: requests under way are dropped");
            Ok(Shutdown::Forced)
        }
    }
}

/// Starts watching the configuration; what the metrics say of it follows by itself.
async fn start_config_watch(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<config::Handle> {
    let engine = Engine::new().context("the module engine cannot be started")?;
    let compile: config::Compile = Arc::new(move |name, bytes| engine.compile(name, bytes));
    let (source, namespace) = match &settings.source {
        Source::Local(path) => (config::Source::Path(path.clone()), String::new()),
        Source::Cluster(namespace) => {
            let client = kube::Client::try_default().await.context(
                "no way to the API server: --namespace needs a pod's service account or a KUBECONFIG; without a cluster use --config",
            )?;
            (config::Source::Cluster { client, namespace: namespace.clone() }, namespace.clone())
        }
    };
    let handle = config::start(source, settings.policies.clone(), namespace, compile, settings.poll);
    let (mut readings, of_readings) = (handle.readings.clone(), Arc::clone(metrics));
    tokio::spawn(async move {
        while readings.changed().await.is_ok() {
            for (source, error) in readings.borrow_and_update().iter() {
                of_readings.config_source(*source, error.is_none());
            }
        }
    });
    let (mut status, metrics) = (handle.status.clone(), Arc::clone(metrics));
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let (generation, problems) = {
                let now = status.borrow_and_update();
                (now.generation, now.problems.len())
            };
            metrics.config_loaded(generation, problems);
        }
    });
    Ok(handle)
}

// === impl App ===

impl App {
    /// Binds both ports and serves. Nothing is bound before the certificate is known to be sound.
    pub async fn start(
        settings: &Settings,
        world: SharedConfig,
        reviewer: Arc<dyn Reviewer>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let certificates = Certificates::load(settings.files.clone(), Arc::clone(&metrics))?;
        let clients =
            settings.trust.clone().map(|trust| ClientVerifier::load(trust, Arc::clone(&metrics))).transpose()?;
        let pool = Pool::start(settings.limits).context("the module threads cannot be started")?;
        let listener = bind("--listen", settings.listen).await?;
        let admin_listener = bind("--admin-listen", settings.admin_listen).await?;
        let (address, admin_address) = (listener.local_addr()?, admin_listener.local_addr()?);

        let (stage, staged) = watch::channel(ShutdownPhase::Serving);
        let webhook = Server {
            router: Admission::new(reviewer, world.snapshot, pool, Arc::clone(&metrics)).routes(),
            tls: Some(certificates.server_config(settings.oldest_tls, clients.as_ref())?),
            timeouts: settings.timeouts,
            connections: settings.connections,
            metrics: Arc::clone(&metrics),
            stage: staged.clone(),
        };
        let (admin_stage, admin_staged) = watch::channel(ShutdownPhase::Serving);
        let admin = Admin { loaded: world.loaded, stage: staged, metrics: Arc::clone(&metrics), certificates, clients };
        let admin = Server {
            router: admin.routes(),
            tls: None,
            timeouts: settings.timeouts,
            connections: ADMIN_CONNECTIONS,
            metrics,
            stage: admin_staged,
        };
        info!(%address, %admin_address, "listening");
        Ok(Self {
            address,
            admin_address,
            stage,
            webhook: tokio::spawn(webhook.run(listener)),
            admin_stage,
            admin: tokio::spawn(admin.run(admin_listener)),
        })
    }

    /// Goes down without dropping anybody: not ready at once, then for the grace everybody who comes is served and
    /// told not to come back on that connection, then nobody is accepted, then the last request is answered.
    pub async fn drain(self, grace: Duration) {
        self.stage.send_replace(ShutdownPhase::Draining);
        sleep(grace).await;
        self.stage.send_replace(ShutdownPhase::Closing);
        stopped("webhook", self.webhook.await);
        self.admin_stage.send_replace(ShutdownPhase::Closing);
        stopped("admin", self.admin.await);
    }
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: cannot listen there"))
}

fn stopped(server: &str, result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result {
        error!(server, %error, "the accept loop failed");
    }
}

// === Signals ===

/// SIGTERM from the kubelet, SIGINT from a terminal; both mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Container runtimes give a soft limit of 1024 open files, which the connections alone would need.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Err(error) = raised {
        warn!(%error, current = limit.current, "the limit of open files cannot be raised");
    }
}

/// A panic's own text may quote a pod, so the log gets only the place.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(place, thread = thread::current().name(), "panic: a defect of podgraft, please report it");
    }));
}
