//! Reviews at a steady rate, each reply checked. The rate does not wait for replies: what comes late counts from when
//! it was due. Connections are kept as the API server keeps them, and a POST is never repeated.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rustls::ClientConfig;
use serde_json::Value;

use crate::client::{Connection, Reply};

/// Requests that can be under way at once; more than that and those to come are late.
const CLIENTS: usize = 16;

/// The placeholder of the uid in a [`Target`]'s review.
pub const UID: &str = "THE-UID";

type Check = dyn Fn(&str) -> Result<(), String> + Send + Sync;

/// A server, and the review to post to it.
pub struct Target {
    /// the server's address
    pub address: SocketAddr,
    /// the TLS configuration of the client
    pub config: Arc<ClientConfig>,
    /// a review, with [`UID`] for its uid
    pub review: String,
    /// looks at the text of the patch
    pub check: Box<Check>,
    /// after so many requests a connection is left for a new one
    pub per_connection: u64,
}

/// A load under way.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    target: Target,
    rate: u32,
    begun: Instant,
    next: AtomicU64,
    stopped: AtomicBool,
    report: Mutex<Report>,
}

/// The results of a load.
#[derive(Debug, Default)]
pub struct Report {
    /// from when it was due to its last byte
    latencies: Vec<Duration>,
    /// the reasons of the failures
    pub failures: Vec<String>,
}

impl Report {
    /// Counts the correct replies.
    pub fn ok(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share of the requests stayed below, in ms.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "small"
        )]
        let index = (sorted.len() as f64 * share) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }

    /// One line of the table.
    pub fn print(&self, what: &str) {
        let (ok, failed) = (self.ok(), self.failures.len());
        let (half, most) = (self.quantile(0.5), self.quantile(0.99));
        println!(
            "{what:<34} sent {:>7}  ok {ok:>7}  failed {failed:>3}  p50 {half:>7.2} ms  p99 {most:>7.2} ms",
            ok + failed
        );
    }

    /// An error that names the first failures, if there is any, or if nothing was sent.
    pub fn nothing_failed(&self) -> Result<(), String> {
        if self.ok() == 0 {
            return Err(format!("nothing was answered: {:?}", self.failures.first()));
        }
        let first: Vec<_> = self.failures.iter().take(3).collect();
        if first.is_empty() { Ok(()) } else { Err(format!("{} failed: {first:?}", self.failures.len())) }
    }
}

impl Load {
    /// Begins to send.
    pub fn start(target: Target, rate: u32) -> Self {
        let shared = Arc::new(Shared {
            target,
            rate,
            begun: Instant::now(),
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            report: Mutex::default(),
        });
        let clients = (0..CLIENTS).map(|_| Arc::clone(&shared)).map(|shared| thread::spawn(move || shared.client()));
        Self { clients: clients.collect(), shared }
    }

    /// Counts the correct replies so far.
    pub fn ok(&self) -> usize {
        lock(&self.shared.report).ok()
    }

    /// Sends no more, and waits for what is under way.
    pub fn stop(self) -> Report {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        std::mem::take(&mut *lock(&self.shared.report))
    }
}

impl Shared {
    fn client(&self) {
        let mut connection = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let due = self.begun
                + Duration::from_secs_f64(f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / f64::from(self.rate));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let answered = self.target.ask(&mut connection, &format!("load-{number}"));
            let mut report = lock(&self.report);
            match answered {
                Ok(()) => report.latencies.push(due.elapsed()),
                Err(error) => report.failures.push(error),
            }
        }
    }
}

impl Target {
    /// One request, on the connection that there is or a new one.
    pub fn ask(&self, connection: &mut Option<Connection>, uid: &str) -> Result<(), String> {
        let reply = self.post(connection, uid)?;
        let reply: Value = serde_json::from_slice(&reply).map_err(|error| format!("{uid}: {error}"))?;
        let response = &reply["response"];
        if response["uid"] != uid || response["allowed"] != true || response["patchType"] != "JSONPatch" {
            return Err(format!("{uid}: {response}"));
        }
        let patch = BASE64_STANDARD.decode(response["patch"].as_str().unwrap_or_default());
        let patch = patch.map_err(|error| error.to_string())?;
        (self.check)(&String::from_utf8_lossy(&patch)).map_err(|error| format!("{uid}: {error}"))
    }

    /// The reply's body.
    pub fn post(&self, connection: &mut Option<Connection>, uid: &str) -> Result<Vec<u8>, String> {
        connection.take_if(|connection| connection.requests() >= self.per_connection || connection.was_closed());
        let mut one = match connection.take() {
            Some(one) => one,
            None => Connection::open(self.address, &self.config).map_err(|error| format!("{uid}: connect: {error}"))?,
        };
        let Reply { status, closes, body } = one
            .post(self.review.replace(UID, uid).as_bytes())
            .map_err(|error| format!("{uid}: request {} of its connection: {error}", one.requests()))?;
        if !closes {
            *connection = Some(one);
        }
        if status == 200 { Ok(body) } else { Err(format!("{uid}: {status} {}", String::from_utf8_lossy(&body))) }
    }
}

/// The duration of each load: `LOAD_SECONDS`, or three seconds.
pub fn span() -> Duration {
    let seconds = std::env::var("LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    Duration::from_secs(seconds)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
