//! Room for so many connections and no more. Who comes when there is none left is let in all the same, and takes the
//! place of whoever has been of no use for the longest: strangers who open thousands of connections and leave them idle
//! close each other's, and the API server finds a place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::conn_state::ConnState;
use crate::http::metrics::Metrics;

/// Everybody may be busy at one moment; who waits for a place looks again after this long.
const RETRY_EVICTION: Duration = Duration::from_millis(50);

/// The connections of one port.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    capacity: usize,
    places: Arc<Semaphore>,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, (Arc<ConnState>, AbortHandle)>,
}

/// A connection's place, which is free again when this goes.
struct Slot {
    room: Arc<ConnectionLimiter>,
    number: u64,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.room.open.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&self.number);
    }
}

impl ConnectionLimiter {
    pub(super) fn new(capacity: usize, metrics: Arc<Metrics>) -> Self {
        Self { capacity, places: Arc::new(Semaphore::new(capacity)), open: Mutex::default(), metrics }
    }

    /// Spawns a connection's task when there is a place for it.
    pub(super) async fn spawn<F>(self: &Arc<Self>, serve: impl FnOnce(Arc<ConnState>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(permit) = self.permit().await else { return };
        let clock = Arc::new(ConnState::new());
        let connection = serve(Arc::clone(&clock));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next += 1;
        let place = Slot { room: Arc::clone(self), number, _permit: permit };
        // The lock is held: a task that ends at once waits with leaving until it is in the book.
        let task = tokio::spawn(async move {
            let _place = place;
            connection.await;
        });
        open.connections.insert(number, (clock, task.abort_handle()));
    }

    /// Waits until the last connection is gone.
    pub(super) async fn wait_empty(&self) {
        let _all = self.places.acquire_many(u32::try_from(self.capacity).unwrap_or(u32::MAX)).await;
    }

    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        loop {
            self.evict_idle();
            if let Ok(permit) = timeout(RETRY_EVICTION, Arc::clone(&self.places).acquire_owned()).await {
                return permit.ok();
            }
        }
    }

    /// Closes the connection that is the least loss, if any is unused.
    fn evict_idle(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((clock, task)) = open
            .connections
            .values()
            .filter_map(|one| Some((one.0.idle_since()?, one)))
            .min_by_key(|(use_, _)| *use_)
            .map(|(_, one)| one)
        {
            // it may have begun to send since it was looked at
            if clock.evict() {
                task.abort();
                self.metrics.connection_evicted();
                return;
            }
        }
    }
}
