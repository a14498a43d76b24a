//! `podgraft serve`: reads the flags of the webhook server and runs it.

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
  In a cluster, with the configuration in the ConfigMaps of podgraft's namespace:
    podgraft serve --namespace podgraft --tls-cert /tls/tls.crt --tls-key /tls/tls.key

  On a workstation, without a cluster:
    podgraft serve --config podgraft.yaml --listen 127.0.0.1:8443 --admin-listen 127.0.0.1:8080 \\
      --tls-cert certs/tls.crt --tls-key certs/tls.key

  For an API server that has a client certificate for webhooks (AdmissionConfiguration):
    podgraft serve --namespace podgraft --tls-cert /tls/tls.crt --tls-key /tls/tls.key \\
      --client-ca /clients/ca.crt --client-name kube-apiserver

SIGTERM or SIGINT drains: readiness fails at once, new requests are served for --drain-grace,
then in-flight requests are finished. A second signal ends the process at once.

Exit codes: 0 drained, 1 ended with in-flight requests, 2 wrong usage or configuration.")]
pub(super) struct Args {
    /// Address of the webhook (HTTPS)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    listen: SocketAddr,

    /// Address of health checks (/healthz, /readyz) and Prometheus metrics (/metrics), without TLS
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    admin_listen: SocketAddr,

    /// Certificate chain, PEM, the server's certificate first; reloaded when the file changes
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,

    /// Private key of the certificate, PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,

    /// Accept only clients with a certificate of these authorities, PEM; reloaded when the file changes
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// With --client-ca: the common name or DNS name that a client's certificate must have; may be repeated
    #[arg(long, value_name = "NAME", requires = "client_ca")]
    client_name: Vec<String>,

    /// Lowest TLS version
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    tls_min_version: TlsVersion,

    /// Maximum open connections; at the limit the longest-idle connection is closed
    #[arg(long, value_name = "NUMBER", default_value_t = CONNECTIONS, value_parser = connections)]
    max_connections: usize,

    #[command(flatten)]
    configuration: Configuration,

    /// Interval at which the files of --config and --policies are checked for changes
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = positive)]
    config_poll: Duration,

    /// Folder with template modules (*.wasm), for those that are too large for a ConfigMap
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,

    /// Time to accept new connections after SIGTERM, until the endpoint is removed everywhere
    // Endpoints take one or two seconds to spread, some seconds more in large clusters. Together with the 10 s that the
    // last request may take, the default stays well below a pod's terminationGracePeriodSeconds of 30.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    drain_grace: Duration,

    /// Format of the log on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "PODGRAFT_LOG_FORMAT")]
    log_format: LogFormat,

    /// Log level: error, warn, info, debug or trace, also per module: `info,podgraft::http::server=debug`.
    /// `kube_runtime` logs every failed attempt to watch, podgraft only the first
    #[arg(long, value_name = "LEVEL", default_value = "info,kube_runtime=error", env = "PODGRAFT_LOG", value_parser = log_level)]
    log_level: EnvFilter,
}

/// The flags that name the source of the configuration.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Configuration {
    /// Read the configuration from the ConfigMaps of this namespace, which must be podgraft's own
    #[arg(long, value_name = "NS")]
    namespace: Option<String>,

    /// Read the configuration from this file, or from all files of this folder, without a cluster
    #[arg(long, value_name = "FILE|DIR")]
    config: Option<PathBuf>,
}

/// The supported TLS versions.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TlsVersion {
    /// TLS 1.2 and 1.3
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3 only
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

/// Parses a log filter. [`EnvFilter`] would take a bare word that is no level for the name of a module, and silence all
/// other modules.
fn log_level(text: &str) -> Result<EnvFilter, String> {
    let message = "must be error, warn, info, debug or trace, or as in info,podgraft::http::server=debug";
    let bare = text.split(',').filter(|part| !part.contains('='));
    if text.is_empty() || bare.map(str::parse::<LevelFilter>).any(|level| level.is_err()) {
        return Err(message.to_owned());
    }
    EnvFilter::builder().parse(text).map_err(|_| message.to_owned())
}

/// The formats of the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// text for humans
    Text,
    /// one JSON object a line
    Json,
}

/// Runs the server with one worker thread per core that the process may use.
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
        Duration::ZERO => Err("must be above zero".to_owned()),
        duration => Ok(duration),
    })
}

/// Parses the connection limit. Its minimum is above the 25 idle connections that one API server keeps.
fn connections(text: &str) -> Result<usize, String> {
    let within = |number: &usize| (32..=100_000).contains(number);
    text.parse().ok().filter(within).ok_or_else(|| "is not a number from 32 to 100000".to_owned())
}
