//! The swap state of one service: the running swap, earlier generations and the history.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    busy: AtomicBool,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// Generations that a rollback can return to, latest last.
    earlier: VecDeque<Arc<Generation>>,
    swaps: u64,
    last_error: Option<String>,
    history: SwapHistory,
}

impl Default for SwapState {
    fn default() -> SwapState {
        SwapState {
            swap_lock: tokio::sync::Mutex::default(),
            latest_request: watch::Sender::new(0),
            // The generation that the host started with is number 1.
            last_generation: AtomicU64::new(1),
            busy: AtomicBool::new(false),
            records: Mutex::default(),
        }
    }
}

/// Marks the service as busy with a swap until dropped.
pub(super) struct BusyGuard<'a>(&'a AtomicBool);

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
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
        self.busy.store(true, Ordering::Relaxed);
        BusyGuard(&self.busy)
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
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

    /// The numbers of the kept generations, latest last.
    pub fn earlier(&self) -> Vec<u64> {
        self.records().earlier.iter().map(|generation| generation.number).collect()
    }

    /// Records a completed swap.
    pub fn record_success(&self, record: SwapRecord) {
        let mut records = self.records();
        records.swaps += 1;
        // The reason of an automatic rollback stays visible until the next successful swap.
        if matches!(record.outcome, "swapped" | "promoted") {
            records.last_error = None;
        }
        records.history.add(record);
    }

    /// Records why a swap did not happen. Being superseded is not an error.
    pub fn record_failure(&self, record: SwapRecord) {
        let mut records = self.records();
        if record.outcome != "superseded" {
            records.last_error.clone_from(&record.reason);
        }
        records.history.add(record);
    }

    /// Sets the error that the status shows.
    pub fn set_last_error(&self, error: String) {
        self.records().last_error = Some(error);
    }

    /// Records the reason of the swap that has just completed.
    pub fn set_reason(&self, reason: &str) {
        self.records().history.set_reason(reason);
    }

    /// The number of swaps, why the last one was rejected or rolled back, and the last ones.
    pub fn history(&self) -> (u64, Option<String>, Vec<SwapRecord>) {
        let records = self.records();
        (records.swaps, records.last_error.clone(), records.history.records())
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
