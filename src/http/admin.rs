//! The admin port, without TLS: health, readiness and metrics.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use crate::http::metrics::Metrics;
use crate::http::server::ShutdownPhase;
use crate::http::server::tls::Certificates;
use crate::http::server::tls::client_verifier::ClientVerifier;

/// The media type of `prometheus_client`'s text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The state that the admin port reports.
#[derive(Debug, Clone)]
pub struct Admin {
    /// true once a configuration has been loaded
    pub loaded: watch::Receiver<bool>,
    /// phase of the graceful shutdown
    pub phase: watch::Receiver<ShutdownPhase>,
    /// all series
    pub metrics: Arc<Metrics>,
    /// serving certificate; each scrape refreshes it, so that an invalid one is counted before a handshake needs it
    pub certificates: Arc<Certificates>,
    /// client CA; each scrape refreshes it
    pub clients: Option<Arc<ClientVerifier>>,
}

impl Admin {
    /// Returns the routes `/healthz`, `/livez`, `/readyz` and `/metrics`.
    pub fn routes(self) -> Router {
        // A process that answers is alive: a restart cannot repair the cluster or the configuration.
        let alive = || async { "ok\n" };
        Router::new()
            .route("/healthz", get(alive))
            .route("/livez", get(alive))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    let not_ready = |text| (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    if *admin.phase.borrow() != ShutdownPhase::Serving {
        return not_ready("not ready: shutting down\n");
    }
    if !*admin.loaded.borrow() {
        return not_ready("not ready: no readable configuration yet; the log says why\n");
    }
    "ok\n".into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    admin.certificates.refresh();
    admin.clients.iter().for_each(|clients| drop(clients.refresh()));
    match admin.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, HeaderValue::from_static(OPEN_METRICS))], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
