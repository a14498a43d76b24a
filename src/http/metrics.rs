//! The Prometheus metrics.
//!
//! Label values come from closed sets or from the configuration, never from a pod, so that pods cannot make the number
//! of series grow.

use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::mutate::{Answer, ModuleRun, Outcome};
use crate::watch::ConfigSource;

/// Buckets of request durations, in seconds. Most requests take some 50 us, while the API server's own smallest bucket
/// is 5 ms; the last bucket is the longest request timeout.
const REQUEST_BUCKETS: [f64; 15] =
    [25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 10.0];

/// Buckets of module calls, in seconds. 1 and 2 ms are the limits of inline calls.
const MODULE_BUCKETS: [f64; 11] = [10e-6, 20e-6, 50e-6, 100e-6, 500e-6, 1e-3, 2e-3, 10e-3, 50e-3, 0.2, 1.0];

/// All series of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    durations: Family<OutcomeLabel, Histogram, fn() -> Histogram>,
    requests: Family<RequestLabels, Counter>,
    denials: Family<DenialLabels, Counter>,
    in_flight: Gauge,
    waiting: Gauge,
    panics: Counter,
    module_durations: Family<ModuleLabel, Histogram, fn() -> Histogram>,
    module_errors: Family<ModuleLabel, Counter>,
    module_offloads: Family<ModuleLabel, Counter>,
    generation: Gauge,
    loaded: Gauge,
    config_errors: Gauge,
    sources_up: Family<SourceLabel, Gauge>,
    not_after: Gauge,
    certificate_failures: Counter,
    connections: Gauge,
    timeouts: Family<TimeoutLabel, Counter>,
    evictions: Counter,
    handshake_errors: Family<HandshakeErrorLabel, Counter>,
    shed: Family<ShedLabel, Counter>,
}

/// The phase of a connection that exceeded its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutPhase {
    /// the TLS handshake
    Handshake,
    /// idle keep-alive between requests
    Idle,
    /// the client sends a request
    Receiving,
    /// the client reads the reply
    Replying,
}

/// The cause of a failed TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// the client sent no certificate, and one is required
    NoCertificate,
    /// the client's certificate is from another CA, or not valid now
    Untrusted,
    /// the client's certificate has none of the allowed names
    OtherName,
    /// the client sent an alert, mostly because it does not trust the serving certificate
    ClientAlert,
    /// no common version or cipher suite, or no TLS at all
    Protocol,
    /// the client closed the connection
    Closed,
}

