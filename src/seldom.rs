//! Log lines that could come a thousand times a second, and then come once in a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets one line of a kind through in each span of time, and counts those that it keeps back.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    kinds: Mutex<HashMap<&'static str, (Instant, u64)>>,
}

impl Seldom {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, kinds: Mutex::default() }
    }

    /// Whether a line of this kind may be written now, with how many were kept back since the last one.
    pub(crate) fn may(&self, kind: &'static str) -> Option<u64> {
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
        let never = Seldom::new(Duration::MAX);
        assert_eq!([never.may("a"), never.may("a"), never.may("b")], [Some(0), None, Some(0)]);
        let always = Seldom::new(Duration::ZERO);
        assert_eq!([always.may("a"), always.may("a")], [Some(0), Some(0)]);
        let mut again = Seldom::new(Duration::MAX);
        assert_eq!([again.may("a"), again.may("a"), again.may("a")], [Some(0), None, None]);
        again.every = Duration::ZERO;
        assert_eq!(again.may("a"), Some(2), "those that were kept back are told of");
    }
}
