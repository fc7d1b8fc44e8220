//! What the swapper remembers of one service: whose turn it is, what served before, how the last swaps went.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::history::{SwapHistory, SwapRecord};
use crate::services::Generation;

/// One per service, for as long as the service is in the manifest.
pub(super) struct Slot {
    /// Held by the swap that runs.
    pub turn: tokio::sync::Mutex<()>,
    newest: watch::Sender<u64>,
    number: AtomicU64,
    busy: AtomicBool,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Generations to go back to, the latest last.
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
    /// Makes every swap that came before this one superseded.
    pub fn ticket(&self) -> u64 {
        let mut ticket = 0;
        self.newest.send_modify(|newest| {
            *newest = newest.saturating_add(1);
            ticket = *newest;
        });
        ticket
    }

    /// Returns when a swap newer than `ticket` has come.
    pub async fn superseded(&self, ticket: u64) {
        let mut newest = self.newest.subscribe();
        if newest.wait_for(|newest| *newest > ticket).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Cancels the swap that runs and those that wait, for good.
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

    /// Keeps a generation to go back to, and forgets the oldest where there are more than `most`.
    pub fn keep(&self, generation: Arc<Generation>, most: usize) {
        let mut memory = self.lock();
        memory.earlier.retain(|kept| kept.number != generation.number);
        memory.earlier.push_back(generation);
        while memory.earlier.len() > most {
            memory.earlier.pop_front();
        }
    }

    /// The generation to go back to from `current`.
    pub fn take_earlier(&self, current: u64) -> Option<Arc<Generation>> {
        let mut memory = self.lock();
        loop {
            let earlier = memory.earlier.pop_back()?;
            if earlier.number != current {
                return Some(earlier);
            }
        }
    }

    /// The numbers of the generations that are kept, the latest last.
    pub fn earlier(&self) -> Vec<u64> {
        self.lock().earlier.iter().map(|generation| generation.number).collect()
    }

    /// Counts a swap that happened.
    pub fn done(&self, record: SwapRecord) {
        let mut memory = self.lock();
        memory.swaps += 1;
        // What an automatic rollback said stays to be read until the next good swap.
        if matches!(record.outcome, "swapped" | "promoted") {
            memory.last_error = None;
        }
        memory.history.add(record);
    }

    /// Notes why a swap did not happen. That a newer one came is no error.
    pub fn not_done(&self, record: SwapRecord) {
        let mut memory = self.lock();
        if record.outcome != "superseded" {
            memory.last_error.clone_from(&record.reason);
        }
        memory.history.add(record);
    }

    /// Notes why the swap that was just done had to be.
    pub fn explain(&self, reason: String) {
        let mut memory = self.lock();
        memory.history.explain(&reason);
        memory.last_error = Some(reason);
    }

    /// How many swaps there were, why the last one was refused or rolled back, and the last ones.
    pub fn history(&self) -> (u64, Option<String>, Vec<SwapRecord>) {
        let memory = self.lock();
        (memory.swaps, memory.last_error.clone(), memory.history.records())
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