/// The reason why a request was shed under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShedReason {
    /// no memory for the body before the deadline
    Memory,
    /// the queue for the module is full
    QueueFull,
    /// the queue for the module is so long that the deadline would be missed
    TooLate,
    /// no module thread was free before the deadline
    NoThread,
    /// the module thread was not done at the deadline
    Unfinished,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    outcome: Outcome,
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DenialLabels {
    reason: &'static str,
    queue: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModuleLabel {
    module: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: ConfigSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeoutLabel {
    phase: TimeoutPhase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeErrorLabel {
    reason: HandshakeError,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShedLabel {
    reason: ShedReason,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("podgraft"),
            durations: Family::new_with_constructor(|| Histogram::new(REQUEST_BUCKETS)),
            requests: Family::default(),
            denials: Family::default(),
            in_flight: Gauge::default(),
            waiting: Gauge::default(),
            panics: Counter::default(),
            module_durations: Family::new_with_constructor(|| Histogram::new(MODULE_BUCKETS)),
            module_errors: Family::default(),
            module_offloads: Family::default(),
            generation: Gauge::default(),
            loaded: Gauge::default(),
            config_errors: Gauge::default(),
            sources_up: Family::default(),
            not_after: Gauge::default(),
            certificate_failures: Counter::default(),
            connections: Gauge::default(),
            timeouts: Family::default(),
            evictions: Counter::default(),
            handshake_errors: Family::default(),
            shed: Family::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    /// Registers all series with their names and help texts; the fields and the registry share them.
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "Version of this podgraft",
            Info::new([("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        );
        registry.register(
            "request_duration_seconds",
            "Time from the complete request to the reply",
            self.durations.clone(),
        );
        registry.register("requests", "Requests answered, by outcome and configured queue", self.requests.clone());
        registry.register("denials", "Pods denied, by reason and configured queue", self.denials.clone());
        registry.register("requests_in_flight", "Requests read and not yet answered", self.in_flight.clone());
        registry.register("requests_waiting", "Requests waiting for a module thread", self.waiting.clone());
        registry.register("panics", "Requests answered with 500 because of a bug in podgraft", self.panics.clone());
        registry.register("module_duration_seconds", "Duration of module calls", self.module_durations.clone());
        registry.register("module_errors", "Module calls that failed", self.module_errors.clone());
        registry.register(
            "module_offloads",
            "Requests moved to the module threads because of this module",
            self.module_offloads.clone(),
        );
        registry.register(
            "config_generation",
            "Number of configurations loaded by this process",
            self.generation.clone(),
        );
        registry.register(
            "config_loaded_timestamp_seconds",
            "Time at which the current configuration was loaded",
            self.loaded.clone(),
        );
        registry.register(
            "config_errors",
            "Errors in the newest configuration; the units concerned serve their last valid version, if they have one",
            self.config_errors.clone(),
        );
        registry.register(
            "config_source_up",
            "1 if this source of the configuration can be read; 0 if not, and its last state is used",
            self.sources_up.clone(),
        );
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "Expiry of the serving certificate",
            self.not_after.clone(),
        );
        registry.register(
            "certificate_reload_failures",
            "Failed reloads of the serving certificate or the client CA; the previous one is used",
            self.certificate_failures.clone(),
        );
        registry.register("connections", "Open connections of the webhook's port", self.connections.clone());
        registry.register(
            "connections_timed_out",
            "Connections closed because a phase exceeded its time limit",
            self.timeouts.clone(),
        );
        registry.register(
            "connections_evicted",
            "Idle connections closed at the limit to make room for new ones",
            self.evictions.clone(),
        );
        registry.register("tls_handshake_errors", "Failed TLS handshakes, by reason", self.handshake_errors.clone());
        registry.register(
            "requests_shed",
            "Requests shed under load: denied, or answered without the modules whose failure is ignored",
            self.shed.clone(),
        );
        self
    }

    /// Returns all series as `OpenMetrics` text.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn request(&self) -> InFlight {
        InFlight::new(&self.in_flight)
    }

    /// Counts a request as waiting for a module thread until the guard is dropped.
    pub(crate) fn waiting(&self) -> InFlight {
        InFlight::new(&self.waiting)
    }

    /// Counts a connection as open until the guard is dropped.
    pub(crate) fn connection(&self) -> InFlight {
        InFlight::new(&self.connections)
    }

    pub(crate) fn connection_timed_out(&self, phase: TimeoutPhase) {
        self.timeouts.get_or_create(&TimeoutLabel { phase }).inc();
    }

    pub(crate) fn connection_evicted(&self) {
        self.evictions.inc();
    }

    pub(crate) fn handshake_failed(&self, reason: HandshakeError) {
        self.handshake_errors.get_or_create(&HandshakeErrorLabel { reason }).inc();
    }

    pub(crate) fn shed(&self, reason: ShedReason) {
        self.shed.get_or_create(&ShedLabel { reason }).inc();
    }

    pub(crate) fn panicked(&self) {
        self.panics.inc();
    }

    pub(crate) fn answered(&self, answer: &Answer, elapsed: Duration) {
        let queue = || answer.queue.clone().unwrap_or_default();
        let outcome = answer.outcome;
        self.durations.get_or_create(&OutcomeLabel { outcome }).observe(elapsed.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { outcome, queue: queue() }).inc();
        if let (Outcome::Denied, Some(reason)) = (outcome, answer.reason) {
            self.denials.get_or_create(&DenialLabels { reason, queue: queue() }).inc();
        }
        for run in &answer.modules {
            self.module_ran(run);
        }
    }

    fn module_ran(&self, run: &ModuleRun) {
        let module = ModuleLabel { module: run.name.clone() };
        self.module_durations.get_or_create(&module).observe(run.elapsed.as_secs_f64());
        if run.error.is_some() {
            self.module_errors.get_or_create(&module).inc();
        }
    }

    pub(crate) fn module_offloaded(&self, module: &str) {
        self.module_offloads.get_or_create(&ModuleLabel { module: module.to_owned() }).inc();
    }

    /// Records a load: the generation of the current snapshot, and the number of errors in the newest configuration.
    pub fn config_loaded(&self, generation: u64, errors: usize) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.config_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
    }

    /// Records if a source of the configuration can be read.
    pub fn config_source(&self, source: ConfigSource, is_up: bool) {
        self.sources_up.get_or_create(&SourceLabel { source }).set(i64::from(is_up));
    }

    pub(crate) fn certificate_loaded(&self, not_after: Option<i64>) {
        self.not_after.set(not_after.unwrap_or_default());
    }

    pub(crate) fn certificate_failed(&self) {
        self.certificate_failures.inc();
    }
}

// === impl Outcome, ConfigSource, TimeoutPhase, HandshakeError, ShedReason ===

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for ConfigSource {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for TimeoutPhase {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for HandshakeError {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for ShedReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl Outcome {
    /// Returns the outcome's name in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Patched => "patched",
            Outcome::Unchanged => "unchanged",
            Outcome::Skipped => "skipped",
            Outcome::Denied => "denied",
            Outcome::Malformed => "malformed",
        }
    }
}

impl TimeoutPhase {
    /// Returns the phase's name in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            TimeoutPhase::Handshake => "handshake",
            TimeoutPhase::Idle => "idle",
            TimeoutPhase::Receiving => "receiving",
            TimeoutPhase::Replying => "replying",
        }
    }
}

impl HandshakeError {
    /// Returns the cause of a failed handshake.
    pub(crate) fn from_io(error: &io::Error) -> Self {
        use rustls::{CertificateError, Error};
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented) => HandshakeError::NoCertificate,
            Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                HandshakeError::OtherName
            }
            Some(Error::InvalidCertificate(_)) => HandshakeError::Untrusted,
            Some(Error::AlertReceived(_)) => HandshakeError::ClientAlert,
            Some(_) => HandshakeError::Protocol,
            None => HandshakeError::Closed,
        }
    }

    /// Returns the cause's name in metrics and log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            HandshakeError::NoCertificate => "no_certificate",
            HandshakeError::Untrusted => "untrusted",
            HandshakeError::OtherName => "other_name",
            HandshakeError::ClientAlert => "client_alert",
            HandshakeError::Protocol => "protocol",
            HandshakeError::Closed => "closed",
        }
    }
}

impl ShedReason {
    /// Returns the reason's name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ShedReason::Memory => "memory",
            ShedReason::QueueFull => "queue_full",
            ShedReason::TooLate => "too_late",
            ShedReason::NoThread => "no_thread",
            ShedReason::Unfinished => "unfinished",
        }
    }
}

// === InFlight ===

/// A guard that counts in its gauge until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl InFlight {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}
