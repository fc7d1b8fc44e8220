//! The swap state of one service: the running swap, earlier generations and the history.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::history::{SwapHistory, SwapRecord};
use crate::services::Generation;

/// One per service, while the service is in the manifest.
pub(super) struct Slot {
    /// Held by the running swap.
    pub turn: tokio::sync::Mutex<()>,
    newest: watch::Sender<u64>,
    number: AtomicU64,
    busy: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Generations that a rollback can return to, latest last.
    earlier: VecDeque<Arc<Generation>>,
    swaps: u64,
    last_error: Option<String>,
    history: SwapHistory,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot {
            turn: tokio::sync::Mutex::default(),
            newest: watch::Sender::new(0),
            // The generation that the host started with is number 1.
            number: AtomicU64::new(1),
            busy: AtomicBool::new(false),
            memory: Mutex::default(),
        }
    }
}

/// Marks the service as busy with a swap until dropped.
pub(super) struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Slot {
    /// Supersedes all earlier swaps of the service.
    pub fn ticket(&self) -> u64 {
        let mut ticket = 0;
        self.newest.send_modify(|newest| {
            *newest = newest.saturating_add(1);
            ticket = *newest;
        });
        ticket
    }

    /// Resolves when a swap newer than `ticket` has been requested.
    pub async fn superseded(&self, ticket: u64) {
        let mut newest = self.newest.subscribe();
        if newest.wait_for(|newest| *newest > ticket).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cancels the running swap and all waiting ones. Later ones fail too.
    pub fn close(&self) {
        self.newest.send_replace(u64::MAX);
    }

    pub fn is_closed(&self) -> bool {
        *self.newest.borrow() == u64::MAX
    }

    /// The number of the next generation.
    pub fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn busy(&self) -> Busy<'_> {
        self.busy.store(true, Ordering::Relaxed);
        Busy(&self.busy)
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Keeps a generation for rollbacks, and drops the oldest if there are more than `most`.
    pub fn keep(&self, generation: Arc<Generation>, most: usize) {
        let mut memory = self.lock();
        memory.earlier.retain(|kept| kept.number != generation.number);
        memory.earlier.push_back(generation);
        while memory.earlier.len() > most {
            memory.earlier.pop_front();
        }
    }

    /// The generation that a rollback from `current` returns to.
    pub fn take_earlier(&self, current: u64) -> Option<Arc<Generation>> {
        let mut memory = self.lock();
        loop {
            let earlier = memory.earlier.pop_back()?;
            if earlier.number != current {
                return Some(earlier);
            }
        }
    }

    /// The numbers of the kept generations, latest last.
    pub fn earlier(&self) -> Vec<u64> {
        self.lock().earlier.iter().map(|generation| generation.number).collect()
    }

    /// Records a completed swap.
    pub fn done(&self, record: SwapRecord) {
        let mut memory = self.lock();
        memory.swaps += 1;
        // The reason of an automatic rollback stays visible until the next successful swap.
        if matches!(record.outcome, "swapped" | "promoted") {
            memory.last_error = None;
        }
        memory.history.add(record);
    }

    /// Records why a swap did not happen. Being superseded is not an error.
    pub fn not_done(&self, record: SwapRecord) {
        let mut memory = self.lock();
        if record.outcome != "superseded" {
            memory.last_error.clone_from(&record.reason);
        }
        memory.history.add(record);
    }

    /// Records the reason of the swap that has just completed.
    pub fn explain(&self, reason: String) {
        let mut memory = self.lock();
        memory.history.explain(&reason);
        memory.last_error = Some(reason);
    }

    /// The number of swaps, why the last one was rejected or rolled back, and the last ones.
    pub fn history(&self) -> (u64, Option<String>, Vec<SwapRecord>) {
        let memory = self.lock();
        (memory.swaps, memory.last_error.clone(), memory.history.records())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
