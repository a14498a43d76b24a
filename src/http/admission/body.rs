//! The body of an admission request: its media type, size limit, memory budget and timeout.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Maximum bytes of a review. The API server's own objects end at 3 MiB, and a review may hold two of them;
/// controller-runtime's webhooks have this limit too. (axum's own default is 2 MB.)
pub const BODY_BYTES: usize = 7 << 20;

/// Maximum bytes of all bodies together: 8,000 ordinary reviews, or nine of the longest.
const BODIES_BYTES: usize = 64 << 20;

/// Maximum bytes that are read and discarded of a longer body, so that its sender reaches the point where it reads the
/// 413.
const DISCARD_BYTES: usize = 2 * BODY_BYTES;

/// The maximum request timeout, and the default: the API server's own default.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// Time reserved for the reply's way back.
const MARGIN: Duration = Duration::from_millis(100);

/// The reason why a request's body was not read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// the request is malformed
    Malformed(StatusCode, String),
    /// no memory for the body in time
    NoMemory,
}

/// A body, and its reservation in the budget of all bodies.
pub(super) struct BufferedBody {
    pub(super) bytes: Bytes,
    /// time that the body waited for memory
    pub(super) waited: Duration,
    _reservation: Option<OwnedSemaphorePermit>,
}

/// The memory budget of all bodies.
#[derive(Debug)]
pub(super) struct BodyBudget(Arc<Semaphore>);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_BYTES)))
    }
}

impl BodyBudget {
    /// Reads the whole body. `max_wait` limits the wait for memory only; the sender has a time limit of its own.
    pub(super) async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        max_wait: Duration,
    ) -> Result<BufferedBody, ReadError> {
        if !is_json(headers) {
            discard(body).await;
            return Err(read_error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
        }
        let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let mut parts = body.into_data_stream();
        let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
        let (mut reservation, mut waited) = (None, Duration::ZERO);
        loop {
            if expected.max(first.len() + whole.len()) > BODY_BYTES {
                discard(Body::from_stream(parts)).await;
                let message = format!("the body exceeds {} MiB", BODY_BYTES >> 20);
                return Err(read_error(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            let Some(part) = parts.next().await else { break };
            let part =
                part.map_err(|error| read_error(StatusCode::BAD_REQUEST, format!("the body is incomplete: {error}")))?;
            self.reserve(&mut reservation, part.len(), &mut waited, max_wait).await?;
            // most reviews arrive in one part and are never copied
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
        Ok(BufferedBody {
            bytes: if whole.is_empty() { first } else { whole.freeze() },
            waited,
            _reservation: reservation,
        })
    }

    /// Reserves this many bytes more; waits for them no longer than `max_wait` in all.
    async fn reserve(
        &self,
        reservation: &mut Option<OwnedSemaphorePermit>,
        bytes: usize,
        waited: &mut Duration,
        max_wait: Duration,
    ) -> Result<(), ReadError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = if let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(bytes) {
            more
        } else {
            let start = Instant::now();
            let left = max_wait.saturating_sub(*waited);
            let more = timeout(left, Arc::clone(&self.0).acquire_many_owned(bytes)).await;
            *waited += start.elapsed();
            more.ok().and_then(Result::ok).ok_or(ReadError::NoMemory)?
        };
        match reservation {
            Some(reservation) => reservation.merge(more),
            None => *reservation = Some(more),
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

/// Returns the request timeout from the `?timeout=` that the API server adds, less a margin.
pub(super) fn request_timeout(query: Option<&str>) -> Result<Duration, ReadError> {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let given = match pairs.find(|(name, _)| *name == "timeout") {
        None => Duration::ZERO,
        Some((_, text)) => go_duration(text).ok_or_else(|| {
            read_error(StatusCode::BAD_REQUEST, "timeout in the query: is not a duration such as 2s or 500ms")
        })?,
    };
    if given.is_zero() {
        return Ok(MAX_TIMEOUT.saturating_sub(MARGIN)); // in Go, zero means no timeout
    }
    // The API server rounds the rest of its own request's timeout up to whole seconds.
    let second = Duration::from_secs(1);
    let real = given.checked_sub(second).filter(|real| *real >= second).unwrap_or(given);
    Ok(real.min(MAX_TIMEOUT).saturating_sub(MARGIN))
}

/// Parses a duration as Go's `time.ParseDuration` does: numbers with units, such as `1m30s`, `1.5s`, `500ms`, or `0`.
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
    fn go_durations_are_parsed() {
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
    fn request_timeout_is_the_rest_before_rounding_less_a_margin() {
        let millis = |query| request_timeout(query).map(|timeout| timeout.as_millis()).ok();
        assert_eq!(millis(None), Some(9_900));
        assert_eq!(millis(Some("timeout=2s")), Some(900));
        assert_eq!(millis(Some("timeout=1s")), Some(900));
        assert_eq!(millis(Some("a=b&timeout=30s")), Some(9_900));
        assert_eq!(millis(Some("timeout=50ms")), Some(0));
        assert_eq!(millis(Some("timeout=soon")), None);
    }
}
