//! The second, plain port: health, readiness, metrics.

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

/// What the port tells of.
#[derive(Debug, Clone)]
pub struct Admin {
    /// whether a configuration has been loaded
    pub loaded: watch::Receiver<bool>,
    /// whether the process is on its way out
    pub stage: watch::Receiver<ShutdownPhase>,
    /// all series
    pub metrics: Arc<Metrics>,
    /// looked after at each scrape too, so that a bad pair shows before a handshake meets it
    pub certificates: Arc<Certificates>,
    /// likewise
    pub clients: Option<Arc<ClientVerifier>>,
}

impl Admin {
    /// `/healthz`, `/livez`, `/readyz` and `/metrics`.
    pub fn routes(self) -> Router {
        // Alive is whoever answers: a restart mends nothing that the cluster or the configuration lacks.
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
    let not = |why| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if *admin.stage.borrow() != ShutdownPhase::Serving {
        return not("not ready: on its way out\n");
    }
    if !*admin.loaded.borrow() {
        return not("not ready: no configuration that can be read yet; the log says what is wrong with it\n");
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
