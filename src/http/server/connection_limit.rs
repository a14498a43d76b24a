//! The limit of open connections. At the limit, a new connection evicts the longest-idle one; connections that never
//! sent a request go first. So strangers that open thousands of idle connections evict their own, and not the API
//! server's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::conn_state::ConnState;
use crate::http::metrics::Metrics;

/// Interval at which a new connection looks again for one to evict, when all are busy.
const RETRY_EVICTION: Duration = Duration::from_millis(50);

/// The limiter of one port's connections.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    capacity: usize,
    slots: Arc<Semaphore>,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, (Arc<ConnState>, AbortHandle)>,
}

/// A connection's slot, which is free again when this is dropped.
struct Slot {
    limiter: Arc<ConnectionLimiter>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limiter.open.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.number);
    }
}

impl ConnectionLimiter {
    pub(super) fn new(capacity: usize, metrics: Arc<Metrics>) -> Self {
        Self { capacity, slots: Arc::new(Semaphore::new(capacity)), open: Mutex::default(), metrics }
    }

    /// Waits for a slot, evicting if need be, and spawns the connection's task.
    pub(super) async fn spawn<F>(self: &Arc<Self>, serve: impl FnOnce(Arc<ConnState>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(permit) = self.permit().await else { return };
        let conn = Arc::new(ConnState::new());
        let connection = serve(Arc::clone(&conn));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        let slot = Slot { limiter: Arc::clone(self), number, _permit: permit };
        // The lock is held, so that a task that ends at once is inserted before it is removed.
        let task = tokio::spawn(async move {
            let _slot = slot;
            connection.await;
        });
        open.connections.insert(number, (conn, task.abort_handle()));
    }

    /// Waits until the last connection has ended.
    pub(super) async fn wait_empty(&self) {
        let _all = self.slots.acquire_many(u32::try_from(self.capacity).unwrap_or(u32::MAX)).await;
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.slots).try_acquire_owned() {
            return Some(permit);
        }
        loop {
            self.evict_idle();
            if let Ok(permit) = timeout(RETRY_EVICTION, Arc::clone(&self.slots).acquire_owned()).await {
                return permit.ok();
            }
        }
    }

    /// Evicts the longest-idle connection, if any is idle.
    fn evict_idle(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((conn, task)) = open
            .connections
            .values()
            .filter_map(|connection| Some((connection.0.idle_since()?, connection)))
            .min_by_key(|(idle_since, _)| *idle_since)
            .map(|(_, connection)| connection)
        {
            // a request may have begun since `idle_since`
            if conn.evict() {
                task.abort();
                self.metrics.connection_evicted();
                return;
            }
        }
    }
}
