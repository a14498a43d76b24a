//! The accept loop: optional TLS, HTTP/1.1, a time limit for each phase of a connection, and a drain that drops no
//! request. It serves any [`Router`] and knows nothing of admission.
//!
//! hyper's own header timer also runs while a keep-alive connection is idle. With 10 s there, the API server, which
//! keeps idle connections for 90 s and does not retry a POST, would now and then send a review into a closing
//! connection; with 120 s, a client could take two minutes over one header. So each connection has a [`ConnState`]
//! instead, which knows its phase.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use futures::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

pub use self::conn_state::Timeouts;
use self::conn_state::{ConnState, Phase, TrackedIo};
use self::connection_limit::ConnectionLimiter;
use crate::http::log_throttle::LogThrottle;
use crate::http::metrics::{HandshakeError, Metrics, TimeoutPhase};

mod conn_state;
mod connection_limit;
pub mod tls;

/// Default maximum of open connections of the webhook's port. An API server keeps at most 25 idle ones and opens more
/// in a burst; 1024 idle connections cost some 40 MB.
pub const CONNECTIONS: usize = 1024;

/// Maximum open connections of the admin port, which serves probes and scrapes only.
pub const ADMIN_CONNECTIONS: usize = 64;

/// Maximum bytes of a request's header. The API server's has a few hundred bytes; hyper's own limit is 400 KB.
const HEADER_BYTES: usize = 64 << 10;

/// Interval between two warnings of one kind: a client that retries a failing handshake must not fill the log.
const ACCEPT_WARN_EVERY: Duration = Duration::from_secs(10);

/// The phase of a graceful shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// not shutting down
    Serving,
    /// new connections are accepted and served; each reply has `Connection: close`
    Draining,
    /// no connection is accepted; the server ends when the in-flight requests are answered
    Closing,
}

/// The server of one port.
#[derive(Debug, Clone)]
pub struct Server {
    /// routes that are served
    pub router: Router,
    /// TLS settings; without them the port is plain HTTP
    pub tls: Option<Arc<ServerConfig>>,
    /// time limits for clients
    pub timeouts: Timeouts,
    /// maximum open connections; see [`CONNECTIONS`]
    pub connections: usize,
    /// counters of connections
    pub metrics: Arc<Metrics>,
    /// phase of the graceful shutdown
    pub phase: watch::Receiver<ShutdownPhase>,
}

/// The reason why the server ended a connection.
#[derive(Debug)]
enum ConnectionError {
    /// this phase exceeded its time limit
    TimedOut(TimeoutPhase),
    /// the TLS handshake failed
    Handshake(io::Error),
}

// === impl Server ===

