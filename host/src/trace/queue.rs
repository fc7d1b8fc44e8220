//! The queue between requests and an export task. Its capacity is counted in spans, and adding to it never blocks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded queue for one export task.
pub(super) struct Queue<T> {
    capacity: usize,
    /// The weight of a full batch.
    batch_size: usize,
    waiting: Mutex<Waiting<T>>,
    ready: Notify,
    closed: AtomicBool,
    closing: Notify,
}

struct Waiting<T> {
    /// The entries with their weights, in spans.
    entries: VecDeque<(T, usize)>,
    weight: usize,
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
            waiting: Mutex::new(Waiting { entries: VecDeque::new(), weight: 0 }),
            ready: Notify::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// The outcome that adding an entry of this weight would have.
    pub fn check(&self, weight: usize) -> PushOutcome {
        self.outcome_for(&self.lock(), weight)
    }

    /// Adds an entry, unless the queue is full or closed.
    pub fn push(&self, entry: T, weight: usize) -> PushOutcome {
        let weight = weight.max(1);
        let mut waiting = self.lock();
        match self.outcome_for(&waiting, weight) {
            PushOutcome::Queued => {}
            refused => return refused,
        }
        let before = waiting.weight;
        waiting.weight += weight;
        waiting.entries.push_back((entry, weight));
        let wakes = before == 0 || (before < self.batch_size && waiting.weight >= self.batch_size);
        drop(waiting);
        if wakes {
            self.ready.notify_one();
        }
        PushOutcome::Queued
    }

    /// Takes entries with a total weight of at most `most`, or one heavier entry.
    pub fn take(&self, most: usize) -> Vec<T> {
        let mut waiting = self.lock();
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        while let Some(weight) = waiting.entries.front().map(|(_, weight)| *weight) {
            if sum > 0 && sum.saturating_add(weight) > most {
                break;
            }
            sum += weight;
            waiting.weight -= weight;
            taken.extend(waiting.entries.pop_front().map(|(entry, _)| entry));
        }
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
        self.lock().weight
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Closes the queue: the export task takes the remaining entries and ends. No entry is added after this.
    pub fn close(&self) {
        let waiting = self.lock();
        self.closed.store(true, Ordering::SeqCst);
        drop(waiting);
        self.ready.notify_one();
        self.closing.notify_waiters();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Called under the lock, so that entries added before the queue is closed are there for the last `take`.
    fn outcome_for(&self, waiting: &Waiting<T>, weight: usize) -> PushOutcome {
        if self.is_closed() {
            return PushOutcome::Closed;
        }
        // An entry heavier than the capacity is added to an empty queue; otherwise it could never be exported.
        if waiting.weight > 0 && waiting.weight + weight > self.capacity {
            PushOutcome::Full
        } else {
            PushOutcome::Queued
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
