//! `POST /mutate`: one AdmissionReview from its HTTP request to its reply.
//!
//! Whatever judges the review is a [`Reviewer`]; here are the limits around it: the content type, the size, the
//! deadline, the thread it runs on, and what becomes of a panic.

use std::borrow::Cow;
use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bumpalo::Bump;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use self::pool::{Busy, Pool};
use crate::metrics::Metrics;
use crate::mutate::{self, Answer, ModuleRun, Outcome, Reason, Rejection, Verdict};
use crate::render::{Level, Pace};
use crate::snapshot::Snapshot;

pub mod pool;

/// The longest review that is read. The API server's own objects end at 3 MiB, and a review may hold two of them;
/// controller-runtime's webhooks take as much. (axum's own default is 2 MB.)
pub const BODY_BYTES: usize = 7 << 20;

/// What all bodies together may take: 8,000 ordinary reviews, or nine of the longest.
const BODIES_BYTES: usize = 64 << 20;

/// What is read and thrown away of a longer one, so that its sender gets to the point where it reads our 413.
const DISCARD_BYTES: usize = 2 * BODY_BYTES;

/// The longest that a request may take when the API server names no time-out: its own default.
const OWN_DEADLINE: Duration = Duration::from_secs(10);

/// What is left for the way back.
const MARGIN: Duration = Duration::from_millis(100);

/// What a thread keeps of its arena between two requests. A review of 8 KB needs some 50 KB.
const ARENA_BYTES: usize = 1 << 20;

/// What judges a review.
pub trait Reviewer: Send + Sync + 'static {
    /// See [`mutate::answer`].
    fn answer(&self, body: &[u8], snapshot: &Snapshot, pace: Pace<'_>, arena: &Bump) -> Verdict;
    /// See [`mutate::refuse`].
    fn refuse(&self, body: &[u8], rejection: Rejection) -> Answer;
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
    memory: Arc<Semaphore>,
}

/// A panic that was caught: a defect of podgraft.
#[derive(Debug)]
struct Panicked;

// === impl Mutate ===

impl Reviewer for Mutate {
    fn answer(&self, body: &[u8], snapshot: &Snapshot, pace: Pace<'_>, arena: &Bump) -> Verdict {
        mutate::answer(body, snapshot, pace, arena)
    }

    fn refuse(&self, body: &[u8], rejection: Rejection) -> Answer {
        mutate::refuse(body, rejection)
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
        Self { reviewer, snapshot, pool, metrics, memory: Arc::new(Semaphore::new(BODIES_BYTES)) }
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
        match guarded(|arena| self.reviewer.answer(&body, &snapshot, Pace::Inline, arena))? {
            Verdict::Done(answer) => Ok(answer),
            Verdict::Slow(module) => self.answer_patiently(&module, body, snapshot, deadline).await,
        }
    }

    async fn answer_patiently(
        self: &Arc<Self>,
        module: &str,
        body: Bytes,
        snapshot: Arc<Snapshot>,
        deadline: Instant,
    ) -> Result<Answer, Panicked> {
        self.metrics.module_rerun(module);
        let (admission, review, world) = (Arc::clone(self), body.clone(), Arc::clone(&snapshot));
        let work = move || {
            let left = || deadline.saturating_duration_since(Instant::now());
            guarded(|arena| admission.reviewer.answer(&review, &world, Pace::Patient(&left), arena))
        };
        let busy = match self.pool.run(module, deadline, work).await {
            Ok(verdict) => match verdict? {
                Verdict::Done(answer) => return Ok(answer),
                Verdict::Slow(_) => Busy::Running,
            },
            Err(busy) => busy,
        };
        tracing::warn!(module, %busy, "no room for a slow module");
        // With no time for any module, those whose failure may be ignored are, and the others refuse the pod.
        let no_time = || Duration::ZERO;
        if let Verdict::Done(answer) =
            guarded(|arena| self.reviewer.answer(&body, &snapshot, Pace::Patient(&no_time), arena))?
        {
            return Ok(answer);
        }
        let message = format!("module '{module}' is busy: {busy}");
        guarded(|_| self.reviewer.refuse(&body, Rejection::new(Reason::ModuleUnavailable, message)))
    }
}

