//! `POST /mutate`: one AdmissionReview from its HTTP request to its reply.
//!
//! Whatever judges the review is a [`Reviewer`]; here are the limits around it: the content type, the size, the
//! deadline, the thread it runs on, and what becomes of a panic.
//!
//! There are two queues in which a request may wait, for memory and for a module thread. Both are bounded, and who
//! would wait in vain is told so before its deadline: without memory by a 503, which the registration's
//! `failurePolicy` judges as podgraft's absence; without a thread by the module's own `onError`.

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

/// How often the same trouble is a warning.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// What a thread keeps of its arena between two requests. A review of 8 KB needs some 50 KB.
const ARENA_BYTES: usize = 1 << 20;

/// What judges a review.
pub trait Reviewer: Send + Sync + 'static {
    /// See [`mutate::answer`].
    fn answer(&self, body: &[u8], snapshot: &Snapshot, pace: Execution<'_>, arena: &Bump) -> Verdict;
    /// See [`mutate::refuse`].
    fn deny(&self, body: &[u8], rejection: Denial) -> Answer;
}

/// The real [`Reviewer`].
#[derive(Debug, Clone, Copy)]
pub struct Mutate;

/// What every request is given.
pub struct Admission {
    reviewer: Arc<dyn Reviewer>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    pool: Pool,
    metrics: Arc<Metrics>,
    memory: BodyBudget,
    seldom: LogThrottle,
}

/// A panic that was caught: a defect of podgraft.
#[derive(Debug)]
struct Panicked;

// === impl Mutate ===

impl Reviewer for Mutate {
    fn answer(&self, body: &[u8], snapshot: &Snapshot, pace: Execution<'_>, arena: &Bump) -> Verdict {
        mutate::answer(body, snapshot, pace, arena)
    }

    fn deny(&self, body: &[u8], rejection: Denial) -> Answer {
        mutate::deny(body, rejection)
    }
}

// === impl Admission ===

impl Admission {
    /// What answers with `reviewer` by the snapshot of the moment.
    pub fn new(
        reviewer: Arc<dyn Reviewer>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        pool: Pool,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { reviewer, snapshot, pool, metrics, memory: BodyBudget::default(), seldom: LogThrottle::new(WARN_EVERY) }
    }

    /// The webhook's routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/mutate", post(mutate))
            .method_not_allowed_fallback(|| async {
                (StatusCode::METHOD_NOT_ALLOWED, "this path takes AdmissionReviews by POST only")
            })
            .fallback(|| async { (StatusCode::NOT_FOUND, "there is nothing here: AdmissionReviews go to /mutate") })
            .with_state(Arc::new(self))
    }

    /// Answers a review: on this worker, or on a module thread when one of its modules asks for that.
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
        let (admission, review, world) = (Arc::clone(self), body.clone(), Arc::clone(&snapshot));
        let waiting = self.metrics.waiting();
        let work = move || {
            drop(waiting); // it waits no more; where the queue drops it, the guard goes with it
            let left = || deadline.saturating_duration_since(Instant::now());
            catch_panic(|arena| admission.reviewer.answer(&review, &world, Execution::Pooled(&left), arena))
        };
        let busy = match self.pool.run(module, deadline, work).await {
            Ok(verdict) => match verdict? {
                Verdict::Done(answer) => return Ok(answer),
                Verdict::NeedsPool(_) => PoolError::TimedOut,
            },
            Err(busy) => busy,
        };
        self.metrics.shed(ShedReason::from(busy));
        if let Some(more) = self.seldom.allow("busy") {
            warn!(module, %busy, more, "no room for a slow module");
        }
        // With no time for any module, those whose failure may be ignored are, and the others refuse the pod.
        let no_time = || Duration::ZERO;
        if let Verdict::Done(answer) =
            catch_panic(|arena| self.reviewer.answer(&body, &snapshot, Execution::Pooled(&no_time), arena))?
        {
            return Ok(answer);
        }
        let message = format!("module '{module}' is busy: {busy}");
        catch_panic(|_| self.reviewer.deny(&body, Denial::new(Reason::ModuleUnavailable, message)))
    }
}

/// Runs what is ours and may nevertheless panic, with this thread's arena.
fn catch_panic<T>(run: impl FnOnce(&Bump) -> T) -> Result<T, Panicked> {
    thread_local!(static ARENA: Cell<Option<Bump>> = const { Cell::new(None) });
    let mut arena = ARENA.take().unwrap_or_default();
    // a panic leaves nothing behind but the arena, which is dropped with it
    let result = catch_unwind(AssertUnwindSafe(|| run(&arena))).map_err(|_| Panicked)?;
    arena.reset();
    if arena.allocated_bytes() <= ARENA_BYTES {
        ARENA.set(Some(arena));
    }
    Ok(result)
}

// === the request ===

/// The boundary of a request: whatever panics inside is a 500, on a module thread too.
async fn mutate(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    let answered = AssertUnwindSafe(admission.handle(request)).catch_unwind().await;
    answered.map_err(|_| Panicked).and_then(|answered| answered).unwrap_or_else(|Panicked| {
        admission.metrics.panicked();
        error!("request answered with 500 after a panic");
        (StatusCode::INTERNAL_SERVER_ERROR, "podgraft has a bug; its log says where").into_response()
    })
}

impl Admission {
    async fn handle(self: &Arc<Self>, request: Request) -> Result<Response, Panicked> {
        let (head, body) = request.into_parts();
        let allowance = request_timeout(head.uri.query());
        let patience = *allowance.as_ref().unwrap_or(&Duration::ZERO);
        let body = self.memory.read(&head.headers, body, patience).await;
        let begun = Instant::now(); // the time that the sender took is not ours
        let _in_flight = self.metrics.request();
        let snapshot = self.snapshot.load_full();
        let generation = snapshot.generation;
        let answer = match body.and_then(|body| Ok((body, allowance?))) {
            Ok((review, allowance)) => {
                let deadline = begun + allowance.saturating_sub(review.waited);
                self.answer(review.bytes.clone(), snapshot, deadline).await?
            }
            Err(ReadError::Malformed(status, message)) => mutate::malformed(status.as_u16(), message),
            Err(ReadError::NoMemory) => return Ok(self.body_memory_exhausted()),
        };
        let elapsed = begun.elapsed();
        self.metrics.answered(&answer, elapsed);
        answer.modules.iter().for_each(|run| log_module(run, &answer, &self.seldom));
        log(&answer, generation, elapsed, &self.seldom);
        Ok(reply(answer))
    }

    fn body_memory_exhausted(&self) -> Response {
        self.metrics.shed(ShedReason::Memory);
        if let Some(more) = self.seldom.allow("memory") {
            warn!(more, "no memory for a review until its deadline");
        }
        (StatusCode::SERVICE_UNAVAILABLE, "podgraft has too many large reviews at once").into_response()
    }
}

impl From<PoolError> for ShedReason {
    fn from(busy: PoolError) -> Self {
        match busy {
            PoolError::Queue => ShedReason::QueueFull,
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
