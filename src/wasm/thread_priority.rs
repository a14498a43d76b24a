//! Which threads give way: on few cores a guest that computes for long must not keep the workers from a request.
//!
//! A thread says that it can, once; what then runs on it for long lowers it for good, because Linux lets nobody raise
//! a thread again without a right that podgraft has not. Whoever owns the thread finds another for short calls.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU that a call has as an equal of the workers: what ends sooner is never kept waiting where they want the whole core.
pub const CPU_BEFORE_DEMOTION: Duration = Duration::from_millis(10);

thread_local! {
    static PRIORITY: Cell<Priority> = const { Cell::new(Priority::Keeps) };
    static TIMED_OUT: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Keeps,
    CanGive,
    Gave,
}

/// This thread can be given up: it may be lowered while it runs a guest. Only Linux has a place that low.
pub fn allow_demotion() {
    if cfg!(target_os = "linux") {
        PRIORITY.set(Priority::CanGive);
    }
}

/// Whether this thread was lowered.
pub fn is_demoted() -> bool {
    PRIORITY.get() == Priority::Gave
}

/// A call on this thread was cut at its deadline.
pub fn mark_timed_out() {
    TIMED_OUT.set(true);
}

/// Whether one was since this was last asked.
pub fn take_timed_out() -> bool {
    TIMED_OUT.take()
}

/// Whether [`give`] would do anything.
pub(super) fn may_demote() -> bool {
    PRIORITY.get() == Priority::CanGive
}

/// Lowers this thread, if it can be: it runs when nobody else of podgraft wants its core, and whoever wakes up goes
/// first at once. (Niceness 19 leaves the one who wakes waiting for a part of a slice: at one request a time p99 was
/// 4.1 times what it is alone, and is 1.2 to 2.3 times with this.) It weighs against podgraft's own threads only, not
/// other containers. Where the system refuses, guests compete with the workers as equals.
pub fn demote() {
    if !may_demote() {
        return;
    }
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    }
    PRIORITY.set(Priority::Gave);
}

/// CPU that this thread has had.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