/// Runs what is ours and may nevertheless panic, with this thread's arena.
fn guarded<T>(run: impl FnOnce(&Bump) -> T) -> Result<T, Panicked> {
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

async fn mutate(State(admission): State<Arc<Admission>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = admission.read(&head.headers, body).await;
    let begun = Instant::now(); // the time that the sender took is not ours
    let _in_flight = admission.metrics.request();
    let snapshot = admission.snapshot.load_full();
    let generation = snapshot.generation;
    let answer = match body.and_then(|body| Ok((body, allowance(head.uri.query())?))) {
        Ok((review, allowance)) => admission.answer(review.bytes.clone(), snapshot, begun + allowance).await,
        Err(Unread { status, message }) => Ok(mutate::malformed(status.as_u16(), message)),
    };
    admission.finish(answer, generation, begun)
}

/// Why a request never became a review.
#[derive(Debug)]
struct Unread {
    status: StatusCode,
    message: String,
}

/// A body, and its share of the memory that all bodies may take.
struct Review {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// The whole body, or why not.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Review, Unread> {
        if !is_json(headers) {
            discard(body).await;
            return Err(unread(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
        }
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut parts = body.into_data_stream();
        let (mut first, mut whole, mut share) = (Bytes::new(), BytesMut::new(), None);
        loop {
            if expected.max(first.len() + whole.len()) > BODY_BYTES {
                discard(Body::from_stream(parts)).await;
                let message = format!("the body is longer than {} MiB", BODY_BYTES >> 20);
                return Err(unread(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let Some(part) = parts.next().await else { break };
            let part = part.map_err(|error| unread(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
            self.charge(&mut share, part.len()).await;
            // most reviews come in one part and are never copied
            if first.is_empty() && whole.is_empty() {
                first = part;
                continue;
            }
            if whole.is_empty() {
                whole.reserve(expected);
                whole.extend_from_slice(&mem::take(&mut first));
            }
            whole.extend_from_slice(&part);
        }
        Ok(Review { bytes: if whole.is_empty() { first } else { whole.freeze() }, _share: share })
    }

    /// Waits until there is memory for this much more; whoever waits too long is cut as a slow client is.
    async fn charge(&self, share: &mut Option<OwnedSemaphorePermit>, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&self.memory).acquire_many_owned(bytes).await else { return };
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
    }
}

async fn discard(body: Body) {
    let mut parts = body.into_data_stream();
    let mut left = DISCARD_BYTES;
    while let Some(Ok(part)) = parts.next().await {
        let Some(less) = left.checked_sub(part.len()) else { return };
        left = less;
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// How long the request may take, by the `?timeout=` that the API server adds.
fn allowance(query: Option<&str>) -> Result<Duration, Unread> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let given = match pairs.find(|(name, _)| *name == "timeout") {
        None => Duration::ZERO,
        Some((_, text)) => go_duration(text).ok_or_else(|| {
            unread(StatusCode::BAD_REQUEST, "the timeout in the query is not a duration such as 2s or 500ms")
        })?,
    };
    if given.is_zero() {
        return Ok(OWN_DEADLINE.saturating_sub(MARGIN)); // Go's zero is "no time-out"
    }
    // The API server rounds what is left of its own request up to whole seconds.
    let second = Duration::from_secs(1);
    let real = given.checked_sub(second).filter(|real| *real >= second).unwrap_or(given);
    Ok(real.min(OWN_DEADLINE).saturating_sub(MARGIN))
}

/// Go's `time.ParseDuration`: numbers with units, such as `1m30s`, `1.5s`, `500ms`; a bare 0 needs none.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').or_else(|| text.strip_prefix("%2B")).unwrap_or(text);
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, unit_on) = rest.split_at(number);
        let unit_length = unit_on.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit_on.len());
        let (unit, after) = unit_on.split_at(unit_length);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "%C2%B5s" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let value: f64 = digits.parse().ok()?;
        total = total.checked_add(Duration::try_from_secs_f64(value * seconds).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn unread(status: StatusCode, message: impl Into<String>) -> Unread {
    Unread { status, message: message.into() }
}

// === the reply ===

impl Admission {
    /// Counts, logs and sends what came of a request.
    fn finish(&self, answer: Result<Answer, Panicked>, generation: u64, begun: Instant) -> Response {
        let Ok(answer) = answer else {
            self.metrics.panicked();
            error!(generation, "request answered with 500 after a panic");
            return (StatusCode::INTERNAL_SERVER_ERROR, "podgraft has a bug; its log says where").into_response();
        };
        let elapsed = begun.elapsed();
        self.metrics.answered(&answer, elapsed);
        answer.modules.iter().for_each(|run| log_module(run, &answer));
        log(&answer, generation, elapsed);
        reply(answer)
    }
}

fn reply(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { "text/plain; charset=utf-8" };
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], answer.body).into_response()
}

/// One line a request: who, what came of it, why; never what is in the pod.
fn log(answer: &Answer, generation: u64, elapsed: Duration) {
    let us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let Answer { uid, namespace, name, operations, .. } = answer;
    let (outcome, reason, queue) = (answer.outcome.as_str(), answer.reason, answer.queue.as_deref());
    match answer.message.as_deref().map(one_line) {
        Some(message) if answer.outcome == Outcome::Malformed => {
            warn!(status = answer.status, us, generation, "{outcome}: {message}");
        }
        Some(message) => {
            info!(uid, namespace, name, queue, outcome, reason, operations, us, generation, "{outcome}: {message}");
        }
        None => info!(uid, namespace, name, queue, outcome, operations, us, generation, "{outcome}"),
    }
}

/// What a guest logged (redacted by then), and its failure.
fn log_module(run: &ModuleRun, answer: &Answer) {
    let (module, uid) = (run.name.as_str(), answer.uid.as_str());
    for log in &run.logs {
        let text = one_line(&log.message);
        match log.level {
            Level::Debug => debug!(target: "podgraft::guest", module, uid, "{text}"),
            Level::Info => info!(target: "podgraft::guest", module, uid, "{text}"),
            Level::Warn => warn!(target: "podgraft::guest", module, uid, "{text}"),
            Level::Error => error!(target: "podgraft::guest", module, uid, "{text}"),
        }
    }
    if let Some(fault) = run.fault.as_deref().map(one_line) {
        warn!(module, uid, "{fault}");
    }
}

/// A guest's text, or one that quotes a pod, must not look like further lines of our log.
fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_as_go_writes_it() {
        let parsed = |text| go_duration(text).map(|duration| duration.as_millis());
        for (text, millis) in
            [("10s", 10_000), ("1.5s", 1_500), ("500ms", 500), ("1m0s", 60_000), ("0", 0), ("0s", 0), (".5s", 500)]
        {
            assert_eq!(parsed(text), Some(millis), "{text}");
        }
        for text in ["", "s", "10", "-1s", "1 s", "1x", "1..5s", "1e9s", "99999999999999999999h"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn the_deadline_is_the_real_rest_less_a_margin() {
        let allowed =
            |query| allowance(query).map(|allowed| allowed.as_millis()).map_err(|unread| unread.status.as_u16());
        assert_eq!(allowed(None), Ok(9_900));
        assert_eq!(allowed(Some("timeout=2s")), Ok(900));
        assert_eq!(allowed(Some("timeout=1s")), Ok(900));
        assert_eq!(allowed(Some("a=b&timeout=30s")), Ok(9_900));
        assert_eq!(allowed(Some("timeout=50ms")), Ok(0));
        assert_eq!(allowed(Some("timeout=soon")), Err(400));
    }
}
