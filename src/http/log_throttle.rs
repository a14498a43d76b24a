//! The rate limit of log lines that could otherwise come a thousand times a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows one line of a kind per interval, and counts the suppressed ones.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    interval: Duration,
    kinds: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl LogThrottle {
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, kinds: Mutex::default() }
    }

    /// Returns the number of lines suppressed since the last one if a line of this kind may be written now.
    pub(crate) fn allow(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, suppressed)) = kinds.get_mut(kind) else {
            kinds.insert(kind, (now, 0));
            return Some(0);
        };
        if now.duration_since(*last) < self.interval {
            *suppressed += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_is_allowed_per_interval() {
        let once = LogThrottle::new(Duration::MAX);
        assert_eq!([once.allow("a"), once.allow("a"), once.allow("b")], [Some(0), None, Some(0)]);
        let always = LogThrottle::new(Duration::ZERO);
        assert_eq!([always.allow("a"), always.allow("a")], [Some(0), Some(0)]);
        let mut throttle = LogThrottle::new(Duration::MAX);
        assert_eq!([throttle.allow("a"), throttle.allow("a"), throttle.allow("a")], [Some(0), None, None]);
        throttle.interval = Duration::ZERO;
        assert_eq!(throttle.allow("a"), Some(2), "suppressed lines are counted");
    }
}
