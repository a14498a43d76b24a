//! The module threads: where a request goes on when one of its modules is too slow for the worker that it began on.
//!
//! They are threads of their own and not tokio's blocking ones, because the point is the bounds: on threads, on what
//! waits, and on what one module may have of both, so that a module that loops delays its own pods and nobody else's.
//! On few cores the scheduler has a part in that: a call that computes for long lowers its thread behind the workers
//! ([`way`]). Such threads are for modules whose last call was long; the others get a successor.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::wasm::thread_priority;

/// How much there is of what.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// threads
    pub threads: usize,
    /// threads that one module may have at a time
    pub threads_per_module: usize,
    /// requests that wait for a thread
    pub queue: usize,
    /// requests that wait because of one module
    pub queue_per_module: usize,
}

impl Limits {
    /// Guests only compute, so more threads than cores do not make them faster; twice as many let a short call pass a
    /// long one. Half of them per module leaves the other half to the other modules.
    pub fn for_cores(cores: usize) -> Self {
        let threads = (2 * cores).max(4);
        Self { threads, threads_per_module: threads / 2, queue: 256, queue_per_module: 64 }
    }
}

/// Why a request was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// too many wait already
    #[error("too many requests wait for it")]
    Queue,
    /// by what its calls take now, none of the threads would be free before the deadline
    #[error("so many requests wait for it that this one would be late")]
    WouldMissDeadline,
    /// no thread was free before the deadline
    #[error("it had no free thread before the deadline")]
    NoThread,
    /// a thread has it, but the deadline is here
    #[error("it was not finished at the deadline")]
    TimedOut,
}

/// The module threads.
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    limits: Limits,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    running: HashMap<Arc<str>, Running>,
    /// modules whose last call was long
    slow: HashSet<Arc<str>>,
    /// threads that were lowered
    demoted: usize,
    /// those of them that have nothing to do
    lowered_idle: usize,
    /// numbers of the threads that were lowered and have no successor yet
    unstaffed: Vec<usize>,
    stopped: bool,
}

/// What a module has on the threads; forgotten when it has nothing there.
#[derive(Default)]
struct Running {
    threads: usize,
    /// what its calls took lately, once one has ended
    mean_duration: Option<Duration>,
}

struct Job {
    module: Arc<str>,
    deadline: Instant,
    task: Box<dyn Task>,
}

/// What a thread does; its type knows the result's, the queue does not.
trait Task: Send {
    /// whether anybody still waits for the result
    fn is_wanted(&self) -> bool;
    fn run(self: Box<Self>);
}

struct Work<F, T> {
    function: F,
    begun: oneshot::Sender<()>,
    reply: oneshot::Sender<T>,
}

// === impl Pool ===

impl Pool {
    /// Starts the threads.
    pub fn start(limits: Limits) -> io::Result<Self> {
        let pool = Self { shared: Arc::new(Shared { limits, state: Mutex::default(), changed: Condvar::new() }) };
        for number in 0..limits.threads {
            pool.shared.start_thread(number)?;
        }
        Ok(pool)
    }

