//! The one queue between requests and the export task: bounded in spans, never waiting.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::segment::Segment;

/// Log records of unsampled requests are bounded by the same figure as spans.
fn weight(segment: &Segment) -> usize {
    segment.spans.len().max(segment.logs.len()).max(1)
}

/// Segments that wait for the export task.
pub(super) struct Queue {
    capacity: usize,
    /// The weight at which waiting for more is no use.
    enough: usize,
    waiting: Mutex<Waiting>,
    ready: Notify,
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    segments: VecDeque<Arc<Segment>>,
    weight: usize,
}

/// What became of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// There was no room.
    Full,
}

impl Queue {
    pub fn new(capacity: usize, enough: usize) -> Queue {
        Queue { capacity, enough, waiting: Mutex::default(), ready: Notify::new(), closed: AtomicBool::new(false) }
    }

    /// Adds a segment, or leaves it where it does not fit.
    pub fn push(&self, segment: Arc<Segment>) -> Pushed {
        let weight = weight(&segment);
        let mut waiting = self.lock();
        // A segment larger than the whole queue is taken by an empty one: it could never leave otherwise.
        if waiting.weight > 0 && waiting.weight + weight > self.capacity {
            return Pushed::Full;
        }
        let before = waiting.weight;
        waiting.weight += weight;
        waiting.segments.push_back(segment);
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
        let (mut taken, mut sum) = (Vec::new(), 0);
        while let Some(segment) = waiting.segments.front() {
            let weight = weight(segment);
            if sum > 0 && sum + weight > most {
                break;
            }
            sum += weight;
            waiting.weight -= weight;
            taken.extend(waiting.segments.pop_front());
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

    /// The weight that waits, in spans.
    pub fn len(&self) -> usize {
        self.lock().weight
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tells the export task to take what is there and end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.ready.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
