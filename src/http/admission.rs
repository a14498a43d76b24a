//! `POST /mutate`: one AdmissionReview from its HTTP request to its reply.
//!
//! A [`Reviewer`] answers the review; this module applies the limits around it: content type, size, deadline, thread,
//! and a reply for a panic.
//!
//! A request may wait in two queues, for memory and for a module thread. Both are bounded, and a request that would
//! miss its deadline is answered before it: without memory by a 503, which the registration's `failurePolicy` treats
//! as a failure of podgraft; without a thread by the module's own `onError`.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bumpalo::Bump;
use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;
use tracing::{error, warn};

pub use self::body::BODY_BYTES;
use self::body::{BodyBudget, ReadError, request_timeout};
use self::log::{log, log_module};
use self::pool::{Pool, PoolError};
use crate::http::log_throttle::LogThrottle;
use crate::http::metrics::{Metrics, ShedReason};
use crate::model::denial::{Denial, Reason};
use crate::model::hook::Execution;
use crate::model::snapshot::Snapshot;
use crate::mutate::{self, Answer, Verdict};

pub(crate) use self::body::go_duration;

mod body;
mod log;
pub mod pool;

/// Interval between two warnings of one kind.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// Maximum bytes of the arena that a thread keeps between two requests. A review of 8 KB needs some 50 KB.
const ARENA_BYTES: usize = 1 << 20;

/// The function that answers a review; tests replace it.
pub trait Reviewer: Send + Sync + 'static {
    /// See [`mutate::answer`].
    fn answer(&self, body: &[u8], snapshot: &Snapshot, execution: Execution<'_>, arena: &Bump) -> Verdict;
    /// See [`mutate::deny`].
    fn deny(&self, body: &[u8], denial: Denial) -> Answer;
}

/// The [`Reviewer`] that calls [`mutate`].
#[derive(Debug, Clone, Copy)]
pub struct Mutate;

/// The handler of admission requests, with the state that all requests share.
pub struct Admission {
    reviewer: Arc<dyn Reviewer>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    pool: Pool,
    metrics: Arc<Metrics>,
    memory: BodyBudget,
    throttle: LogThrottle,
}

/// A caught panic: a bug in podgraft.
#[derive(Debug)]
struct Panicked;

// === impl Mutate ===

impl Reviewer for Mutate {
    fn answer(&self, body: &[u8], snapshot: &Snapshot, execution: Execution<'_>, arena: &Bump) -> Verdict {
        mutate::answer(body, snapshot, execution, arena)
    }

    fn deny(&self, body: &[u8], denial: Denial) -> Answer {
        mutate::deny(body, denial)
    }
}

// === impl Admission ===

impl Admission {
    /// Creates a handler that answers with `reviewer` and the current snapshot.
    pub fn new(
        reviewer: Arc<dyn Reviewer>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        pool: Pool,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            reviewer,
            snapshot,
            pool,
            metrics,
            memory: BodyBudget::default(),
            throttle: LogThrottle::new(WARN_EVERY),
        }
    }

    /// Returns the webhook's routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/mutate", post(mutate))
            .method_not_allowed_fallback(|| async {
                (StatusCode::METHOD_NOT_ALLOWED, "method not allowed: send AdmissionReviews with POST")
            })
            .fallback(|| async { (StatusCode::NOT_FOUND, "not found: send AdmissionReviews to /mutate") })
            .with_state(Arc::new(self))
    }

    /// Answers a review on this worker, or on a module thread if one of its modules is not fast enough.
    async fn answer(
        self: &Arc<Self>,
        body: Bytes,
        snapshot: Arc<Snapshot>,
        deadline: Instant,
    ) -> Result<Answer, Panicked> {
        match catch_panic(|arena| self.reviewer.answer(&body, &snapshot, Execution::Inline, arena))? {
            Verdict::Done(answer) => Ok(answer),
            Verdict::NeedsPool(module) => self.answer_on_module_thread(&module, body, snapshot, deadline).await,
        }
    }

    async fn answer_on_module_thread(
        self: &Arc<Self>,
        module: &str,
        body: Bytes,
        snapshot: Arc<Snapshot>,
        deadline: Instant,
    ) -> Result<Answer, Panicked> {
        self.metrics.module_offloaded(module);
        let (admission, job_body, job_snapshot) = (Arc::clone(self), body.clone(), Arc::clone(&snapshot));
        let waiting = self.metrics.waiting();
        let work = move || {
            drop(waiting); // the wait is over; a queue that drops the job drops the guard too
            let left = || deadline.saturating_duration_since(Instant::now());
            catch_panic(|arena| admission.reviewer.answer(&job_body, &job_snapshot, Execution::Pooled(&left), arena))
        };
        let error = match self.pool.run(module, deadline, work).await {
            Ok(verdict) => match verdict? {
                Verdict::Done(answer) => return Ok(answer),
                Verdict::NeedsPool(_) => PoolError::TimedOut,
            },
            Err(error) => error,
        };
        self.metrics.shed(ShedReason::from(error));
        if let Some(suppressed) = self.throttle.allow("module thread") {
            warn!(module, %error, suppressed, "module not run on a module thread");
        }
        // Without time for any module, those whose failure is ignored are ignored, and the others deny the pod.
        let no_time = || Duration::ZERO;
        if let Verdict::Done(answer) =
            catch_panic(|arena| self.reviewer.answer(&body, &snapshot, Execution::Pooled(&no_time), arena))?
        {
            return Ok(answer);
        }
        let message = format!("module '{module}' is busy: {error}");
        catch_panic(|_| self.reviewer.deny(&body, Denial::new(Reason::ModuleUnavailable, message)))
    }
}

