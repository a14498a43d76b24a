//! The accept loop: TLS where there is a certificate, HTTP/1.1, a time limit for whatever a client does, and a drain
//! that drops nobody. It knows nothing of admission: what it serves is a [`Router`].
//!
//! hyper's own header timer also runs while a keep-alive connection is idle. With 10 s there, the API server, which
//! keeps idle connections for 90 s and does not retry a POST, would now and then send a review into a closing
//! connection; with 120 s, a client could take two minutes over one header. So each connection keeps a [`Clock`]
//! instead, which knows what the client is at.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use futures::FutureExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::metrics::{Cut, Metrics};

pub mod tls;

/// Open connections of one port; who comes later waits in the kernel's queue. An API server keeps at most 25 idle ones
/// and opens more in a burst; 1024 of them idle cost some 40 MB.
pub const CONNECTIONS: usize = 1024;

/// The longest header that is read. The API server's has a few hundred bytes; hyper's own limit is 400 KB.
const HEADER_BYTES: usize = 64 << 10;

/// A connection that was opened this shortly before the drain closes what is idle may have a request under way.
const LINGER: Duration = Duration::from_secs(1);

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
pub enum Stage {
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
    /// where connections are counted
    pub metrics: Arc<Metrics>,
    /// when to stop
    pub stage: watch::Receiver<Stage>,
}

// === impl Server ===

impl Server {
    /// Serves until the stage is [`Stage::Closing`] and the last request is answered.
    pub async fn run(self, listener: TcpListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let server = Arc::new(self);
        let mut stage = server.stage.clone();
        let mut closing = pin!(closing(&mut stage));
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await;
                (listener.accept().await, slot)
            };
            tokio::select! {
                biased;
                () = &mut closing => break,
                (stream, slot) = accepted => server.admit(stream, slot.ok()).await,
            }
        }
        // who is through the kernel's part of the connect counts as accepted
        for _ in 0..CONNECTIONS {
            let Some(stream) = listener.accept().now_or_never() else { break };
            let slot = Arc::clone(&slots).acquire_owned().await;
            server.admit(stream, slot.ok()).await;
        }
        drop(listener);
        let _all = slots.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(u32::MAX)).await;
    }

    /// Gives an accepted connection a task of its own, which holds its slot.
    async fn admit(
        self: &Arc<Self>,
        accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
        slot: Option<OwnedSemaphorePermit>,
    ) {
        match accepted {
            Ok((stream, peer)) => {
                let server = Arc::clone(self);
                tokio::spawn(async move {
                    let _slot = slot;
                    let _open = server.tls.is_some().then(|| server.metrics.connection());
                    if let Some(cut) = server.serve(stream).await {
                        debug!(%peer, phase = cut.as_str(), "connection cut, it took too long");
                        server.metrics.connection_cut(cut);
                    }
                });
            }
            // Mostly "too many open files": the connections that are open must get a chance to end.
            Err(error) => {
                warn!(%error, "connection not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }

    /// One connection from its first byte to its last; says what was cut, if it was.
    async fn serve(&self, stream: TcpStream) -> Option<Cut> {
        // replies are single writes: waiting for more to send would only cost time
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.serve_http(stream).await };
        match timeout(self.timeouts.handshake, TlsAcceptor::from(Arc::clone(tls)).accept(stream)).await {
            Ok(Ok(stream)) => self.serve_http(stream).await,
            Ok(Err(error)) => {
                debug!(%error, "TLS handshake failed");
                None
            }
            Err(_) => Some(Cut::Handshake),
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send>(&self, stream: S) -> Option<Cut> {
        let clock = Arc::new(Clock::new());
        let io = TokioIo::new(Timed { stream, clock: Arc::clone(&clock) });
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request: Request<Incoming>| {
            let reply = router.call(clock.received(request));
            let clock = Arc::clone(&clock);
            async move {
                let mut reply = reply.await?;
                clock.enter(Phase::Replying);
                self.say_goodbye(&mut reply);
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
                return Poll::Ready((!is_closing || cut != Cut::Idle).then_some(cut));
            }
        })
        .await
    }

    /// While the process is on its way out, each reply ends its connection. Connections that are merely idle are left
    /// alone until the grace is over: a request may be on its way into each of them.
    fn say_goodbye(&self, reply: &mut Response<Body>) {
        if *self.stage.borrow() >= Stage::Draining {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Waits until nobody is to be accepted any more; a sender that is gone means the same.
async fn closing(stage: &mut watch::Receiver<Stage>) {
    let _ = stage.wait_for(|stage| *stage >= Stage::Closing).await;
}

// === Clock ===

/// What a connection's client is at, and since when. Only the connection's own task ever asks.
#[derive(Debug)]
struct Clock(Mutex<Time>);

#[derive(Debug, Clone, Copy)]
struct Time {
    phase: Phase,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// the handshake is done and no request has begun
    Fresh,
    /// between two requests
    Idle,
    /// the first byte of a request is here and the last is not
    Receiving,
    /// it is our turn; the handler has a deadline of its own
    Working,
    /// the reply is made and not yet taken
    Replying,
    /// the drain closes it
    Closed,
}

impl Clock {
    fn new() -> Self {
        Self(Mutex::new(Time { phase: Phase::Fresh, since: Instant::now() }))
    }

    fn time(&self) -> Time {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Time { phase, since: Instant::now() };
    }

    /// When the present phase has lasted too long, and what it then is that took too long.
    fn deadline(&self, timeouts: &Timeouts, closing: bool) -> Option<(Instant, Cut)> {
        let Time { phase, since } = self.time();
        let (allowed, cut) = match phase {
            Phase::Fresh if closing => (LINGER, Cut::Idle),
            Phase::Fresh | Phase::Idle => (timeouts.idle, Cut::Idle),
            Phase::Receiving => (timeouts.request, Cut::Receiving),
            Phase::Replying | Phase::Closed => (timeouts.reply, Cut::Replying),
            Phase::Working => return None,
        };
        Some((since + allowed, cut))
    }

    /// True once, when the drain may close the connection. hyper would also close one that has sent half a header.
    fn close_if_idle(&self) -> bool {
        let idle = self.time().phase == Phase::Idle;
        if idle {
            self.enter(Phase::Closed);
        }
        idle
    }

    /// A header is complete; the body's end is noticed when whoever reads it gets there.
    fn received(self: &Arc<Self>, request: Request<Incoming>) -> Request<Body> {
        if request.body().is_end_stream() {
            self.enter(Phase::Working);
            return request.map(|_| Body::empty());
        }
        if self.time().phase != Phase::Receiving {
            self.enter(Phase::Receiving); // its header came together with the request before
        }
        request.map(|body| Body::new(Arriving { body, clock: Arc::clone(self) }))
    }
}

/// A request's body that tells the clock when it is complete.
struct Arriving {
    body: Incoming,
    clock: Arc<Clock>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.clock.enter(Phase::Working);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        false // so that every reader comes for the last `None`
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that tells the clock when a request begins and when a reply is gone.
struct Timed<S> {
    stream: S,
    clock: Arc<Clock>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before && matches!(self.clock.time().phase, Phase::Fresh | Phase::Idle) {
            self.clock.enter(Phase::Receiving);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all it has: our replies are never streamed, so the reply is gone then.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.clock.time().phase == Phase::Replying {
            self.clock.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
