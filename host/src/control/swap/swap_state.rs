//! The swap state of one service: the running swap, earlier generations and the history.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::history::{SwapHistory, SwapRecord};
use crate::services::Generation;

/// One per service, while the service is in the manifest.
pub(super) struct SwapState {
    /// Held by the running swap.
    pub swap_lock: tokio::sync::Mutex<()>,
    /// The number of the latest requested swap; `u64::MAX` if no more swaps are accepted.
    latest_request: watch::Sender<u64>,
    /// The number of the latest generation.
    last_generation: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// Generations that a rollback can return to, latest last.
    earlier: VecDeque<Arc<Generation>>,
    swaps: u64,
    last_error: Option<String>,
    history: SwapHistory,
    /// Whether a swap prepares a version.
    busy: bool,
}

/// The swaps of a service, for its report.
pub(super) struct SwapStatus {
    /// Whether a swap prepares a version.
    pub is_busy: bool,
    /// The number of swaps, rollbacks and promotions so far.
    pub swaps: u64,
    /// Why the last swap was rejected or rolled back.
    pub last_error: Option<String>,
    /// The last swaps, latest first.
    pub history: Vec<SwapRecord>,
    /// The numbers of the kept generations, latest last.
    pub earlier: Vec<u64>,
}

impl Records {
    fn add_failure(&mut self, record: SwapRecord) {
        if record.outcome != "superseded" {
            self.last_error.clone_from(&record.reason);
        }
        self.history.add(record);
    }
}

impl Default for SwapState {
    fn default() -> SwapState {
        SwapState {
            swap_lock: tokio::sync::Mutex::default(),
            latest_request: watch::Sender::new(0),
            // The generation that the host started with is number 1.
            last_generation: AtomicU64::new(1),
            records: Mutex::default(),
        }
    }
}

/// Marks the service as busy with a swap until dropped.
pub(super) struct BusyGuard<'a>(&'a SwapState);

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.records().busy = false;
    }
}

impl SwapState {
    /// Supersedes all earlier swaps of the service. Returns the number of the new request, for
    /// [`SwapState::superseded`].
    pub fn supersede(&self) -> u64 {
        let mut request = 0;
        self.latest_request.send_modify(|latest_request| {
            *latest_request = latest_request.saturating_add(1);
            request = *latest_request;
        });
        request
    }

    /// Resolves when a swap newer than `request` has been requested.
    pub async fn superseded(&self, request: u64) {
        let mut latest_request = self.latest_request.subscribe();
        if latest_request.wait_for(|latest_request| *latest_request > request).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cancels the running swap and all waiting ones. Later ones fail too.
    pub fn close(&self) {
        self.latest_request.send_replace(u64::MAX);
    }

    pub fn is_closed(&self) -> bool {
        *self.latest_request.borrow() == u64::MAX
    }

    /// The number of the next generation.
    pub fn next_generation(&self) -> u64 {
        self.last_generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn busy(&self) -> BusyGuard<'_> {
        self.records().busy = true;
        BusyGuard(self)
    }

    /// Keeps a generation for rollbacks, and drops the oldest if there are more than `most`.
    pub fn keep_for_rollback(&self, generation: Arc<Generation>, most: usize) {
        let mut records = self.records();
        records.earlier.retain(|kept| kept.number != generation.number);
        records.earlier.push_back(generation);
        while records.earlier.len() > most {
            records.earlier.pop_front();
        }
    }

    /// The generation that a rollback from `current` returns to.
    pub fn take_earlier(&self, current: u64) -> Option<Arc<Generation>> {
        let mut records = self.records();
        loop {
            let earlier = records.earlier.pop_back()?;
            if earlier.number != current {
                return Some(earlier);
            }
        }
    }

    /// Completes a swap: calls `publish`, which makes a version serve, and adds the record that it returns. A status
    /// shows the version and the record together, and the service is no longer busy in it.
    pub fn complete<T>(&self, publish: impl FnOnce() -> (SwapRecord, T)) -> T {
        let mut records = self.records();
        let (record, published) = publish();
        records.busy = false;
        records.swaps += 1;
        // The reason of an automatic rollback stays visible until the next successful swap.
        if matches!(record.outcome, "swapped" | "promoted") {
            records.last_error = None;
        }
        records.history.add(record);
        published
    }

    /// Records why the running swap did not happen. Being superseded is not an error.
    pub fn end_failed(&self, record: SwapRecord) {
        let mut records = self.records();
        records.busy = false;
        records.add_failure(record);
    }

    /// Records the failure of a swap that could not record it itself.
    pub fn record_failure(&self, record: SwapRecord) {
        self.records().add_failure(record);
    }

    /// Sets the error that the status shows.
    pub fn set_last_error(&self, error: String) {
        self.records().last_error = Some(error);
    }

    /// Records the reason of the swap that has just completed.
    pub fn set_reason(&self, reason: &str) {
        self.records().history.set_reason(reason);
    }

    /// The status, and the result of `read`, which reads what serves. Both are of the same moment.
    pub fn status<T>(&self, read: impl FnOnce() -> T) -> (SwapStatus, T) {
        let records = self.records();
        let status = SwapStatus {
            is_busy: records.busy,
            swaps: records.swaps,
            last_error: records.last_error.clone(),
            history: records.history.records(),
            earlier: records.earlier.iter().map(|generation| generation.number).collect(),
        };
        (status, read())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_not_busy_in_the_status_that_shows_its_completed_swap() {
        let state = SwapState::default();
        let busy = state.busy();
        assert!(state.status(|| ()).0.is_busy);
        let record = SwapRecord::succeeded("swapped", 2, "sha256:00", std::time::Duration::ZERO);
        state.complete(|| (record, ()));
        let (status, ()) = state.status(|| ());
        assert_eq!((status.is_busy, status.swaps, status.history.len()), (false, 1, 1));
        drop(busy);
    }

    #[test]
    fn a_service_is_not_busy_in_the_status_that_shows_its_failed_swap() {
        let state = SwapState::default();
        let busy = state.busy();
        let failed = |reason: &str| SwapRecord::failed("refused", reason, std::time::Duration::ZERO);
        // A failure of another swap does not end the running one.
        state.record_failure(failed("a panic"));
        assert!(state.status(|| ()).0.is_busy);
        state.end_failed(failed("no component"));
        let (status, ()) = state.status(|| ());
        assert_eq!((status.is_busy, status.last_error.as_deref()), (false, Some("no component")));
        drop(busy);
    }
}
