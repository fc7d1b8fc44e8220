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

/// Entries are joined up to this fraction of a batch, so that batches are nearly full.
const JOINED_SHARE: usize = 8;

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

    /// Adds an entry of this weight, unless the queue is full or closed. `join` adds it to the last entry and returns
    /// true, if they belong together; it is called if that entry stays a small part of a batch. Otherwise `make` creates
    /// the entry.
    pub fn push(&self, weight: usize, join: impl FnOnce(&mut T) -> bool, make: impl FnOnce() -> T) -> PushOutcome {
        let weight = weight.max(1);
        let mut entries = self.lock();
        // Under the lock, so that entries added before the queue is closed are there for the last `take`.
        match self.check(weight) {
            PushOutcome::Queued => {}
            refused => return refused,
        }
        let before = self.weight.fetch_add(weight, Ordering::Relaxed);
        let heaviest = self.batch_size / JOINED_SHARE;
        let last = entries.back_mut().filter(|(_, sum)| *sum + weight <= heaviest);
        let is_joined = last.is_some_and(|(last, sum)| {
            let is_joined = join(last);
            *sum += if is_joined { weight } else { 0 };
            is_joined
        });
        if !is_joined {
            entries.push_back((make(), weight));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a text of one letter for each span. Texts of the same letter belong together.
    fn push(queue: &Queue<String>, text: &str) -> PushOutcome {
        let join = |last: &mut String| {
            let is_same = last.get(..1) == text.get(..1);
            last.push_str(if is_same { text } else { "" });
            is_same
        };
        queue.push(text.len(), join, || text.to_owned())
    }

    #[test]
    fn entries_that_belong_together_are_joined_up_to_a_part_of_a_batch() {
        let queue = Queue::new(40, 4 * JOINED_SHARE);
        for text in ["a", "aa", "a", "a", "bbbbbb", "b", "a"] {
            assert_eq!(push(&queue, text), PushOutcome::Queued);
        }
        assert_eq!(queue.len(), 13);
        assert_eq!(queue.take(9), ["aaaa", "a"], "the next one would exceed nine");
        assert_eq!(queue.take(usize::MAX), ["bbbbbb", "b", "a"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn nothing_is_joined_in_a_queue_that_is_full_or_closed() {
        let queue = Queue::new(16, 16);
        assert_eq!(push(&queue, &"a".repeat(16)), PushOutcome::Queued);
        assert_eq!(push(&queue, "a"), PushOutcome::Full);
        queue.close();
        assert_eq!(push(&queue, "a"), PushOutcome::Closed);
        assert_eq!(queue.take(1), ["a".repeat(16)], "an entry that is heavier than a batch is taken alone");
    }
}
