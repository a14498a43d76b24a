//! A review's bytes: what may come in, how much of it, and until when it must be answered.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

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

/// Why a request never became a review.
#[derive(Debug)]
pub(super) enum ReadError {
    /// it is none
    Malformed(StatusCode, String),
    /// there was no memory for it in time
    NoMemory,
}

/// A body, and its share of the memory that all bodies may take.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    /// how long it waited for that memory
    pub(super) waited: Duration,
    _share: Option<OwnedSemaphorePermit>,
}

/// The memory that all bodies may take.
#[derive(Debug)]
pub(super) struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES)))
    }
}

impl BodyBudget {
    /// The whole body, or why not; `patience` is for memory, the sender has a time limit of its own.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        patience: Duration,
    ) -> Result<BufferedBody, ReadError> {
        if !is_json(headers) {
            discard(body).await;
            return Err(read_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
        }
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut parts = body.into_data_stream();
        let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
        let (mut share, mut waited) = (None, Duration::ZERO);
        loop {
            if expected.max(first.len() + whole.len()) > BODY_BYTES {
                discard(Body::from_stream(parts)).await;
                let message = format!("the body is longer than {} MiB", BODY_BYTES >> 20);
                return Err(read_error(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let Some(part) = parts.next().await else { break };
            let part =
                part.map_err(|error| read_error(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
            self.reserve(&mut share, part.len(), &mut waited, patience).await?;
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
        Ok(BufferedBody { bytes: if whole.is_empty() { first } else { whole.freeze() }, waited, _share: share })
    }

    /// Waits until there is memory for this much more, and gives up before the deadline.
    async fn reserve(
        &self,
        share: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
        waited: &mut Duration,
        patience: Duration,
    ) -> Result<(), ReadError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = if let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(bytes) {
            more
        } else {
            let begun = Instant::now();
            let left = patience.saturating_sub(*waited);
            let more = timeout(left, Arc::clone(&self.0).acquire_many_owned(bytes)).await;
            *waited += begun.elapsed();
            more.ok().and_then(Result::ok).ok_or(ReadError::NoMemory)?
        };
        match share {
            Some(share) => share.merge(more),
            None => *share = Some(more),
        }
        Ok(())
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
pub(super) fn request_timeout(query: Option<&str>) -> Result<Duration, ReadError> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let given = match pairs.find(|(name, _)| *name == "timeout") {
        None => Duration::ZERO,
        Some((_, text)) => go_duration(text).ok_or_else(|| {
            read_error(StatusCode::BAD_REQUEST, "the timeout in the query is not a duration such as 2s or 500ms")
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

fn read_error(status: StatusCode, message: impl Into<String>) -> ReadError {
    ReadError::Malformed(status, message.into())
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
        let allowed = |query| request_timeout(query).map(|allowed| allowed.as_millis()).ok();
        assert_eq!(allowed(None), Some(9_900));
        assert_eq!(allowed(Some("timeout=2s")), Some(900));
        assert_eq!(allowed(Some("timeout=1s")), Some(900));
        assert_eq!(allowed(Some("a=b&timeout=30s")), Some(9_900));
        assert_eq!(allowed(Some("timeout=50ms")), Some(0));
        assert_eq!(allowed(Some("timeout=soon")), None);
    }
}
