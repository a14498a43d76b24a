//! `podgraft serve`.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::http::admission::go_duration;
use crate::http::admission::pool::Limits;
use crate::http::app::{self, Settings, Shutdown, Source};
use crate::http::server::tls::client_verifier::ClientAuth;
use crate::http::server::tls::{CertificatePaths, MinTlsVersion};
use crate::http::server::{CONNECTIONS, Timeouts};
use crate::watch;

/// Run the webhook: an HTTPS server that answers the API server's AdmissionReviews.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  In a cluster, with the configuration in the ConfigMaps of its own namespace:
    podgraft serve --namespace podgraft --tls-cert /tls/tls.crt --tls-key /tls/tls.key

  On a desk, without a cluster:
    podgraft serve --config podgraft.yaml --listen 127.0.0.1:8443 --admin-listen 127.0.0.1:8080 \\
      --tls-cert certs/tls.crt --tls-key certs/tls.key

  For an API server whose AdmissionConfiguration gives it a certificate for webhooks:
    podgraft serve --namespace podgraft --tls-cert /tls/tls.crt --tls-key /tls/tls.key \\
      --client-ca /clients/ca.crt --client-name kube-apiserver

SIGTERM or SIGINT drains: not ready at once, still serving for --drain-grace, then
every request under way is answered. A second one ends at once.

Exit codes: 0 drained, 1 ended at once with requests under way, 2 wrong usage or configuration.")]
pub(super) struct Args {
    /// Where the API server finds the webhook
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,

    /// Where health (/healthz, /readyz) and Prometheus metrics (/metrics) are, without TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    admin_listen: SocketAddr,

    /// The certificate chain, PEM, the server's own first; read again whenever the file changes
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,

    /// The certificate's private key, PEM; read again whenever the file changes
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,

    /// Let only clients in that have a certificate of these authorities, PEM; read again whenever the file changes
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// With --client-ca: a client's certificate must have this common name or DNS name; may be given more than once
    #[arg(long, value_name = "NAME", requires = "client_ca")]
    client_name: Vec<String>,

    /// The oldest version of TLS that is spoken
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    tls_min_version: TlsVersion,

    /// Open connections at most; who comes then takes the place of whoever was of no use for the longest
    #[arg(long, value_name = "NUMBER", default_value_t = CONNECTIONS, value_parser = connections)]
    max_connections: usize,

    #[command(flatten)]
    configuration: Configuration,

    /// How often the files of --config and --policies are looked at
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive)]
    config_poll: Duration,

    /// Modules (.wasm) that are too large for a ConfigMap
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,

    /// How long to go on accepting after SIGTERM, until no API server has the old endpoint any more
    // Endpoints take a second or two to spread, seconds more in large clusters; with the 10 s that the last request
    // may take, this stays well below a pod's terminationGracePeriodSeconds of 30.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    drain_grace: Duration,

    /// How the log on stderr looks
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "PODGRAFT_LOG_FORMAT")]
    log_format: LogFormat,

    /// What is logged: error, warn, info, debug, trace, or as in `info,podgraft::http::server=debug`. What `kube_runtime`
    /// repeats at each attempt podgraft says once
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_runtime=error", env = "PODGRAFT_LOG", value_parser = log_level)]
    log_level: EnvFilter,
}

/// Where the configuration is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Configuration {
    /// Take the configuration from the ConfigMaps of this namespace, podgraft's own
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,

    /// Take the configuration from this file, or from all files of this directory; no cluster is needed
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
}

/// The versions of TLS that there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TlsVersion {
    /// and 1.3
    #[value(name = "1.2")]
    Tls12,
    /// alone
    #[value(name = "1.3")]
    Tls13,
}

impl From<TlsVersion> for MinTlsVersion {
    fn from(version: TlsVersion) -> Self {
        match version {
            TlsVersion::Tls12 => MinTlsVersion::Tls12,
            TlsVersion::Tls13 => MinTlsVersion::Tls13,
        }
    }
}

/// A filter. A bare word that is no level would be taken for the name of a module, and silence everything else.
fn log_level(text: &str) -> Result<EnvFilter, String> {
    let wrong = "must be error, warn, info, debug or trace, or as in info,podgraft::http::server=debug";
    let bare = text.split(',').filter(|part| !part.contains('='));
    if text.is_empty() || bare.map(str::parse::<LevelFilter>).any(|level| level.is_err()) {
        return Err(wrong.to_owned());
    }
    EnvFilter::builder().parse(text).map_err(|_| wrong.to_owned())
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// for people
    Text,
    /// one object a line
    Json,
}

/// Serves with one worker per core that the process may use.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { log_format, log_level, .. } = &args;
    log(*log_format, log_level.clone());
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let settings = args.settings(cores);
    if let Source::Local(path) = &settings.source {
        watch::must_exist("--config", path)?;
    }
    settings.policies.as_deref().map_or(Ok(()), |path| watch::must_exist("--policies", path))?;
    let ended = runtime.block_on(app::serve(settings))?;
    runtime.shutdown_background();
    Ok(match ended {
        Shutdown::Drained => ExitCode::SUCCESS,
        Shutdown::Forced => ExitCode::FAILURE,
    })
}

impl Args {
    fn settings(self, cores: usize) -> Settings {
        Settings {
            listen: self.listen,
            admin_listen: self.admin_listen,
            files: CertificatePaths { certificate: self.tls_cert, key: self.tls_key },
            client_auth: self.client_ca.map(|authorities| ClientAuth { authorities, names: self.client_name }),
            min_tls_version: self.tls_min_version.into(),
            connections: self.max_connections,
            policies: self.policies,
            source: self.configuration.source(),
            poll: self.config_poll,
            drain_grace: self.drain_grace,
            timeouts: Timeouts::default(),
            limits: Limits::for_cores(cores),
        }
    }
}

impl Configuration {
    fn source(self) -> Source {
        match (self.namespace, self.config) {
            (_, Some(path)) => Source::Local(path),
            (namespace, None) => Source::Cluster(namespace.unwrap_or_default()), // clap requires one of them
        }
    }
}

fn log(format: LogFormat, level: EnvFilter) {
    let lines = tracing_subscriber::fmt().with_env_filter(level).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    go_duration(text).ok_or_else(|| "is not a duration such as 10s or 500ms".to_owned())
}

fn positive(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|duration| match duration {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    })
}

/// An API server alone keeps 25 idle ones.
fn connections(text: &str) -> Result<usize, String> {
    let within = |number: &usize| (32..=100_000).contains(number);
    text.parse().ok().filter(within).ok_or_else(|| "is not a number from 32 to 100000".to_owned())
}
