//! The accept loop: TLS where there is a certificate, HTTP/1.1, a time limit for whatever a client does, and a drain
//! that drops nobody. It knows nothing of admission: what it serves is a [`Router`].
//!
//! hyper's own header timer also runs while a keep-alive connection is idle. With 10 s there, the API server, which
//! keeps idle connections for 90 s and does not retry a POST, would now and then send a review into a closing
//! connection; with 120 s, a client could take two minutes over one header. So each connection keeps a [`Clock`]
//! instead, which knows what the client is at.

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

use self::conn_state::{ConnState, Phase, TrackedIo};
use self::connection_limit::ConnectionLimiter;
use crate::http::log_throttle::LogThrottle;
use crate::http::metrics::{HandshakeError, Metrics, TimeoutPhase};

mod conn_state;
mod connection_limit;
pub mod tls;

/// Open connections of the webhook's port by default. An API server keeps at most 25 idle ones and opens more in a
/// burst; 1024 of them idle cost some 40 MB.
pub const CONNECTIONS: usize = 1024;

/// The same of the plain port, which has probes and scrapes only.
pub const ADMIN_CONNECTIONS: usize = 64;

/// The longest header that is read. The API server's has a few hundred bytes; hyper's own limit is 400 KB.
const HEADER_BYTES: usize = 64 << 10;

/// A handshake that fails is worth a line, and a client that tries again and again is not worth a thousand.
const ACCEPT_WARN_EVERY: Duration = Duration::from_secs(10);

/// How long a client may take over what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// the TLS handshake
    pub handshake: Duration,
    /// a request, from its first byte to the last of its body
    pub request: Duration,
    /// taking our reply
    pub reply: Duration,
    /// nothing at all between two requests; the API server closes after 90 s and must be the first to do so
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let slow = Duration::from_secs(10);
        Self { handshake: slow, request: slow, reply: slow, idle: Duration::from_mins(2) }
    }
}

/// How far the process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// it serves
    Serving,
    /// it serves everybody who still comes, and tells each to come elsewhere next time
    Draining,
    /// it accepts nobody, and ends when the requests under way are answered
    Closing,
}

/// What serves one port.
#[derive(Debug, Clone)]
pub struct Server {
    /// the routes
    pub router: Router,
    /// without it the port is plain
    pub tls: Option<Arc<ServerConfig>>,
    /// how long clients may take
    pub timeouts: Timeouts,
    /// open connections at most; see [`CONNECTIONS`]
    pub connections: usize,
    /// where connections are counted
    pub metrics: Arc<Metrics>,
    /// when to stop
    pub stage: watch::Receiver<ShutdownPhase>,
}

/// How a connection ended, when it did not end by itself.
#[derive(Debug)]
enum ConnectionEnd {
    /// it took too long
    Cut(TimeoutPhase),
    /// its handshake failed
    Refused(io::Error),
}

// === impl Server ===

