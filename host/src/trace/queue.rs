//! The queue between requests and an export task: bounded in spans, never waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::segment::Segment;

/// Segments that wait for an export task.
pub(super) struct Queue {
    capacity: usize,
    /// The weight at which waiting for more is no use.
    enough: usize,
    waiting: Mutex<Waiting>,
    ready: Notify,
    closed: AtomicBool,
    closing: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Each with its weight, in spans.
    segments: VecDeque<(Arc<Segment>, usize)>,
    weight: usize,
}

/// What became of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// There was no room.
    Full,
    /// Nobody takes anything any more.
    Closed,
}

impl Queue {
    pub fn new(capacity: usize, enough: usize) -> Queue {
        Queue {
            capacity,
            // A batch that is larger than the queue would never be full.
            enough: enough.clamp(1, capacity.max(1)),
            waiting: Mutex::default(),
            ready: Notify::new(),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    /// Adds a segment, or leaves it where it does not fit.
    pub fn push(&self, segment: Arc<Segment>, weight: usize) -> Pushed {
        let weight = weight.max(1);
        let mut waiting = self.lock();
        // Looked at under the lock: what is pushed before the queue is closed is there for the last `take`.
        if self.is_closed() {
            return Pushed::Closed;
        }
        // A segment larger than the whole queue is taken by an empty one: it could never leave otherwise.
        if waiting.weight > 0 && waiting.weight + weight > self.capacity {
            return Pushed::Full;
        }
        let before = waiting.weight;
        waiting.weight += weight;
        waiting.segments.push_back((segment, weight));
        let wakes = before == 0 || (before < self.enough && waiting.weight >= self.enough);
        drop(waiting);
        if wakes {
            self.ready.notify_one();
        }
        Pushed::Queued
    }

    /// Takes segments of up to `most` spans together, or one larger one.
    pub fn take(&self, most: usize) -> Vec<Arc<Segment>> {
        let mut waiting = self.lock();
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        while let Some(weight) = waiting.segments.front().map(|(_, weight)| *weight) {
            if sum > 0 && sum.saturating_add(weight) > most {
                break;
            }
            sum += weight;
            waiting.weight -= weight;
            taken.extend(waiting.segments.pop_front().map(|(segment, _)| segment));
        }
        taken
    }

    /// Returns when there may be something to take.
    pub async fn something(&self) {
        while self.len() == 0 && !self.is_closed() {
            self.ready.notified().await;
        }
    }

    /// Returns when a full batch waits.
    pub async fn a_batch(&self) {
        while self.len() < self.enough && !self.is_closed() {
            self.ready.notified().await;
        }
    }

    /// Returns when the queue is closed.
    pub async fn closing(&self) {
        let closing = self.closing.notified();
        tokio::pin!(closing);
        closing.as_mut().enable();
        if !self.is_closed() {
            closing.await;
        }
    }

    /// The weight that waits, in spans.
    pub fn len(&self) -> usize {
        self.lock().weight
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tells the export task to take what is there and end. Nothing is added after this.
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

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
