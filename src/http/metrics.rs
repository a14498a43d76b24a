//! What Prometheus sees.
//!
//! Label values come from closed sets or from the configuration, never from a pod: nobody who submits tasks can make
//! the number of series grow.

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

/// Most requests take some 50 us, while the API server's own smallest bucket is 5 ms; the last is the longest that a
/// request may take.
const REQUEST_BUCKETS: [f64; 15] =
    [25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 10.0];

/// 1 and 2 ms are the bounds of the inline pace.
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
    problems: Gauge,
    sources_up: Family<SourceLabel, Gauge>,
    not_after: Gauge,
    certificate_failures: Counter,
    connections: Gauge,
    cuts: Family<TimeoutLabel, Counter>,
    evictions: Counter,
    handshake_failures: Family<HandshakeErrorLabel, Counter>,
    shed: Family<ShedLabel, Counter>,
}

/// What a connection was doing when its time ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeoutPhase {
    /// the TLS handshake
    Handshake,
    /// nothing: a keep-alive that nobody used
    Idle,
    /// sending a request
    Receiving,
    /// taking our reply
    Replying,
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeError {
    /// the client has no certificate, and must have one
    NoCertificate,
    /// its certificate is of another authority, or not valid now
    Untrusted,
    /// its certificate has none of the allowed names
    OtherName,
    /// the client refused: mostly because it does not trust our certificate
    ByClient,
    /// no common version or cipher suite, or no TLS at all
    Protocol,
    /// the client went away
    Closed,
}

/// Where a request met more load than podgraft takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShedReason {
    /// the memory for bodies was taken until the deadline
    Memory,
    /// too many wait for its module already
    QueueFull,
    /// so many wait for its module that it would have been late
    TooLate,
    /// no module thread was free until the deadline
    NoThread,
    /// a module thread had it and was not done at the deadline
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
            problems: Gauge::default(),
            sources_up: Family::default(),
            not_after: Gauge::default(),
            certificate_failures: Counter::default(),
            connections: Gauge::default(),
            cuts: Family::default(),
            evictions: Counter::default(),
            handshake_failures: Family::default(),
            shed: Family::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    /// Names the series; the fields and the registry share them.
    fn registered(mut self) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "build",
            "The version that runs",
            Info::new([("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        );
        registry.register(
            "request_duration_seconds",
            "From the whole request read to the reply made",
            self.durations.clone(),
        );
        registry.register("requests", "Requests answered, by configured queue", self.requests.clone());
        registry.register("denials", "Pods refused, by reason and configured queue", self.denials.clone());
        registry.register("requests_in_flight", "Requests read and not yet answered", self.in_flight.clone());
        registry.register("requests_waiting", "Requests that wait for a module thread", self.waiting.clone());
        registry.register("panics", "Requests answered with 500 because podgraft has a bug", self.panics.clone());
        registry.register("module_duration_seconds", "One call of a module", self.module_durations.clone());
        registry.register("module_faults", "Calls of a module that failed", self.module_errors.clone());
        registry.register(
            "module_reruns",
            "Requests that moved to the module threads because of this module",
            self.module_offloads.clone(),
        );
        registry.register(
            "config_generation",
            "Counts the configurations that this process has loaded",
            self.generation.clone(),
        );
        registry.register(
            "config_loaded_timestamp_seconds",
            "When the configuration that serves was loaded",
            self.loaded.clone(),
        );
        registry.register(
            "config_problems",
            "Parts of the configuration whose newest version is unsound, so that an older one serves or none",
            self.problems.clone(),
        );
        registry.register(
            "config_source_up",
            "Whether this source of the configuration can be read (1), or what was read of it before serves on (0)",
            self.sources_up.clone(),
        );
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "When the serving certificate expires",
            self.not_after.clone(),
        );
        registry.register(
            "certificate_reload_failures",
            "Certificates that could not be served, so that the one before goes on",
            self.certificate_failures.clone(),
        );
        registry.register("connections", "Open connections of the webhook's port", self.connections.clone());
        registry.register("connections_cut", "Connections closed because they took too long", self.cuts.clone());
        registry.register(
            "connections_evicted",
            "Unused connections closed to make room for new ones",
            self.evictions.clone(),
        );
        registry.register("handshakes_failed", "TLS handshakes that failed", self.handshake_failures.clone());
        registry.register(
            "requests_shed",
            "Requests that met more load than podgraft takes: refused, or answered without the modules whose failure may be ignored",
            self.shed.clone(),
        );
        self
    }

    /// All series as `OpenMetrics` text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A request was read; it counts as in flight until the guard goes.
    pub(crate) fn request(&self) -> InFlight {
        InFlight::new(&self.in_flight)
    }

    /// A request goes to the module threads; it counts as waiting until the guard goes.
    pub(crate) fn waiting(&self) -> InFlight {
        InFlight::new(&self.waiting)
    }

    /// A connection was accepted; it counts as open until the guard goes.
    pub(crate) fn connection(&self) -> InFlight {
        InFlight::new(&self.connections)
    }

    pub(crate) fn connection_timed_out(&self, phase: TimeoutPhase) {
        self.cuts.get_or_create(&TimeoutLabel { phase }).inc();
    }

    pub(crate) fn connection_evicted(&self) {
        self.evictions.inc();
    }

    pub(crate) fn handshake_failed(&self, reason: HandshakeError) {
        self.handshake_failures.get_or_create(&HandshakeErrorLabel { reason }).inc();
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

    /// A configuration was loaded: which one serves now, and how many things are wrong with the newest.
    pub fn config_loaded(&self, generation: u64, problems: usize) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.loaded.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        self.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
    }

    /// Whether a source of the configuration can be read just now.
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

// === impl Outcome, Origin, Cut, Refusal, Shed ===

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
    /// As metrics and log lines spell it.
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
    /// As metrics and log lines spell it.
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
    /// What a failed handshake's error says of its cause.
    pub(crate) fn of(error: &io::Error) -> Self {
        use rustls::{CertificateError, Error};
        match error.get_ref().and_then(|error| error.downcast_ref::<Error>()) {
            Some(Error::NoCertificatesPresented) => HandshakeError::NoCertificate,
            Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                HandshakeError::OtherName
            }
            Some(Error::InvalidCertificate(_)) => HandshakeError::Untrusted,
            Some(Error::AlertReceived(_)) => HandshakeError::ByClient,
            Some(_) => HandshakeError::Protocol,
            None => HandshakeError::Closed,
        }
    }

    /// As metrics and log lines spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            HandshakeError::NoCertificate => "no_certificate",
            HandshakeError::Untrusted => "untrusted",
            HandshakeError::OtherName => "other_name",
            HandshakeError::ByClient => "by_client",
            HandshakeError::Protocol => "protocol",
            HandshakeError::Closed => "closed",
        }
    }
}

impl ShedReason {
    /// As metrics spell it.
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

/// Counts in its gauge for as long as it lives.
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
