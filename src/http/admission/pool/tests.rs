//! The choice of a job by a thread. `tests/server/modules.rs` tests the pool as a whole.

use super::*;

const LIMITS: Limits = Limits { threads: 4, threads_per_module: 1, queue: 9, queue_per_module: 9 };

/// A task whose result is awaited.
struct Wanted;

impl Task for Wanted {
    fn is_wanted(&self) -> bool {
        true
    }

    fn run(self: Box<Self>) {}
}

/// Returns a state with one idle demoted thread, and a job of each of these modules, all of them slow.
fn state(modules: &[&str]) -> State {
    let job = |module: &&str| Job { module: Arc::from(*module), deadline: Instant::now(), task: Box::new(Wanted) };
    State {
        queue: modules.iter().map(job).collect(),
        slow: modules.iter().map(|module| Arc::from(*module)).collect(),
        demoted: 1,
        demoted_idle: 1,
        ..State::default()
    }
}

fn next(state: &mut State, demoted: bool) -> Option<String> {
    state.next(LIMITS, demoted).map(|job| job.module.to_string())
}

/// A submission wakes all threads, and a demoted one may come last: once it has taken the first job, no thread looks at
/// the second until a job ends.
#[test]
fn slow_job_without_a_demoted_thread_runs_on_a_normal_one() {
    let mut state = state(&["a", "b"]);
    assert_eq!(next(&mut state, false).as_deref(), Some("a"), "a normal thread that comes first");
    assert_eq!(next(&mut state, false), None, "the second job is left to the idle demoted thread");
    state.demoted_idle -= 1;
    assert_eq!(next(&mut state, true).as_deref(), Some("b"));
}

#[test]
fn slow_job_at_its_modules_limit_demotes_no_further_thread() {
    let mut state = state(&["a", "a", "b"]);
    state.running.insert("a".into(), Running { threads: 1, mean_duration: None });
    assert_eq!(next(&mut state, false), None);
    assert_eq!(next(&mut state, true).as_deref(), Some("b"));
}
