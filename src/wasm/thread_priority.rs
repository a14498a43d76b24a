//! The demotion of threads: on few cores a guest that computes for long must not keep the workers from a request.
//!
//! A thread allows its demotion once. A long call then demotes it for good, because Linux raises no thread's priority
//! again without a privilege that podgraft does not have. The thread's owner starts another for short calls.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of a call before its thread is demoted: shorter calls compete with the workers as equals.
pub const CPU_BEFORE_DEMOTION: Duration = Duration::from_millis(10);

thread_local! {
    static PRIORITY: Cell<Priority> = const { Cell::new(Priority::Fixed) };
    static TIMED_OUT: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Priority {
    Fixed,
    Demotable,
    Demoted,
}

/// Allows the demotion of this thread while it runs a guest. Only Linux has a scheduling policy that low.
pub fn allow_demotion() {
    if cfg!(target_os = "linux") {
        PRIORITY.set(Priority::Demotable);
    }
}

/// Returns true if this thread is demoted.
pub fn is_demoted() -> bool {
    PRIORITY.get() == Priority::Demoted
}

/// Records that a call on this thread timed out.
pub fn mark_timed_out() {
    TIMED_OUT.set(true);
}

/// Returns true if a call on this thread has timed out since the last time this was called.
pub fn take_timed_out() -> bool {
    TIMED_OUT.take()
}

/// Returns true if [`demote`] would demote this thread.
pub(super) fn may_demote() -> bool {
    PRIORITY.get() == Priority::Demotable
}

/// Demotes this thread if that is allowed: it runs while no other thread of podgraft wants its core, and a thread that
/// wakes up preempts it at once. (Niceness 19 lets the woken thread wait for a part of a slice: with one request at a
/// time p99 was 4.1 times its value without load, and is 1.2 to 2.3 times with this.) It affects podgraft's own threads
/// only, not other containers. If the system does not permit it, guests compete with the workers as equals.
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
    PRIORITY.set(Priority::Demoted);
}

/// Returns the CPU time that this thread has used.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
