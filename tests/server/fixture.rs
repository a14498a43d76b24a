//! The server inside the test, with a reviewer that does what the test needs.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bumpalo::Bump;
use podgraft::http::admission::Reviewer;
use podgraft::http::admission::pool::Limits;
use podgraft::http::app::{App, Settings, SharedConfig, Source};
use podgraft::http::metrics::Metrics;
use podgraft::http::server::tls::client_verifier::ClientAuth;
use podgraft::http::server::tls::{CertificatePaths, MinTlsVersion};
use podgraft::http::server::{CONNECTIONS, Timeouts};
use podgraft::model::denial::Denial;
use podgraft::model::hook::Execution;
use podgraft::model::snapshot::Snapshot;
use podgraft::mutate::{Answer, Outcome, Verdict};
use podgraft_testkit::client::accepting_any;
use podgraft_testkit::mounted_secret::MountedSecret;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::client::{Client, connect, get};

pub(crate) type Judge = dyn Fn(&[u8], Execution<'_>) -> Verdict + Send + Sync;

pub(crate) struct Fake(Box<Judge>);

impl Fake {
    pub(crate) fn new(judge: impl Fn(&[u8], Execution<'_>) -> Verdict + Send + Sync + 'static) -> Self {
        Self(Box::new(judge))
    }
}

impl Reviewer for Fake {
    fn answer(&self, body: &[u8], _: &Snapshot, execution: Execution<'_>, _: &Bump) -> Verdict {
        (self.0)(body, execution)
    }

    fn deny(&self, _: &[u8], Denial { reason, message }: Denial) -> Answer {
        let answer = answer(format!("{} {} {message}", reason.code(), reason.name()));
        Answer { outcome: Outcome::Denied, reason: Some(reason.name()), ..answer }
    }
}

/// `{}` is answered at once; anything else is a module of that name, which waits at the gate.
pub(crate) fn gated(gate: &Arc<Gate>) -> Arc<dyn Reviewer> {
    let gate = Arc::clone(gate);
    Arc::new(Fake::new(move |body, execution| match (body, execution) {
        (b"{}", _) => done("fast"),
        (name, Execution::Inline) => Verdict::NeedsPool(String::from_utf8_lossy(name).into_owned()),
        // no time for any module: this one may not fail
        (name, Execution::Pooled(left)) if left().is_zero() => {
            Verdict::NeedsPool(String::from_utf8_lossy(name).into_owned())
        }
        (name, Execution::Pooled(_)) => {
            gate.pass();
            done(String::from_utf8_lossy(name))
        }
    }))
}

pub(crate) fn done(body: impl Into<String>) -> Verdict {
    Verdict::Done(answer(body))
}

pub(crate) fn answer(body: impl Into<String>) -> Answer {
    let run = podgraft::mutate::ModuleRun {
        name: "nfs".to_owned(),
        elapsed: Duration::from_millis(1),
        error: Some("trapped".to_owned()),
        logs: Vec::new(),
    };
    Answer {
        status: 200,
        body: body.into().into_bytes(),
        outcome: Outcome::Unchanged,
        reason: None,
        message: None,
        queue: Some("gpu".to_owned()),
        uid: "u".to_owned(),
        namespace: "n".to_owned(),
        name: "p".to_owned(),
        operations: 0,
        modules: vec![run],
    }
}

/// A gate at which module threads wait until the test opens it.
#[derive(Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    came: AtomicUsize,
}

impl Gate {
    pub(crate) fn pass(&self) {
        self.came.fetch_add(1, Ordering::SeqCst);
        let closed = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(closed, |is_open| !*is_open).unwrap());
    }

    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(crate) fn passed(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    pub(crate) async fn wait_for(&self, count: usize) {
        until(async || self.passed() >= count).await;
    }
}

pub(crate) struct Fixture {
    pub(crate) reviewer: Arc<dyn Reviewer>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) loaded: watch::Receiver<bool>,
    pub(crate) client_auth: Option<ClientAuth>,
    pub(crate) min_tls_version: MinTlsVersion,
    pub(crate) connections: usize,
    pub(crate) snapshot: Snapshot,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self {
            reviewer: Arc::new(Fake::new(|body, _| done(format!("{} bytes", body.len())))),
            timeouts: Timeouts::default(),
            limits: Limits::for_cores(2),
            loaded: watch::channel(true).1,
            client_auth: None,
            min_tls_version: MinTlsVersion::default(),
            connections: CONNECTIONS,
            snapshot: Snapshot::default(),
        }
    }
}

pub(crate) struct Running {
    pub(crate) app: App,
    pub(crate) secret: MountedSecret,
}

/// Runs a test against a server, for at most half a minute.
pub(crate) fn run<F: Future<Output = ()>>(fixture: Fixture, test: impl FnOnce(Running) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let secret = MountedSecret::self_signed();
        let app = start(fixture, &secret).await.unwrap();
        let test = test(Running { app, secret });
        tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test waits in vain");
    });
    runtime.shutdown_background();
}

pub(crate) async fn start(fixture: Fixture, secret: &MountedSecret) -> anyhow::Result<App> {
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        files: CertificatePaths { certificate: secret.certificate(), key: secret.key() },
        client_auth: fixture.client_auth,
        min_tls_version: fixture.min_tls_version,
        connections: fixture.connections,
        policies: None,
        source: Source::Local("unused".into()),
        poll: Duration::from_secs(1),
        drain_grace: Duration::ZERO,
        timeouts: fixture.timeouts,
        limits: fixture.limits,
    };
    let config = SharedConfig { snapshot: Arc::new(ArcSwap::from_pointee(fixture.snapshot)), loaded: fixture.loaded };
    App::start(&settings, config, fixture.reviewer, Arc::new(Metrics::default())).await
}

pub(crate) fn start_error(secret: &MountedSecret) -> String {
    start_error_with(Fixture::new(), secret)
}

/// Starts with a valid certificate, which must fail, and returns the error.
pub(crate) fn start_error_of(fixture: Fixture) -> String {
    let secret = MountedSecret::self_signed();
    start_error_with(fixture, &secret)
}

fn start_error_with(fixture: Fixture, secret: &MountedSecret) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    format!("{:#}", runtime.block_on(start(fixture, secret)).unwrap_err())
}

impl Running {
    pub(crate) async fn connect(&self) -> Client<TlsStream<TcpStream>> {
        connect(self.app.address, &accepting_any()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.app.admin_address, path).await
    }

    pub(crate) async fn metrics(&self) -> String {
        self.get("/metrics").await.1
    }

    pub(crate) async fn until_metrics_say(&self, line: &str) {
        until(async || self.metrics().await.contains(line)).await;
    }
}

/// Asks again and again; the watchdog ends it.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        tokio::task::yield_now().await;
    }
}
