//! The module threads, which run the requests whose modules are too slow for a worker.
//!
//! They are threads of their own and not tokio's blocking ones, because the number of threads and of waiting requests
//! is limited, in all and per module, so that a module that loops delays its own pods only. On few cores the scheduler
//! helps: a call that computes for long demotes its thread below the workers ([`thread_priority`]). Demoted threads run
//! modules whose last call was slow; each gets a replacement for the fast ones.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, thread};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::wasm::thread_priority;

/// Limits of the module threads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// number of threads
    pub threads: usize,
    /// maximum threads that run one module
    pub threads_per_module: usize,
    /// maximum requests that wait for a thread
    pub queue: usize,
    /// maximum requests that wait because of one module
    pub queue_per_module: usize,
}

impl Limits {
    /// Returns the limits for a number of cores. Modules only compute, so more threads than cores do not make them
    /// faster; twice as many let a fast call overtake a slow one. One module gets at most half of them.
    pub fn for_cores(cores: usize) -> Self {
        let threads = (2 * cores).max(4);
        Self { threads, threads_per_module: threads / 2, queue: 256, queue_per_module: 64 }
    }
}

/// The reason why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// the queue is full
    #[error("too many requests are waiting for it")]
    QueueFull,
    /// judged by its mean duration, no thread would be free before the deadline
    #[error("so many requests are waiting for it that this one would miss its deadline")]
    WouldMissDeadline,
    /// no thread was free before the deadline
    #[error("no thread was free before the deadline")]
    NoThread,
    /// a thread runs it, but not to its end before the deadline
    #[error("it was not finished at the deadline")]
    TimedOut,
}

/// The module threads and their queue.
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
    /// modules whose last call was slow
    slow: HashSet<Arc<str>>,
    /// number of demoted threads
    demoted: usize,
    /// number of demoted threads that are idle
    demoted_idle: usize,
    /// numbers of the demoted threads that have no replacement yet
    unstaffed: Vec<usize>,
    stopped: bool,
}

/// The running jobs of a module; removed when it has none and none is waiting.
#[derive(Default)]
struct Running {
    threads: usize,
    /// mean duration of its latest jobs, once one has ended
    mean_duration: Option<Duration>,
}

struct Job {
    module: Arc<str>,
    deadline: Instant,
    task: Box<dyn Task>,
}

/// The function of a job, without the type of its result.
trait Task: Send {
    /// Returns true if the result is still awaited.
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
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn start(limits: Limits) -> io::Result<Self> {
        let pool = Self { shared: Arc::new(Shared { limits, state: Mutex::default(), changed: Condvar::new() }) };
        for number in 0..limits.threads {
            pool.shared.start_thread(number)?;
        }
        Ok(pool)
    }

    /// Runs `work` on a module thread, within the limits of `module`. A job that has not begun at the deadline never
    /// begins; one that runs then goes on without a reader and keeps its thread until it ends (its budget limits it).
    ///
    /// # Errors
    /// There is no result before the deadline. A panic in `work`, which must catch its own, is [`PoolError::TimedOut`].
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
        let waiting = state.queue.iter().filter(|other| other.module == job.module).count();
        if state.queue.len() >= self.limits.queue || waiting >= self.limits.queue_per_module {
            return Err(PoolError::QueueFull);
        }
        if Instant::now() + state.expected_wait(&job.module, waiting, self.limits.threads_per_module) > job.deadline {
            return Err(PoolError::WouldMissDeadline);
        }
        state.queue.push_back(job);
        self.changed.notify_all(); // not every thread takes every job
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

    /// Starts the replacements of demoted threads. It runs on the submitting thread, because a demoted thread's
    /// children are demoted too.
    fn start_missing_threads(self: &Arc<Self>, state: &mut State) {
        while let Some(number) = state.unstaffed.pop() {
            if self.start_thread(number).is_err() {
                state.unstaffed.push(number);
                return;
            }
        }
    }

    /// Runs a thread until the pool is dropped or the thread is demoted and not needed.
    fn work(&self, number: usize) {
        let mut state = lock(&self.state);
        while !state.stopped {
            let was_demoted = thread_priority::is_demoted();
            let Some(job) = state.next(self.limits, was_demoted) else {
                state.demoted_idle += usize::from(was_demoted);
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.demoted_idle -= usize::from(was_demoted);
                continue;
            };
            if state.slow.contains(&job.module) {
                thread_priority::demote();
            }
            drop(state);
            let (start, cpu_before) = (Instant::now(), thread_priority::cpu_time());
            let _ = catch_unwind(AssertUnwindSafe(|| job.task.run()));
            let (elapsed, cpu) = (start.elapsed(), thread_priority::cpu_time().saturating_sub(cpu_before));
            let timed_out = thread_priority::take_timed_out();
            state = lock(&self.state);
            state.ended(&job.module, elapsed);
            // jobs of this module may have waited for its limit, and not for a thread
            self.changed.notify_all();
            if !thread_priority::is_demoted() {
                continue;
            }
            // Wall clock does not tell: on a demoted thread a fast call may take long. CPU time alone does not either:
            // there even a call that never ends gets next to none.
            if timed_out || cpu >= thread_priority::CPU_BEFORE_DEMOTION {
                state.slow.insert(job.module);
            } else {
                state.slow.remove(&job.module);
            }
            if !was_demoted {
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
    /// Removes the oldest job that is still wanted, whose module is below its limit of threads, and that suits this kind
    /// of thread. A slow job goes to a normal thread, and demotes it, if there are too few demoted ones.
    fn next(&mut self, limits: Limits, demoted: bool) -> Option<Job> {
        self.queue.retain(|job| job.task.is_wanted());
        let below_limit =
            |job: &Job| self.running.get(&job.module).is_none_or(|running| running.threads < limits.threads_per_module);
        let is_slow = |job: &Job| self.slow.contains(&job.module);
        // each idle demoted thread may have been woken already and will take one slow job
        let waiting = self.queue.iter().filter(|job| is_slow(job) && below_limit(job)).count();
        let too_few_demoted = waiting > self.demoted_idle && self.demoted < limits.threads;
        // until the replacement starts, a demoted thread also takes fast jobs
        let too_few_normal = !self.unstaffed.is_empty();
        let suits = |job: &Job| if is_slow(job) { demoted || too_few_demoted } else { !demoted || too_few_normal };
        let index = self.queue.iter().position(|job| suits(job) && below_limit(job))?;
        let job = self.queue.remove(index)?;
        self.running.entry(Arc::clone(&job.module)).or_default().threads += 1;
        Some(job)
    }

    /// Returns the time that one more job of a module is expected to wait, by the module's mean duration. It is zero
    /// below the module's limit of threads, so that jobs always run and keep the mean up to date.
    fn expected_wait(&self, module: &str, waiting: usize, threads_per_module: usize) -> Duration {
        let Some(Running { threads, mean_duration: Some(mean) }) = self.running.get(module) else {
            return Duration::ZERO;
        };
        let ahead = (threads + waiting + 1).saturating_sub(threads_per_module);
        let threads = u32::try_from(threads_per_module).unwrap_or(u32::MAX).max(1);
        mean.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX)) / threads
    }

    fn ended(&mut self, module: &str, elapsed: Duration) {
        if let Some(running) = self.running.get_mut(module) {
            running.threads -= 1;
            // a moving mean: each job counts a quarter
            running.mean_duration = Some(running.mean_duration.map_or(elapsed, |mean| (mean * 3 + elapsed) / 4));
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
        // both fail if the caller has stopped waiting
        let _ = begun.send(());
        let _ = reply.send(function());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