/// Runs a function with this thread's arena and catches its panic.
fn catch_panic<T>(run: impl FnOnce(&Bump) -> T) -> Result<T, Panicked> {
    thread_local!(static ARENA: Cell<Option<Bump>> = const { Cell::new(None) });
    let mut arena = ARENA.take().unwrap_or_default();
    // a panic drops the arena, and nothing else outlives it
    let result = catch_unwind(AssertUnwindSafe(|| run(&arena))).map_err(|_| Panicked)?;
    arena.reset();
    if arena.allocated_bytes() <= ARENA_BYTES {
        ARENA.set(Some(arena));
    }
    Ok(result)
}

// === The request ===

/// Handles a request; a panic, on a module thread too, becomes a 500.
async fn mutate(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    let answered = AssertUnwindSafe(admission.handle(request)).catch_unwind().await;
    answered.map_err(|_| Panicked).and_then(|answered| answered).unwrap_or_else(|Panicked| {
        admission.metrics.panicked();
        error!("request answered with 500 after a panic");
        (StatusCode::INTERNAL_SERVER_ERROR, "internal error: a bug in podgraft; its log says where").into_response()
    })
}

impl Admission {
    async fn handle(self: &Arc<Self>, request: Request) -> Result<Response, Panicked> {
        let (head, body) = request.into_parts();
        let timeout = request_timeout(head.uri.query());
        let max_wait = *timeout.as_ref().unwrap_or(&Duration::ZERO);
        let body = self.memory.read(&head.headers, body, max_wait).await;
        let start = Instant::now(); // the time that the sender took does not count
        let _in_flight = self.metrics.request();
        let snapshot = self.snapshot.load_full();
        let generation = snapshot.generation;
        let answer = match body.and_then(|body| Ok((body, timeout?))) {
            Ok((body, timeout)) => {
                let deadline = start + timeout.saturating_sub(body.waited);
                self.answer(body.bytes.clone(), snapshot, deadline).await?
            }
            Err(ReadError::Malformed(status, message)) => mutate::malformed(status.as_u16(), message),
            Err(ReadError::NoMemory) => return Ok(self.body_memory_exhausted()),
        };
        let elapsed = start.elapsed();
        self.metrics.answered(&answer, elapsed);
        answer.modules.iter().for_each(|run| log_module(run, &answer, &self.throttle));
        log(&answer, generation, elapsed, &self.throttle);
        Ok(reply(answer))
    }

    fn body_memory_exhausted(&self) -> Response {
        self.metrics.shed(ShedReason::Memory);
        if let Some(suppressed) = self.throttle.allow("memory") {
            warn!(suppressed, "no memory for a review before its deadline");
        }
        (StatusCode::SERVICE_UNAVAILABLE, "overloaded: too many large AdmissionReviews at once").into_response()
    }
}

impl From<PoolError> for ShedReason {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::QueueFull => ShedReason::QueueFull,
            PoolError::WouldMissDeadline => ShedReason::TooLate,
            PoolError::NoThread => ShedReason::NoThread,
            PoolError::TimedOut => ShedReason::Unfinished,
        }
    }
}

fn reply(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { "text/plain; charset=utf-8" };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], answer.body).into_response()
}