    /// Runs `work` on a module thread, on account of `module`. What nobody has begun at the deadline is never begun;
    /// what runs then runs on, unheard, and keeps its thread until it ends (its own budget sees to that).
    ///
    /// `work` answers for its own panics: one that gets here counts as [`Busy::Running`].
    pub async fn run<T: Send + 'static>(
        &self,
        module: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (begun, mut has_begun) = oneshot::channel();
        let (reply, result) = oneshot::channel();
        self.shared.submit(Job {
            module: module.into(),
            deadline,
            task: Box::new(Work { function: work, begun, reply }),
        })?;
        match timeout_at(deadline, result).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => Err(PoolError::TimedOut),
            Err(_) if has_begun.try_recv().is_ok() => Err(PoolError::TimedOut),
            Err(_) => Err(PoolError::NoThread),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).stopped = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn submit(self: &Arc<Self>, job: Job) -> Result<(), PoolError> {
        let mut state = lock(&self.state);
        self.start_missing_threads(&mut state);
        state.queue.retain(|job| job.task.is_wanted());
        let of_module = state.queue.iter().filter(|waiting| waiting.module == job.module).count();
        if state.queue.len() >= self.limits.queue || of_module >= self.limits.queue_per_module {
            return Err(PoolError::Queue);
        }
        if Instant::now() + state.wait(&job.module, of_module, self.limits.threads_per_module) > job.deadline {
            return Err(PoolError::WouldMissDeadline);
        }
        state.queue.push_back(job);
        self.changed.notify_all(); // not every thread is for every job
        Ok(())
    }

    fn start_thread(self: &Arc<Self>, number: usize) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new().name(format!("module-{number}")).spawn(move || {
            thread_priority::allow_demotion();
            shared.work(number);
        })?;
        Ok(())
    }

    /// Starts successors of threads that were lowered. On the thread of whoever submits, because a lowered thread's
    /// children are lowered too.
    fn start_missing_threads(self: &Arc<Self>, state: &mut State) {
        while let Some(number) = state.unstaffed.pop() {
            if self.start_thread(number).is_err() {
                state.unstaffed.push(number);
                return;
            }
        }
    }

    /// A thread's life.
    fn work(&self, number: usize) {
        let mut state = lock(&self.state);
        while !state.stopped {
            let was_lowered = thread_priority::is_demoted();
            let Some(job) = state.next(self.limits, was_lowered) else {
                state.lowered_idle += usize::from(was_lowered);
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.lowered_idle -= usize::from(was_lowered);
                continue;
            };
            if state.slow.contains(&job.module) {
                thread_priority::demote();
            }
            drop(state);
            let (begun, cpu_before) = (Instant::now(), thread_priority::cpu_time());
            let _ = catch_unwind(AssertUnwindSafe(|| job.task.run()));
            let (took, computed) = (begun.elapsed(), thread_priority::cpu_time().saturating_sub(cpu_before));
            let was_cut = thread_priority::take_timed_out();
            state = lock(&self.state);
            state.ended(&job.module, took);
            // others of this module may have waited for its share, and not for a thread
            self.changed.notify_all();
            if !thread_priority::is_demoted() {
                continue;
            }
            // Not by what it took: behind the workers a short call may wait for long. Nor only by what it computed, which
            // there is next to nothing also for one that never ends.
            if was_cut || computed >= thread_priority::CPU_BEFORE_DEMOTION {
                state.slow.insert(job.module);
            } else {
                state.slow.remove(&job.module);
            }
            if !was_lowered {
                state.unstaffed.push(number);
                if state.demoted == self.limits.threads {
                    return;
                }
                state.demoted += 1;
            }
        }
    }
}

impl State {
    /// The oldest job that is still wanted, whose module has not got all the threads it may have, and that is for this
    /// kind of thread. A long one makes a lowered thread of another where there are too few of them.
    fn next(&mut self, limits: Limits, lowered: bool) -> Option<Job> {
        self.queue.retain(|job| job.task.is_wanted());
        let has_share =
            |job: &Job| self.running.get(&job.module).is_none_or(|running| running.threads < limits.threads_per_module);
        let is_long = |job: &Job| self.slow.contains(&job.module);
        // those that are idle have maybe been called already: who waits for them, one each, is not for another
        let waiting = self.queue.iter().filter(|job| is_long(job) && has_share(job)).count();
        let too_few = waiting > self.lowered_idle && self.demoted < limits.threads;
        // a job that came before its thread was lowered has nobody else until the successor is there
        let too_few_equals = !self.unstaffed.is_empty();
        let fits = |job: &Job| if is_long(job) { lowered || too_few } else { !lowered || too_few_equals };
        let index = self.queue.iter().position(|job| fits(job) && has_share(job))?;
        let job = self.queue.remove(index)?;
        self.running.entry(Arc::clone(&job.module)).or_default().threads += 1;
        Some(job)
    }

    /// How long one more job of a module would wait for a thread, by what its calls take. Nothing while it has threads
    /// left: so there always are calls that end, and the estimate follows them.
    fn wait(&self, module: &str, waiting: usize, threads_per_module: usize) -> Duration {
        let Some(Running { threads, mean_duration: Some(takes) }) = self.running.get(module) else {
            return Duration::ZERO;
        };
        let before_it = (threads + waiting + 1).saturating_sub(threads_per_module);
        let shares = u32::try_from(threads_per_module).unwrap_or(u32::MAX).max(1);
        takes.saturating_mul(u32::try_from(before_it).unwrap_or(u32::MAX)) / shares
    }

    fn ended(&mut self, module: &str, took: Duration) {
        if let Some(running) = self.running.get_mut(module) {
            running.threads -= 1;
            // the last few calls count
            running.mean_duration = Some(running.mean_duration.map_or(took, |takes| (takes * 3 + took) / 4));
            if running.threads == 0 && !self.queue.iter().any(|job| &*job.module == module) {
                self.running.remove(module);
            }
        }
    }
}

// === impl Work ===

impl<T: Send, F: FnOnce() -> T + Send> Task for Work<F, T> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(self: Box<Self>) {
        let Self { function, begun, reply } = *self;
        // whoever waited may be gone by now; then nobody misses the result
        let _ = begun.send(());
        let _ = reply.send(function());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