impl Server {
    /// Serves until the stage is [`Stage::Closing`] and the last request is answered.
    pub async fn run(self, listener: TcpListener) {
        let room = Arc::new(ConnectionLimiter::new(self.connections, Arc::clone(&self.metrics)));
        let seldom = Arc::new(LogThrottle::new(ACCEPT_WARN_EVERY));
        let server = Arc::new(self);
        let mut stage = server.stage.clone();
        let mut closing = pin!(closing(&mut stage));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                accepted = listener.accept() => server.admit(accepted, &room, &seldom).await,
            }
        }
        // who is through the kernel's part of the connect counts as accepted
        for _ in 0..server.connections {
            let Some(accepted) = listener.accept().now_or_never() else { break };
            server.admit(accepted, &room, &seldom).await;
        }
        drop(listener);
        room.wait_empty().await;
    }

    /// Gives an accepted connection a task of its own and a place, for which another may have to go.
    async fn admit(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
        room: &Arc<ConnectionLimiter>,
        seldom: &Arc<LogThrottle>,
    ) {
        match accepted {
            Ok((stream, peer)) => {
                let (server, seldom) = (Arc::clone(self), Arc::clone(seldom));
                room.spawn(async move |clock| {
                    let _open = server.tls.is_some().then(|| server.metrics.connection());
                    match server.serve(stream, clock).await {
                        Some(ConnectionEnd::Cut(cut)) => {
                            debug!(%peer, phase = cut.as_str(), "connection cut, it took too long");
                            server.metrics.connection_timed_out(cut);
                        }
                        Some(ConnectionEnd::Refused(error)) => server.log_accept_error(peer, &error, &seldom),
                        None => {}
                    }
                })
                .await;
            }
            // Mostly "too many open files": the connections that are open must get a chance to end.
            Err(error) => {
                if let Some(more) = seldom.allow("accept") {
                    warn!(%error, more, "connection not accepted");
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// Counts a handshake that failed, and says why: what is wrong between the API server and us shows here only.
    fn log_accept_error(&self, peer: std::net::SocketAddr, error: &io::Error, seldom: &LogThrottle) {
        let refusal = HandshakeError::of(error);
        self.metrics.handshake_failed(refusal);
        if refusal == HandshakeError::Closed {
            debug!(%peer, "connection closed before the handshake"); // a load balancer's probe
        } else if let Some(more) = seldom.allow(refusal.as_str()) {
            let reason = refusal.as_str();
            warn!(%peer, reason, more, "TLS handshake failed: {error}");
        }
    }

    /// One connection from its first byte to its last; says how it ended, if it was not by itself.
    async fn serve(&self, stream: TcpStream, clock: Arc<ConnState>) -> Option<ConnectionEnd> {
        // replies are single writes: waiting for more to send would only cost time
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            clock.enter(Phase::New);
            return self.serve_http(stream, clock).await.map(ConnectionEnd::Cut);
        };
        match timeout(self.timeouts.handshake, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await {
            Ok(Ok(stream)) => {
                clock.enter(Phase::New);
                self.serve_http(stream, clock).await.map(ConnectionEnd::Cut)
            }
            Ok(Err(error)) => Some(ConnectionEnd::Refused(error)),
            Err(_) => Some(ConnectionEnd::Cut(TimeoutPhase::Handshake)),
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
        clock: Arc<ConnState>,
    ) -> Option<TimeoutPhase> {
        let io = TokioIo::new(TrackedIo { stream, clock: Arc::clone(&clock) });
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let reply = router.call(clock.received(request));
            let clock = Arc::clone(&clock);
            async move {
                let mut reply = reply.await?;
                clock.enter(Phase::Replying);
                self.close_after(&mut reply);
                Ok::<_, std::convert::Infallible>(reply)
            }
        });
        let mut connection = pin!(
            http1::Builder::new().header_read_timeout(None).max_buf_size(HEADER_BYTES).serve_connection(io, service)
        );

        let mut stage = self.stage.clone();
        let mut closing = pin!(closing(&mut stage));
        let mut is_closing = false;
        let mut timer = pin!(sleep(self.timeouts.idle));
        std::future::poll_fn(|context| {
            loop {
                // First the connection: a request that has arrived is served, whatever else is the matter.
                if connection.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                if !is_closing && closing.as_mut().poll(context).is_ready() {
                    is_closing = true;
                }
                if is_closing && clock.close_if_idle() {
                    connection.as_mut().graceful_shutdown();
                    continue;
                }
                let Some((deadline, cut)) = clock.deadline(&self.timeouts, is_closing) else { return Poll::Pending };
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                ready!(timer.as_mut().poll(context));
                return Poll::Ready((!is_closing || cut != TimeoutPhase::Idle).then_some(cut));
            }
        })
        .await
    }

    /// While the process is on its way out, each reply ends its connection. Connections that are merely idle are left
    /// alone until the grace is over: a request may be on its way into each of them.
    fn close_after(&self, reply: &mut Response<Body>) {
        if *self.stage.borrow() >= ShutdownPhase::Draining {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Waits until nobody is to be accepted any more; a sender that is gone means the same.
async fn closing(stage: &mut watch::Receiver<ShutdownPhase>) {
    let _ = stage.wait_for(|stage| *stage >= ShutdownPhase::Closing).await;
}
