//! Log lines that could come a thousand times a second, and then come once in a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line of a kind through in each span of time, and counts those that it keeps back.
#[derive(Debug)]
pub(crate) struct LogThrottle {
    every: Duration,
    kinds: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl LogThrottle {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, kinds: Mutex::default() }
    }

    /// Whether a line of this kind may be written now, with how many were kept back since the last one.
    pub(crate) fn allow(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((last, kept)) = kinds.get_mut(kind) else {
            kinds.insert(kind, (now, 0));
            return Some(0);
        };
        if now.duration_since(*last) < self.every {
            *kept += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_let_through_and_the_next_after_a_while() {
        let never = LogThrottle::new(Duration::MAX);
        assert_eq!([never.allow("a"), never.allow("a"), never.allow("b")], [Some(0), None, Some(0)]);
        let always = LogThrottle::new(Duration::ZERO);
        assert_eq!([always.allow("a"), always.allow("a")], [Some(0), Some(0)]);
        let mut again = LogThrottle::new(Duration::MAX);
        assert_eq!([again.allow("a"), again.allow("a"), again.allow("a")], [Some(0), None, None]);
        again.every = Duration::ZERO;
        assert_eq!(again.allow("a"), Some(2), "those that were kept back are told of");
    }
}
