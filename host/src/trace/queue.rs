//! The queue between requests and an export task. Its capacity is counted in spans, and adding to it never blocks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue for one export task.
pub(super) struct Queue<T> {
    capacity: usize,
    /// The weight of a full batch.
    batch_size: usize,
    /// The entries with their weights, in spans.
    entries: Mutex<VecDeque<(T, usize)>>,
    /// The total weight of the entries. It changes under their lock.
    weight: AtomicUsize,
    ready: Notify,
    closed: AtomicBool,
    closing: Notify,
}

/// The outcome of adding an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PushOutcome {
    /// The entry was added.
    Queued,
    /// The queue is full.
    Full,
    /// The queue is closed.
    Closed,
}

impl<T> Queue<T> {
    pub fn new(capacity: usize, batch_size: usize) -> Queue<T> {
        Queue {
            capacity,
            // A batch larger than the queue would never become full.
            batch_size: batch_size.clamp(1, capacity.max(1)),
            entries: Mutex::default(),
            weight: AtomicUsize::new(0),
            ready: Notify::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// The outcome that adding an entry of this weight would have now. Takes no lock.
    pub fn check(&self, weight: usize) -> PushOutcome {
        if self.is_closed() {
            return PushOutcome::Closed;
        }
        // An entry heavier than the capacity is added to an empty queue; otherwise it could never be exported.
        match self.len() {
            before if before > 0 && before + weight > self.capacity => PushOutcome::Full,
            _ => PushOutcome::Queued,
        }
    }

    /// Adds an entry, unless the queue is full or closed.
    pub fn push(&self, entry: T, weight: usize) -> PushOutcome {
        let weight = weight.max(1);
        let mut entries = self.lock();
        // Under the lock, so that entries added before the queue is closed are there for the last `take`.
        match self.check(weight) {
            PushOutcome::Queued => {}
            refused => return refused,
        }
        let before = self.weight.fetch_add(weight, Ordering::Relaxed);
        entries.push_back((entry, weight));
        let wakes = before == 0 || (before < self.batch_size && before + weight >= self.batch_size);
        drop(entries);
        if wakes {
            self.ready.notify_one();
        }
        PushOutcome::Queued
    }

    /// Takes entries with a total weight of at most `most`, or one heavier entry.
    pub fn take(&self, most: usize) -> Vec<T> {
        let mut entries = self.lock();
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        while let Some(weight) = entries.front().map(|(_, weight)| *weight) {
            if sum > 0 && sum.saturating_add(weight) > most {
                break;
            }
            sum += weight;
            taken.extend(entries.pop_front().map(|(entry, _)| entry));
        }
        self.weight.fetch_sub(sum, Ordering::Relaxed);
        taken
    }

    /// Returns when the queue is not empty, or closed.
    pub async fn wait_for_items(&self) {
        while self.len() == 0 && !self.is_closed() {
            self.ready.notified().await;
        }
    }

    /// Returns when the queue holds a full batch, or is closed.
    pub async fn wait_for_batch(&self) {
        while self.len() < self.batch_size && !self.is_closed() {
            self.ready.notified().await;
        }
    }

    /// Returns when the queue is closed.
    pub async fn wait_until_closed(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// The total weight of the entries, in spans.
    pub fn len(&self) -> usize {
        self.weight.load(Ordering::Relaxed)
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Closes the queue: the export task takes the remaining entries and ends. No entry is added after this.
    pub fn close(&self) {
        let entries = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        drop(entries);
        self.ready.notify_one();
        self.closing.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(T, usize)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
