//! The state of a connection: its phase and the phase's start. Time limits, the drain and eviction read it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Request;
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::metrics::TimeoutPhase;

/// Time for which the drain keeps a new connection that has sent nothing: a request may be on its way.
const LINGER: Duration = Duration::from_secs(1);

/// Time limits for the phases of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// the TLS handshake
    pub handshake: Duration,
    /// a request, from its first byte to the last of its body
    pub request: Duration,
    /// reading the reply
    pub reply: Duration,
    /// silence between two requests; longer than the API server's 90 s, so that the API server closes first
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let slow = Duration::from_secs(10);
        Self { handshake: slow, request: slow, reply: slow, idle: Duration::from_mins(2) }
    }
}

/// The state of a connection, shared by its task and the connection limiter.
#[derive(Debug)]
pub(super) struct ConnState(Mutex<State>);

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TLS handshake; [`super::Server`] applies its time limit
    Handshake,
    /// handshake done, no request begun
    New,
    /// between two requests
    Idle,
    /// a request has begun and is not complete
    Receiving,
    /// the handler runs, under a deadline of its own
    Working,
    /// the reply is made and not yet sent
    Replying,
    /// closed by the drain or evicted
    Closed,
}

impl ConnState {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { phase: Phase::Handshake, since: Instant::now() }))
    }

    fn get(&self) -> State {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { phase, since: Instant::now() };
    }

    /// Returns the deadline of the current phase and the phase's name in metrics.
    pub(super) fn deadline(&self, timeouts: &Timeouts, closing: bool) -> Option<(Instant, TimeoutPhase)> {
        let State { phase, since } = self.get();
        let (limit, phase) = match phase {
            Phase::New if closing => (LINGER, TimeoutPhase::Idle),
            Phase::New | Phase::Idle => (timeouts.idle, TimeoutPhase::Idle),
            Phase::Receiving => (timeouts.request, TimeoutPhase::Receiving),
            Phase::Replying | Phase::Closed => (timeouts.reply, TimeoutPhase::Replying),
            Phase::Handshake | Phase::Working => return None,
        };
        Some((since + limit, phase))
    }

    /// Returns true once, if the connection is idle and the drain may close it. hyper would also close one that has
    /// sent half a header.
    pub(super) fn close_if_idle(&self) -> bool {
        let idle = self.get().phase == Phase::Idle;
        if idle {
            self.enter(Phase::Closed);
        }
        idle
    }

    /// Returns true if the connection has served a request, and the start of its idle time. The order of these pairs
    /// is the order of eviction: connections that never sent a request come first, the API server's later.
    pub(super) fn idle_since(&self) -> Option<(bool, Instant)> {
        let State { phase, since } = self.get();
        match phase {
            Phase::Handshake | Phase::New => Some((false, since)),
            Phase::Idle => Some((true, since)),
            Phase::Receiving | Phase::Working | Phase::Replying | Phase::Closed => None,
        }
    }

    /// Returns true once, if the connection is still idle; the caller then closes it.
    pub(super) fn evict(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = matches!(state.phase, Phase::Handshake | Phase::New | Phase::Idle);
        if idle {
            *state = State { phase: Phase::Closed, since: Instant::now() };
        }
        idle
    }

    /// Records that a header is complete. The returned request's body records its own end.
    pub(super) fn received(self: &Arc<Self>, request: Request<Incoming>) -> Request<Body> {
        if request.body().is_end_stream() {
            self.enter(Phase::Working);
            return request.map(|_| Body::empty());
        }
        if self.get().phase != Phase::Receiving {
            self.enter(Phase::Receiving); // its header came together with the previous request
        }
        request.map(|body| Body::new(TrackedBody { body, conn: Arc::clone(self) }))
    }
}

/// A request's body that records its end in the connection's state.
struct TrackedBody {
    body: Incoming,
    conn: Arc<ConnState>,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.conn.enter(Phase::Working);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        false // so that every reader polls for the last `None`
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that records in the connection's state the start of a request and the end of a reply.
pub(super) struct TrackedIo<S> {
    pub(super) stream: S,
    pub(super) conn: Arc<ConnState>,
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before && matches!(self.conn.get().phase, Phase::New | Phase::Idle) {
            self.conn.enter(Phase::Receiving);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedIo<S> {
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

    /// Records the end of a reply. hyper flushes when it has written everything, and replies are never streamed.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.conn.get().phase == Phase::Replying {
            self.conn.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
