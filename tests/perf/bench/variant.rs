//! The servers that are compared, and the process that each runs in.

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::{io, process, thread};

use arc_swap::ArcSwap;
use bumpalo::Bump;
use podgraft::http::admission::pool::Limits;
use podgraft::http::admission::{Mutate, Reviewer};
use podgraft::http::app::{App, Settings, SharedConfig, Source};
use podgraft::http::metrics::Metrics;
use podgraft::http::server::tls::{CertificatePaths, MinTlsVersion};
use podgraft::http::server::{CONNECTIONS, Timeouts};
use podgraft::merge::layer::Layer;
use podgraft::model::denial::Denial;
use podgraft::model::hook::Execution;
use podgraft::model::snapshot::Snapshot;
use podgraft::mutate::{self, Answer, Outcome, Verdict};
use podgraft::wasm::Engine;
use tokio::sync::watch;

use crate::{fixture, naive};

/// The code that answers reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// the same bytes each time: what TLS, HTTP, metrics and the log cost
    Static,
    /// the obvious build
    Naive,
    /// podgraft with one layer
    OneLayer,
    /// podgraft with ten
    TenLayers,
    /// … that writes no line per request
    Quiet,
    /// … and a module that returns a fragment
    Fragment,
    /// … and a module that returns the whole template
    Template,
    /// … and queues whose modules misbehave
    Hostile,
}

/// Queues of [`Variant::Hostile`], named as their modules in `policies/misbehaving`.
pub(crate) const MISBEHAVING: [&str; 5] = ["loop", "memory", "stack", "output", "trap"];

impl Variant {
    pub(crate) const ALL: [Variant; 8] = [
        Variant::Static,
        Variant::Naive,
        Variant::OneLayer,
        Variant::TenLayers,
        Variant::Quiet,
        Variant::Fragment,
        Variant::Template,
        Variant::Hostile,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Variant::Static => "static",
            Variant::Naive => "naive",
            Variant::OneLayer => "one-layer",
            Variant::TenLayers => "ten-layers",
            Variant::Quiet => "quiet",
            Variant::Fragment => "fragment",
            Variant::Template => "template",
            Variant::Hostile => "hostile",
        }
    }

    pub(crate) fn layers(self) -> usize {
        if self == Variant::OneLayer { 1 } else { 10 }
    }

    pub(crate) fn has_module(self) -> bool {
        matches!(self, Variant::Fragment | Variant::Template | Variant::Hostile)
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|variant| variant.name() == name)
            .ok_or_else(|| format!("no variant is called {name}"))
    }
}

/// Serves until stdin ends; says on stdout where.
pub(crate) fn serve(variant: Variant, folder: &Path) {
    thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        process::exit(0);
    });
    // a line per request to stderr, as `podgraft serve` does by default
    let level = if variant == Variant::Quiet { "warn" } else { "info" };
    tracing_subscriber::fmt().with_env_filter(level).with_writer(io::stderr).with_ansi(false).init();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build().unwrap();
    runtime.block_on(async {
        let app = start(variant, folder, cores).await.unwrap();
        println!("{} {}", app.address, app.admin_address);
        io::stdout().flush().unwrap();
        std::future::pending::<()>().await;
    });
}

async fn start(variant: Variant, folder: &Path, cores: usize) -> anyhow::Result<App> {
    let layers = fixture::layers(variant.layers());
    let reviewer: Arc<dyn Reviewer> = match variant {
        Variant::Static => Arc::new(Fixed::new(&layers)),
        Variant::Naive => Arc::new(Naive(layers.clone())),
        _ => Arc::new(Mutate),
    };
    let snapshot = snapshot(variant, &layers)?;
    let settings = Settings {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        files: CertificatePaths { certificate: folder.join("tls.crt"), key: folder.join("tls.key") },
        client_auth: None,
        min_tls_version: MinTlsVersion::default(),
        connections: CONNECTIONS,
        policies: None,
        source: Source::Local("unused".into()),
        poll: std::time::Duration::from_secs(1),
        drain_grace: std::time::Duration::ZERO,
        timeouts: Timeouts::default(),
        limits: Limits::for_cores(cores),
    };
    let config = SharedConfig { snapshot: Arc::new(ArcSwap::from_pointee(snapshot)), loaded: watch::channel(true).1 };
    App::start(&settings, config, reviewer, Arc::new(Metrics::default())).await
}

fn snapshot(variant: Variant, layers: &[Layer]) -> anyhow::Result<Snapshot> {
    let engine = Engine::new()?;
    let modules = match variant {
        Variant::Template => vec![fixture::compile(&engine, "template", &fixture::template_module())],
        Variant::Fragment | Variant::Hostile => {
            vec![fixture::compile(&engine, "fragment", &fixture::fragment_module())]
        }
        _ => Vec::new(),
    };
    let mut snapshot = fixture::snapshot(layers, 10, &modules);
    if variant == Variant::Hostile {
        for name in MISBEHAVING {
            let module = fixture::compile(&engine, name, &fixture::misbehaving_module(name));
            fixture::add_module_queue(&mut snapshot, name, vec![module]);
        }
    }
    Ok(snapshot)
}

/// The reply that ten layers give, without any work.
struct Fixed(Vec<u8>);

impl Fixed {
    fn new(layers: &[Layer]) -> Self {
        let snapshot = fixture::snapshot(layers, 10, &[]);
        Self(fixture::answer(&fixture::ordinary_review(), &snapshot, &Bump::new()).body)
    }
}

impl Reviewer for Fixed {
    fn answer(&self, _: &[u8], _: &Snapshot, _: Execution<'_>, _: &Bump) -> Verdict {
        Verdict::Done(answer(self.0.clone()))
    }

    fn deny(&self, body: &[u8], denial: Denial) -> Answer {
        mutate::deny(body, denial)
    }
}

/// The obvious build.
struct Naive(Vec<Layer>);

impl Reviewer for Naive {
    fn answer(&self, body: &[u8], _: &Snapshot, _: Execution<'_>, _: &Bump) -> Verdict {
        Verdict::Done(answer(naive::answer(body, &self.0)))
    }

    fn deny(&self, body: &[u8], denial: Denial) -> Answer {
        mutate::deny(body, denial)
    }
}

/// An answer for log and metrics, as long as podgraft's.
fn answer(body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        body,
        outcome: Outcome::Patched,
        reason: None,
        message: None,
        queue: Some("1xgpu".to_owned()),
        uid: "52f78c63-ce7a-4393-853a-877a8d7a685a".to_owned(),
        namespace: "a".to_owned(),
        name: "clearml-id-0123456789abcdef".to_owned(),
        operations: 36,
        modules: Vec::new(),
    }
}
