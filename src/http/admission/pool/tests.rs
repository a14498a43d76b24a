//! Who takes which job; the rest is in `tests/server/modules.rs`.

use super::*;

const LIMITS: Limits = Limits { threads: 4, threads_per_module: 1, queue: 9, queue_per_module: 9 };

/// A job that somebody waits for.
struct Wanted;

impl Task for Wanted {
    fn is_wanted(&self) -> bool {
        true
    }

    fn run(self: Box<Self>) {}
}

/// One thread that was lowered and is idle, and a job of each of these modules, whose last calls were long.
fn state(modules: &[&str]) -> State {
    let job = |module: &&str| Job { module: Arc::from(*module), deadline: Instant::now(), task: Box::new(Wanted) };
    State {
        queue: modules.iter().map(job).collect(),
        slow: modules.iter().map(|module| Arc::from(*module)).collect(),
        demoted: 1,
        lowered_idle: 1,
        ..State::default()
    }
}

fn taken(state: &mut State, lowered: bool) -> Option<String> {
    state.next(LIMITS, lowered).map(|job| job.module.to_string())
}

/// All threads are called at each submission, and one that is lowered may come last: when it has taken the first job,
/// nobody looks at the second until something ends.
#[test]
fn a_long_job_for_which_no_lowered_thread_is_left_is_for_another_at_once() {
    let mut two = state(&["a", "b"]);
    assert_eq!(taken(&mut two, false).as_deref(), Some("a"), "before the idle one has come");
    assert_eq!(taken(&mut two, false), None, "the idle one's");
    two.lowered_idle -= 1;
    assert_eq!(taken(&mut two, true).as_deref(), Some("b"));
}

#[test]
fn a_long_job_that_waits_for_its_modules_share_lowers_no_further_thread() {
    let mut state = state(&["a", "a", "b"]);
    state.running.insert("a".into(), Running { threads: 1, mean_duration: None });
    assert_eq!(taken(&mut state, false), None);
    assert_eq!(taken(&mut state, true).as_deref(), Some("b"));
}
