//! What a connection's client is at, and since when: what its time limits, the drain and the search for room ask.

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

use super::Timeouts;
use crate::http::metrics::TimeoutPhase;

/// A connection that was opened this shortly before the drain closes what is idle may have a request under way.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection's client is at, and since when. Its own task asks all the time, and whoever needs room now and
/// then.
#[derive(Debug)]
pub(super) struct ConnState(Mutex<Time>);

#[derive(Debug, Clone, Copy)]
struct Time {
    phase: Phase,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// TLS is not agreed on yet; whoever waits for it has the time limit
    Handshake,
    /// the handshake is done and no request has begun
    New,
    /// between two requests
    Idle,
    /// the first byte of a request is here and the last is not
    Receiving,
    /// it is our turn; the handler has a deadline of its own
    Working,
    /// the reply is made and not yet taken
    Replying,
    /// the drain closes it, or it was given up for another
    Closed,
}

impl ConnState {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Time { phase: Phase::Handshake, since: Instant::now() }))
    }

    fn time(&self) -> Time {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Time { phase, since: Instant::now() };
    }

    /// When the present phase has lasted too long, and what it then is that took too long.
    pub(super) fn deadline(&self, timeouts: &Timeouts, closing: bool) -> Option<(Instant, TimeoutPhase)> {
        let Time { phase, since } = self.time();
        let (allowed, cut) = match phase {
            Phase::New if closing => (LINGER, TimeoutPhase::Idle),
            Phase::New | Phase::Idle => (timeouts.idle, TimeoutPhase::Idle),
            Phase::Receiving => (timeouts.request, TimeoutPhase::Receiving),
            Phase::Replying | Phase::Closed => (timeouts.reply, TimeoutPhase::Replying),
            Phase::Handshake | Phase::Working => return None,
        };
        Some((since + allowed, cut))
    }

    /// True once, when the drain may close the connection. hyper would also close one that has sent half a header.
    pub(super) fn close_if_idle(&self) -> bool {
        let idle = self.time().phase == Phase::Idle;
        if idle {
            self.enter(Phase::Closed);
        }
        idle
    }

    /// Since when nothing is under way here, and whether anything ever was: who was served before, as the API server
    /// is again and again, is closed after those who only ever connected.
    pub(super) fn idle_since(&self) -> Option<(bool, Instant)> {
        let Time { phase, since } = self.time();
        match phase {
            Phase::Handshake | Phase::New => Some((false, since)),
            Phase::Idle => Some((true, since)),
            Phase::Receiving | Phase::Working | Phase::Replying | Phase::Closed => None,
        }
    }

    /// True once, when it is still unused and so may be closed.
    pub(super) fn evict(&self) -> bool {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = matches!(time.phase, Phase::Handshake | Phase::New | Phase::Idle);
        if unused {
            *time = Time { phase: Phase::Closed, since: Instant::now() };
        }
        unused
    }

    /// A header is complete; the body's end is noticed when whoever reads it gets there.
    pub(super) fn received(self: &Arc<Self>, request: Request<Incoming>) -> Request<Body> {
        if request.body().is_end_stream() {
            self.enter(Phase::Working);
            return request.map(|_| Body::empty());
        }
        if self.time().phase != Phase::Receiving {
            self.enter(Phase::Receiving); // its header came together with the request before
        }
        request.map(|body| Body::new(TrackedBody { body, clock: Arc::clone(self) }))
    }
}

/// A request's body that tells the clock when it is complete.
struct TrackedBody {
    body: Incoming,
    clock: Arc<ConnState>,
}

impl HttpBody for TrackedBody {
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
pub(super) struct TrackedIo<S> {
    pub(super) stream: S,
    pub(super) clock: Arc<ConnState>,
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before && matches!(self.clock.time().phase, Phase::New | Phase::Idle) {
            self.clock.enter(Phase::Receiving);
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