impl Server {
    /// Serves until the phase is [`ShutdownPhase::Closing`] and the last request is answered.
    pub async fn run(self, listener: TcpListener) {
        let limiter = Arc::new(ConnectionLimiter::new(self.connections, Arc::clone(&self.metrics)));
        let throttle = Arc::new(LogThrottle::new(ACCEPT_WARN_EVERY));
        let server = Arc::new(self);
        let mut phase = server.phase.clone();
        let mut closing = pin!(closing(&mut phase));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = listener.accept() => server.admit(accepted, &limiter, &throttle).await,
            }
        }
        // connections that wait in the kernel's backlog count as accepted
        for _ in 0..server.connections {
            let Some(accepted) = listener.accept().now_or_never() else { break };
            server.admit(accepted, &limiter, &throttle).await;
        }
        drop(listener);
        limiter.wait_empty().await;
    }

    /// Serves an accepted connection in a task of its own. At the limit another connection is evicted first.
    async fn admit(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
        limiter: &Arc<ConnectionLimiter>,
        throttle: &Arc<LogThrottle>,
    ) {
        match accepted {
            Ok((stream, peer)) => {
                let (server, throttle) = (Arc::clone(self), Arc::clone(throttle));
                limiter
                    .spawn(async move |conn| {
                        let _open = server.tls.is_some().then(|| server.metrics.connection());
                        match server.serve(stream, conn).await {
                            Some(ConnectionError::TimedOut(phase)) => {
                                debug!(%peer, phase = phase.as_str(), "connection timed out");
                                server.metrics.connection_timed_out(phase);
                            }
                            Some(ConnectionError::Handshake(error)) => {
                                server.report_handshake_error(peer, &error, &throttle);
                            }
                            None => {}
                        }
                    })
                    .await;
            }
            // Mostly "too many open files": the pause lets open connections end.
            Err(error) => {
                if let Some(suppressed) = throttle.allow("accept") {
                    warn!(%error, suppressed, "failed to accept connection");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Counts and logs a failed handshake. TLS errors between the API server and podgraft are visible here only.
    fn report_handshake_error(&self, peer: std::net::SocketAddr, error: &io::Error, throttle: &LogThrottle) {
        let kind = HandshakeError::from_io(error);
        self.metrics.handshake_failed(kind);
        if kind == HandshakeError::Closed {
            debug!(%peer, "connection closed before the TLS handshake"); // a load balancer's probe
        } else if let Some(suppressed) = throttle.allow(kind.as_str()) {
            warn!(%peer, reason = kind.as_str(), %error, suppressed, "TLS handshake failed");
        }
    }

    /// Serves one connection until it ends; returns the error if the server ended it.
    async fn serve(&self, stream: TcpStream, conn: Arc<ConnState>) -> Option<ConnectionError> {
        // replies are single writes: waiting for more to send would only cost time
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            conn.enter(Phase::New);
            return self.serve_http(stream, conn).await.map(ConnectionError::TimedOut);
        };
        match timeout(self.timeouts.handshake, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await {
            Ok(Ok(stream)) => {
                conn.enter(Phase::New);
                self.serve_http(stream, conn).await.map(ConnectionError::TimedOut)
            }
            Ok(Err(error)) => Some(ConnectionError::Handshake(error)),
            Err(_) => Some(ConnectionError::TimedOut(TimeoutPhase::Handshake)),
        }
    }

    /// Serves HTTP on a connection; returns the phase that timed out, if one did.
    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
        conn: Arc<ConnState>,
    ) -> Option<TimeoutPhase> {
        let io = TokioIo::new(TrackedIo { stream, conn: Arc::clone(&conn) });
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let reply = router.call(conn.received(request));
            let conn = Arc::clone(&conn);
            async move {
                let mut reply = reply.await?;
                conn.enter(Phase::Replying);
                self.close_after(&mut reply);
                Ok::<_, std::convert::Infallible>(reply)
            }
        });
        let mut connection = pin!(
            http1::Builder::new().header_read_timeout(None).max_buf_size(HEADER_BYTES).serve_connection(io, service)
        );

        let mut phase = self.phase.clone();
        let mut closing = pin!(closing(&mut phase));
        let mut is_closing = false;
        let mut timer = pin!(sleep(self.timeouts.idle));
        std::future::poll_fn(|context| {
            loop {
                // The connection comes first: a request that has arrived is served even at a time limit or a drain.
                if connection.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                if !is_closing && closing.as_mut().poll(context).is_ready() {
                    is_closing = true;
                }
                if is_closing && conn.close_if_idle() {
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                let Some((deadline, phase)) = conn.deadline(&self.timeouts, is_closing) else { return Poll::Pending };
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(context));
                return Poll::Ready((!is_closing || phase != TimeoutPhase::Idle).then_some(phase));
            }
        })
        .await
    }

    /// Makes each reply end its connection while the server is shutting down. Idle connections stay open until the
    /// grace period is over, because the API server may be sending a request into each of them.
    fn close_after(&self, reply: &mut Response<Body>) {
        if *self.phase.borrow() >= ShutdownPhase::Draining {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Waits for [`ShutdownPhase::Closing`], or for the end of the sender.
async fn closing(phase: &mut watch::Receiver<ShutdownPhase>) {
    let _ = phase.wait_for(|phase| *phase >= ShutdownPhase::Closing).await;
}
